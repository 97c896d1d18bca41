"""The whole chain on one machine: a provider, LiteLLM with the module, webhook-api, PostgreSQL; each can be killed."""

import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from provider import Provider
from relay import Relay

ROOT = Path(__file__).resolve().parents[3]
MODULE = ROOT / "integrations/litellm"
LITELLM = str(Path(sys.executable).with_name("litellm"))


def free_port() -> int:
    """A free port of the loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(what: str, check: Callable[[], Any], within: float = 60) -> Any:
    """What ``check`` returns, as soon as that is true."""
    deadline = time.monotonic() + within
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within} s")
        time.sleep(0.1)


class Postgres:
    """A database of its own in a private cluster (``scripts/postgres``)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._earlier_log = b""
        self.start()
        self.name = f"litellm_{secrets.token_hex(4)}"
        self.others: list[str] = []
        """Databases that a test has made besides."""
        self.sql(f"CREATE DATABASE {self.name}", database="postgres")

    def _script(self, *arguments: str) -> str:
        command = [str(ROOT / "scripts/postgres"), *arguments]
        result: subprocess.CompletedProcess[str] = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True
        )
        return result.stdout

    def start(self) -> None:
        """Starts the cluster."""
        self._script("start", str(self._directory), "0")

    def restart(self) -> bool:
        """Starts the cluster after a crash, where it was; false while remains of the old one are in the way."""
        try:
            self._script("start", str(self._directory), (self._home() / "port").read_text().strip())
            return self.number("SELECT 1") == 1
        except subprocess.CalledProcessError:
            return False

    def _home(self) -> Path:
        moved = self._directory / "location"
        return Path(moved.read_text().strip()) if moved.exists() else self._directory

    def kill(self) -> None:
        """kill -9 of the postmaster and of every backend."""
        self._earlier_log += (self._home() / "log").read_bytes()
        pid_file = self._home() / "data/postmaster.pid"
        pid = int(pid_file.read_text().split("\n")[0])
        children = subprocess.run(["pgrep", "-P", str(pid)], stdout=subprocess.PIPE, text=True).stdout.split()
        for victim in [pid, *map(int, children)]:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        # pg_ctl takes a killed process for a living one until its parent has waited for it.
        eventually("the killed are gone", lambda: all(map(_is_gone, [pid, *map(int, children)])))
        pid_file.unlink()

    def url(self, role: str | None = None, password: str = "") -> str:
        """Where a program connects, as the superuser or as its role."""
        url = self._script("url", str(self._directory), self.name).strip()
        return url if role is None else f"postgresql://{role}:{password}@{url.split('@')[1]}"

    def sql(self, text: str, database: str | None = None) -> list[list[str]]:
        """The rows of a statement's result, as text."""
        options = ["--quiet", "--no-align", "--tuples-only", "--field-separator", "\t", "--command", text]
        output = self._script("psql", str(self._directory), database or self.name, *options)
        return [line.split("\t") for line in output.splitlines()]

    def run_script(self, text: str, database: str) -> None:
        """Runs statements that are too long for a command line."""
        command = [str(ROOT / "scripts/postgres"), "psql", str(self._directory), database, "--quiet"]
        subprocess.run(command, input=text, check=True, stdout=subprocess.DEVNULL, text=True)

    def server_log(self) -> bytes:
        """What the server has logged; it begins a new log with each start."""
        return self._earlier_log + (self._home() / "log").read_bytes()

    def number(self, text: str) -> int:
        """The one number that a statement results in."""
        return int(self.sql(text)[0][0])

    def dump(self) -> str:
        """Everything in the databases, except the column in which Laravel keeps the keys."""
        self.sql("UPDATE users SET api_key = NULL")
        urls = [self.url().replace(f"/{self.name}", f"/{name}") for name in (self.name, *self.others)]
        return "".join(
            subprocess.run(["pg_dump", url], check=True, stdout=subprocess.PIPE, text=True).stdout for url in urls
        )


@dataclass
class Service:
    """A process of the chain, its log, and the address that answers when it is up."""

    command: list[str]
    environment: dict[str, str]
    health: str
    log: Path
    directory: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.directory
            )
        eventually(self.health, self._is_up, within=120)

    def _is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(self.health, timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def held_spools(self) -> dict[int, Path]:
        """The processes of its workers, each with its spool."""
        assert self.process is not None
        children = subprocess.run(["pgrep", "-P", str(self.process.pid)], stdout=subprocess.PIPE, text=True).stdout
        return {
            pid: spool
            for pid in map(int, children.split())
            for descriptor in Path(f"/proc/{pid}/fd").iterdir()
            if (spool := _spool(descriptor)) is not None
        }

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self, within: float = 30) -> None:
        """SIGTERM, and its end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=within)
            except subprocess.TimeoutExpired:
                self.kill()


class Stage:
    """All of it, started."""

    def __init__(
        self,
        directory: Path,
        cluster: Path,
        programs: Path,
        models: Sequence[Mapping[str, Any]] = (),
        configure: Callable[["Stage", dict[str, Any]], None] | None = None,
    ) -> None:
        """Starts it; ``configure`` changes the configuration that LiteLLM gets."""
        self.directory = directory
        self._programs = programs
        self._models = models
        self._configure = configure
        self.provider = Provider()
        self.printed: list[str] = []
        """What the operator's commands have printed."""
        self.others: list[Service] = []
        """Proxies that a test has started besides."""
        self.postgres = Postgres(cluster)
        self.webhook_key = secrets.token_hex(32)
        self.master_key = f"sk-{secrets.token_hex(16)}"
        self.keys: dict[int, str] = {}
        self._prepare_database()
        port = free_port()
        self.webhook = Service(
            [str(programs / "webhook-api")],
            {
                "DATABASE_URL": self.postgres.url("codexflow_webhook", self._password),
                "LITELLM_WEBHOOK_KEY": self.webhook_key,
                "WEBHOOK_PORT": str(port),
                "LOG_LEVEL": "info",
            },
            f"http://127.0.0.1:{port}/health/ready",
            directory / "webhook-api.log",
            directory,
        )
        self.webhook_url = f"http://127.0.0.1:{port}"
        self.relay = Relay(port)
        self.webhook.start()
        self.spools = directory / "spools"
        self.proxy = self.make_proxy("litellm")
        self.proxy.start()

    @property
    def url(self) -> str:
        """Where customers call."""
        return self.proxy.health.removesuffix("/health/liveliness")

    def make_proxy(
        self,
        name: str,
        module: Path | None = MODULE / "codexflow.py",
        spools: Path | None = None,
        workers: int = 1,
        beside: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> Service:
        """A LiteLLM that is not started yet, with the shipped configuration and this provider's models.

        ``beside`` is a file with one more callback; ``settings`` are added to its environment.
        """
        home = self.directory / name
        home.mkdir()
        configuration = yaml.safe_load((MODULE / "config.yaml").read_text())
        models = [
            _model(name) for name in ("gpt-4o", "gpt-4o-mini", "failing", "failing-alone", "embedding", "unpriced")
        ]
        for model in models:
            model["litellm_params"]["api_base"] = self.provider.url
        configuration["model_list"] += [*models, *self._models]
        configuration["litellm_settings"] |= {"cache": True, "cache_params": {"type": "local", "mode": "default_off"}}
        configuration["router_settings"] = {
            "num_retries": 1,
            "fallbacks": [{"failing": ["gpt-4o"]}],
            "disable_cooldowns": True,
        }
        if module is not None:
            (home / "codexflow.py").write_text(module.read_text())
            shutil.copytree(MODULE / "codexflow_litellm", home / "codexflow_litellm")
        else:
            del configuration["litellm_settings"]["callbacks"], configuration["general_settings"]["custom_auth"]
        if beside is not None:
            (home / beside.name).write_text(beside.read_text())
            configuration["litellm_settings"]["callbacks"].append(f"{beside.stem}.callback")
        if self._configure is not None:
            self._configure(self, configuration)
        (home / "config.yaml").write_text(yaml.safe_dump(configuration))
        port = free_port()
        return Service(
            [
                *(LITELLM, "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port)),
                *("--num_workers", str(workers)),
            ],
            {
                "PATH": os.environ["PATH"],
                "HOME": str(home),
                "CODEXFLOW_URL": self.relay.url,
                "CODEXFLOW_SPOOL": str(spools or self.spools),
                "LITELLM_WEBHOOK_KEY": self.webhook_key,
                "LITELLM_MASTER_KEY": self.master_key,
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                # Parts of LiteLLM that are written in Rust; it uses them where it need not keep a session of aiohttp.
                **{
                    name: os.environ[name]
                    for name in ("LITELLM_RUST", "DISABLE_AIOHTTP_TRANSPORT")
                    if name in os.environ
                },
                **(settings or {}),
            },
            f"http://127.0.0.1:{port}/health/liveliness",
            self.directory / f"{name}.log",
            home,
        )

    def _prepare_database(self) -> None:
        environment = {
            "MIGRATE_DATABASE_URL": self.postgres.url(),
            "DATABASE_URL": self.postgres.url(),
            "MIGRATIONS_PATH": str(ROOT / "migrations"),
        }
        codexflow = str(self._programs / "codexflow")
        subprocess.run([codexflow, "migrate"], check=True, env=environment, stdout=subprocess.DEVNULL)
        grants = subprocess.run([codexflow, "grants"], check=True, env=environment, stdout=subprocess.PIPE, text=True)
        self.postgres.sql(grants.stdout)
        self._password = secrets.token_hex(16)
        for role in ("webhook", "worker", "operator"):
            self.postgres.sql(f"ALTER ROLE codexflow_{role} PASSWORD '{self._password}'")

    def codexflow(self, arguments: list[str], settings: dict[str, str], typed: str = "") -> tuple[int, str]:
        """Exit code and output of an operator's command."""
        result = subprocess.run(
            [str(self._programs / "codexflow"), *arguments],
            input=typed,
            env={"DATABASE_URL": self.postgres.url("codexflow_operator", self._password), **settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.printed.append(result.stdout)
        return result.returncode, result.stdout

    def worker(self, *arguments: str) -> tuple[int, str]:
        """Exit code and output of `aggregation-worker`."""
        command = [str(self._programs / "aggregation-worker"), *arguments]
        result = subprocess.run(
            command,
            env={"DATABASE_URL": self.postgres.url("codexflow_worker", self._password)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return result.returncode, result.stdout

    def check(self, key: str) -> str:
        """What `codexflow litellm check` prints with a customer's key."""
        return self.codexflow(["litellm", "check", "--key-stdin"], {"LITELLM_PROXY_URL": self.url}, typed=key + "\n")[1]

    def reconcile(self, database: str, *arguments: str) -> tuple[int, dict[str, Any]]:
        """Exit code and report of `codexflow litellm reconcile` for all until now."""
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 60))
        command = ["litellm", "reconcile", "--json", "--to", until, *arguments]
        code, output = self.codexflow(command, {"LITELLM_DATABASE_URL": database})
        assert code in (0, 2), output
        report: dict[str, Any] = json.loads(output)
        return code, report

    def deliver(self, event: dict[str, Any]) -> None:
        """Posts an event as LiteLLM's own `generic_api` does."""
        headers = {"Content-Type": "application/json", "X-API-Key": self.webhook_key}
        body = json.dumps([event]).encode()
        request = urllib.request.Request(self.webhook_url + "/api/webhook/litellm", body, headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert json.load(answer)["stored"] == 1

    def metric(self, name: str) -> float:
        """A metric of webhook-api that has no labels."""
        with urllib.request.urlopen(self.webhook_url + "/metrics", timeout=30) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(name + " "):
                    return float(line.split()[1])
        raise AssertionError(f"no metric {name}")

    def key_hash(self, user: int) -> str:
        """What stands for a customer's key wherever it is not the key."""
        return hashlib.sha256(self.keys[user].encode()).hexdigest()

    def make_user(self, plan: str = "agency", status: str = "active") -> int:
        """A customer as Laravel makes one; webhook-api sees the key within seconds."""
        key = f"cf_{secrets.token_hex(32)}"
        email = f"{secrets.token_hex(8)}@example.com"
        [[user]] = self.postgres.sql(
            "INSERT INTO users (name, email, password, api_key, plan, status) "
            f"VALUES ('Ada', '{email}', 'x', '{key}', '{plan}', '{status}') RETURNING id"
        )
        self.keys[int(user)] = key
        seen = f"SELECT count(*) FROM metering.api_keys WHERE user_id = {user} AND valid_to IS NULL"
        eventually("the key", lambda: self.postgres.number(seen))
        return int(user)

    def drain(self, keeps_open: bool = False) -> None:
        """Waits until every spool is delivered, every quota delta is applied, and no call is open (or some may be)."""

        def is_drained(path: Path) -> bool:
            return _is_drained(path, keeps_open)

        eventually("the spools are delivered", lambda: all(map(is_drained, self.spools.glob("spool-*.sqlite"))))
        eventually(
            "the quota deltas are applied",
            lambda: self.postgres.number("SELECT count(*) FROM metering.quota_deltas") == 0,
        )

    def close(self) -> None:
        """Stops everything but the cluster."""
        for proxy in (*self.others, self.proxy):
            proxy.stop()
        self.webhook.stop()
        self.relay.close()
        self.provider.close()

    def require_no_key(self) -> None:
        """Searches all that the whole run has left, once it is over, for a customer's key and for the webhook's."""
        places = {str(path): path.read_bytes() for path in self.directory.rglob("*") if path.is_file()}
        places["the database"] = self.postgres.dump().encode()
        places["the database server's log"] = self.postgres.server_log()
        places["what the provider was sent"] = b"".join(self.provider.traffic)
        places["what the commands printed"] = "".join(self.printed).encode()
        # Its header is where the webhook's key belongs.
        to_webhook = b"".join(self.relay.traffic)
        found = [place for place, content in places.items() if self.webhook_key.encode() in content]
        places["what LiteLLM and webhook-api said"] = to_webhook
        for user, key in self.keys.items():
            found += [place for place, content in places.items() if key.encode() in content]
            found += [place for place, content in places.items() if f"cf_{key[3:20]}".encode() in content]
            assert not found, f"a key is in {sorted(set(found))}"
            # Were it not looked for in the right places, its hash would not be found either.
            assert self.key_hash(user).encode() in places["the database"]
        used = [user for user in self.keys if self.key_hash(user).encode() in to_webhook]
        assert used or not self.provider.calls


def _is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return True
    return state == "Z"


def _spool(descriptor: Path) -> Path | None:
    try:
        lock = Path(os.readlink(descriptor))
    except OSError:
        return None
    return lock.with_suffix(".sqlite") if lock.match("spool-*.lock") else None


def _is_drained(path: Path, keeps_open: bool) -> bool:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        [[open_calls, newest, delivered]] = connection.execute(
            "SELECT (SELECT count(*) FROM intents), (SELECT coalesce(max(sequence), 0) FROM outcomes), "
            "(SELECT coalesce(max(through), 0) FROM deliveries)"
        ).fetchall()
    finally:
        connection.close()
    return bool((keeps_open or open_calls == 0) and newest <= delivered)


def _model(name: str) -> dict[str, Any]:
    target = "text-embedding-3-small" if name == "embedding" else name
    return {"model_name": name, "litellm_params": {"model": f"openai/{target}", "api_key": "of-the-provider"}}
