"""The whole chain on one machine: a provider, LiteLLM with the module, webhook-api, PostgreSQL; each can be killed."""

import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from provider import Provider

ROOT = Path(__file__).resolve().parents[3]
MODULE = ROOT / "integrations/litellm"
LITELLM = str(Path(sys.executable).with_name("litellm"))


def free_port() -> int:
    """A port of the loopback that nobody has at the moment."""
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
        self.start()
        self.name = f"litellm_{secrets.token_hex(4)}"
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
        pid_file = self._home() / "data/postmaster.pid"
        pid = int(pid_file.read_text().split("\n")[0])
        children = subprocess.run(["pgrep", "-P", str(pid)], stdout=subprocess.PIPE, text=True).stdout.split()
        for victim in [pid, *map(int, children)]:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        # pg_ctl takes a process that nobody has waited for yet to be alive.
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

    def number(self, text: str) -> int:
        """The one number that a statement results in."""
        return int(self.sql(text)[0][0])

    def dump(self) -> str:
        """Everything in the database, but for the column in which Laravel keeps the keys."""
        self.sql("UPDATE users SET api_key = NULL")
        return subprocess.run(["pg_dump", self.url()], check=True, stdout=subprocess.PIPE, text=True).stdout


@dataclass
class Service:
    """A process of the chain, its log, and how to tell that it is up."""

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

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """SIGTERM, and its end."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.kill()


class Stage:
    """All of it, started."""

    def __init__(self, directory: Path, cluster: Path, programs: Path) -> None:
        self.directory = directory
        self._programs = programs
        self.provider = Provider()
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
        self.webhook.start()
        self.spools = directory / "spools"
        self.proxy = self.make_proxy("litellm")
        self.proxy.start()

    @property
    def url(self) -> str:
        """Where customers call."""
        return self.proxy.health.removesuffix("/health/liveliness")

    def make_proxy(
        self, name: str, module: Path | None = MODULE / "codexflow.py", spools: Path | None = None, workers: int = 1
    ) -> Service:
        """A LiteLLM that is not started yet, with the shipped configuration and this provider's models."""
        home = self.directory / name
        home.mkdir()
        configuration = yaml.safe_load((MODULE / "config.yaml").read_text())
        models = [_model(name) for name in ("gpt-4o", "gpt-4o-mini", "failing", "failing-alone", "embedding")]
        for model in models:
            model["litellm_params"]["api_base"] = self.provider.url
        configuration["model_list"] += models
        configuration["litellm_settings"] |= {"cache": True, "cache_params": {"type": "local", "mode": "default_off"}}
        configuration["router_settings"] = {
            "num_retries": 1,
            "fallbacks": [{"failing": ["gpt-4o"]}],
            "disable_cooldowns": True,
        }
        if module is not None:
            (home / "codexflow.py").write_text(module.read_text())
        else:
            del configuration["litellm_settings"]["callbacks"], configuration["general_settings"]["custom_auth"]
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
                "CODEXFLOW_URL": self.webhook_url,
                "CODEXFLOW_SPOOL": str(spools or self.spools),
                "LITELLM_WEBHOOK_KEY": self.webhook_key,
                "LITELLM_MASTER_KEY": self.master_key,
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
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
        self.postgres.sql(f"ALTER ROLE codexflow_webhook PASSWORD '{self._password}'")

    def check(self, key: str) -> str:
        """What `codexflow litellm check` prints with a customer's key."""
        environment = {"DATABASE_URL": self.postgres.url(), "LITELLM_PROXY_URL": self.url}
        command = [str(self._programs / "codexflow"), "litellm", "check", "--key-stdin"]
        return subprocess.run(
            command, input=key + "\n", env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ).stdout

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

    def settle(self) -> None:
        """Waits until no call is open, every spool is delivered, and every delta is folded."""
        eventually("the spools are delivered", lambda: all(map(_is_drained, self.spools.glob("*.sqlite"))))
        eventually(
            "the deltas are folded", lambda: self.postgres.number("SELECT count(*) FROM metering.quota_deltas") == 0
        )

    def close(self) -> None:
        """Stops everything but the cluster."""
        self.proxy.stop()
        self.webhook.stop()
        self.provider.close()


def _is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return True
    return state == "Z"


def _is_drained(path: Path) -> bool:
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        [[open_calls, newest, delivered]] = connection.execute(
            "SELECT (SELECT count(*) FROM intents), (SELECT coalesce(max(sequence), 0) FROM outcomes), "
            "(SELECT coalesce(max(through), 0) FROM deliveries)"
        ).fetchall()
    finally:
        connection.close()
    return bool(open_calls == 0 and newest <= delivered)


def _model(name: str) -> dict[str, Any]:
    target = "text-embedding-3-small" if name == "embedding" else name
    return {"model_name": name, "litellm_params": {"model": f"openai/{target}", "api_key": "of-the-provider"}}
