"""The programs beside a private PostgreSQL, with the users and the traffic that the pages show."""

import base64
import contextlib
import functools
import http.client
import json
import os
import secrets
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

import hostile
from events import DAY, Call, Event, month_of_calls
from laravel import APP_NAME, LaravelSession

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "correct horse battery staple"
PREFIX = "/dashboard"


def free_port() -> int:
    """A free port of the loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(what: str, check: Callable[[], Any], within: float = 30) -> Any:
    """What ``check`` returns, as soon as that is true."""
    deadline = time.monotonic() + within
    while not (value := check()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {within} s")
        time.sleep(0.05)
    return value


@dataclass(frozen=True)
class User:
    """A row of ``users``, with what a test must know of it."""

    id: int
    name: str
    email: str
    key: str


@dataclass(frozen=True)
class Answer:
    """What a service answers to a form."""

    status: int
    location: str | None
    text: str


class Program:
    """A running service, and its log."""

    def __init__(self, command: list[str], environment: dict[str, str], health: str, log: Path) -> None:
        """Starts it and waits until it is ready."""
        self._health, self._log = health, log
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        eventually(health, self._is_ready, within=60)

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()[-3000:]
        with contextlib.suppress(OSError), urllib.request.urlopen(self._health, timeout=2) as answer:
            return bool(answer.status == 200)
        return False

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._health.removesuffix("/health/ready")

    def log(self) -> str:
        """What it has written."""
        return self._log.read_text()

    def close(self) -> None:
        """SIGTERM, and its end."""
        self._process.terminate()
        assert self._process.wait(timeout=30) == 0, self._log.read_text()[-3000:]


class World:
    """A migrated database with its roles, and the three services on free ports of the loopback."""

    def __init__(self, cluster: Path, programs: Path, directory: Path) -> None:
        """Starts it, without users."""
        self._cluster, self._programs, self._directory = cluster, programs, directory
        self._password = secrets.token_hex(16)
        self.webhook_key = secrets.token_hex(32)
        self._app_key = secrets.token_bytes(32)
        self._script("start", str(cluster), "0")
        self._url = self._script("url", str(cluster), "postgres").strip()
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute("DROP DATABASE IF EXISTS pages WITH (FORCE)")
            connection.execute("CREATE DATABASE pages")
        self._url = self._url.removesuffix("postgres") + "pages"
        self._connection = psycopg.connect(self._url, autocommit=True)
        self._migrate()
        self._start_programs()

    @staticmethod
    def _script(*arguments: str) -> str:
        result: subprocess.CompletedProcess[str] = subprocess.run(
            [str(ROOT / "scripts/postgres"), *arguments], check=True, stdout=subprocess.PIPE, text=True
        )
        return result.stdout

    def _migrate(self) -> None:
        settings = {"DATABASE_URL": self._url, "MIGRATE_DATABASE_URL": self._url}
        self.codexflow("migrate", settings=settings)
        grants = self.codexflow("grants", settings=settings)
        self._connection.execute(grants.encode())
        for role in ("webhook", "admin", "operator", "worker"):
            self._connection.execute(f"ALTER ROLE codexflow_{role} PASSWORD '{self._password}'".encode())

    def _url_of(self, role: str) -> str:
        return f"postgresql://codexflow_{role}:{self._password}@{self._url.split('@')[1]}"

    def _start_programs(self) -> None:
        settings = {"LITELLM_WEBHOOK_KEY": self.webhook_key}
        self._running = [
            self._start("webhook-api", "WEBHOOK", **settings),
            self.start_admin(),
            self._start("aggregation-worker", "WORKER", "run"),
        ]
        self.webhook_url, self.url = (program.url for program in self._running[:2])

    def start_admin(self, **settings: str) -> Program:
        """An `admin-api` with these settings besides."""
        key = f"base64:{base64.b64encode(self._app_key).decode()}"
        common = {"APP_NAME": APP_NAME, "APP_KEY": key, "BCRYPT_ROUNDS": "4", "ADMIN_LOGIN_RATE": "1000"}
        return self._start("admin-api", "ADMIN", **common, **settings)

    def _start(self, program: str, prefix: str, *arguments: str, **settings: str) -> Program:
        port = free_port()
        role = self._url_of(prefix.lower())
        return Program(
            [str(self._programs / program), *arguments],
            {"DATABASE_URL": role, "LOG_LEVEL": "info", f"{prefix}_PORT": str(port), **settings},
            f"http://127.0.0.1:{port}/health/ready",
            self._directory / f"{program}-{port}.log",
        )

    def codexflow(self, *arguments: str, settings: dict[str, str] | None = None, typed: str = "") -> str:
        """What an operator's command prints."""
        own = {"MIGRATIONS_PATH": str(ROOT / "migrations"), "BCRYPT_ROUNDS": "4"}
        own |= settings or {"DATABASE_URL": self._url_of("operator")}
        command = [str(self._programs / "codexflow"), *arguments]
        return subprocess.run(command, input=typed, env=own, check=True, stdout=subprocess.PIPE, text=True).stdout

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows that a statement returns to the superuser."""
        cursor = self._connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, *values: Any) -> Any:
        """The one value that a statement returns."""
        [[value]] = self.rows(statement, *values)
        return value

    def make_operator(self, name: str, email: str) -> User:
        """An administrator, as the command line makes the first."""
        command = ("user", "create", "--name", name, "--email", email, "--plan", "agency", "--admin")
        answer = json.loads(self.codexflow(*command, "--password-stdin", "--json", typed=PASSWORD))
        return User(answer["id"], name, email, answer["api_key"])

    def make_user(self, name: str, email: str, plan: str = "agency", status: str = "active") -> User:
        """A user as Laravel makes one, with the same password as the operator."""
        key = f"cf_{secrets.token_hex(32)}"
        user = self.value(
            """
            INSERT INTO users (name, email, password, api_key, plan, status, email_verified_at, created_at, updated_at)
            SELECT %s, %s, password, %s, %s, %s, now(), now(), now() FROM users ORDER BY id LIMIT 1 RETURNING id
            """,
            *(name, email, key, plan, status),
        )
        return User(user, name, email, key)

    def send(self, events: list[Event]) -> dict[str, Any]:
        """Posts events as LiteLLM does; the answer of the webhook."""
        headers = {"Content-Type": "application/json", "X-API-Key": self.webhook_key}
        request = urllib.request.Request(
            f"{self.webhook_url}/api/webhook/litellm", json.dumps(events).encode(), headers
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            verdicts: dict[str, Any] = json.load(answer)
        return verdicts

    def refuse(self, event: Event) -> int:
        """The status of the webhook's answer to an event that it does not store."""
        headers = {"Content-Type": "application/json", "X-API-Key": self.webhook_key}
        request = urllib.request.Request(f"{self.webhook_url}/api/webhook/litellm", json.dumps(event).encode(), headers)
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(request, timeout=60)
        return refusal.value.code

    def store(self, calls: list[Call]) -> None:
        """Posts the events of calls, which must all become logs."""
        verdicts = self.send([call.event() for call in calls])
        assert verdicts["stored"] == len(calls), verdicts

    def wait_for_keys(self) -> None:
        """Until each key of a user is known."""
        missing = (
            "SELECT count(*) FROM users u WHERE api_key IS NOT NULL AND NOT EXISTS "
            "(SELECT FROM metering.api_keys k WHERE k.user_id = u.id AND k.valid_to IS NULL)"
        )
        eventually("the keys are known", lambda: self.value(missing) == 0)

    def wait_for_counters(self) -> None:
        """Until the counters hold every event."""
        eventually("the counters", lambda: self.value("SELECT count(*) FROM metering.quota_deltas") == 0)

    def roll_up(self) -> None:
        """One pass of the worker, for pages that say how far the rollups are."""
        environment = {"DATABASE_URL": self._url_of("worker")}
        subprocess.run([str(self._programs / "aggregation-worker"), "once"], env=environment, check=True)

    def session(self, user: User) -> LaravelSession:
        """A session of Laravel in which the user is signed in."""
        session = LaravelSession(self._app_key)
        self.rows(
            "INSERT INTO sessions (id, user_id, payload, last_activity) VALUES (%s, %s, %s, %s)",
            *(session.id, user.id, session.payload(user.id), int(time.time())),
        )
        return session

    def token(self, user: User) -> str:
        """A new token of the user."""
        answer = self.api("/api/auth/login", body={"email": user.email, "password": PASSWORD})
        return str(answer["token"])

    def api(self, path: str, token: str | None = None, body: Any = None, method: str | None = None) -> Any:
        """The answer of the JSON API: to a GET, or where there is a body to a POST, if no method is named."""
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def post(self, path: str, fields: dict[str, str], cookies: str) -> Answer:
        """The answer to a form, as a browser with these cookies sends it; redirects are not followed."""
        headers = {"Cookie": cookies, "Content-Type": "application/x-www-form-urlencoded"}
        host, port = self.url.removeprefix("http://").split(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=30)
        connection.request("POST", path, urllib.parse.urlencode(fields), headers)
        response = connection.getresponse()
        answer = Answer(response.status, response.getheader("Location"), response.read().decode())
        connection.close()
        return answer

    def close(self) -> None:
        """Stops the services; the cluster is the script's."""
        self._connection.close()
        for program in self._running:
            program.close()


class Town:
    """A world with people in it. Keys and times apart, it is the same in every run."""

    def __init__(self, world: World) -> None:
        """Makes the users and sends their calls."""
        self.world = world
        self.operator = world.make_operator("Olga Operatör", "operator@example.com")
        self.customer = world.make_user("Ada Işık", "ada@example.com")
        self.newcomer = world.make_user("Yeni Kullanıcı", "new@example.com", "starter")
        self.suspended = world.make_user("Selin Askıda", "suspended@example.com", status="suspended")
        self.others = [world.make_user(f"Customer {i}", f"customer{i}@example.com") for i in range(12)]
        self.hostile = [world.make_user(text, f"hostile{i}@example.com") for i, text in enumerate(hostile.ALL)]
        world.wait_for_keys()
        now = time.time() - 60
        world.store(month_of_calls(self.customer.key, self.customer.id, now, daily=12, seed=1))
        world.store(month_of_calls(self.operator.key, self.operator.id, now, daily=2, seed=2))
        for seed, user in enumerate(self.others):
            world.store(month_of_calls(user.key, user.id, now, daily=1, seed=10 + seed))
        world.store([call for user in self.hostile for call in hostile_calls(user, now)])
        self._fill_quarantine(now)
        self._ask_for_more()
        self._set_limits()
        self._write_models()
        self._lose_events()
        world.wait_for_counters()
        self.log = world.value("SELECT max(id) FROM api_logs WHERE user_id = %s", self.customer.id)
        self.quarantined = world.value("SELECT id::text FROM metering.quarantine WHERE reason = 'implausible_cost'")

    def _fill_quarantine(self, now: float) -> None:
        """An unknown key, a cost that cannot be, a time before all, and no identity."""
        customer = self.customer
        strays = [
            Call("cf_of_nobody", 0, now, cost="0.01").event(),
            Call(customer.key, customer.id, now, cost="1e9").event(),
            Call(customer.key, customer.id, now - 4000 * DAY).event(),
            Call(customer.key, customer.id, now, hostile.SCRIPT).event() | {"metadata": {}},
        ]
        for stray in strays[:1]:
            stray["metadata"] = {"user_api_key_hash": stray["metadata"]["user_api_key_hash"]}
        strays += [
            Call(customer.key, customer.id, now - 4000 * DAY, model=text, provider=text, tags=(text,)).event()
            for text in hostile.ALL
        ]
        assert self.world.send(strays)["quarantined"] == len(strays)

    def _ask_for_more(self) -> None:
        """Every other request has an answer, with the reason as its note."""
        wishes = [(self.customer, "A launch next week"), *zip(self.hostile, hostile.ALL, strict=True)]
        for number, (user, reason) in enumerate(wishes):
            wish = {"period": "daily", "reason": reason}
            self.world.api("/api/rate-limits/request-increase", self.world.token(user), wish)
            if number % 2:
                request = self.world.value("SELECT max(id) FROM metering.limit_requests")
                answer = {"granted": number % 4 == 1, "note": reason}
                self.world.api(f"/api/v1/admin/limit-requests/{request}/answer", self._operators_token, answer)

    @functools.cached_property
    def _operators_token(self) -> str:
        return self.world.token(self.operator)

    def _set_limits(self) -> None:
        """Budgets and models, by the operator."""
        for user, models in (
            (self.customer, ["gpt-4o", "gpt-4o-mini"]),
            *((user, [user.name]) for user in self.hostile),
        ):
            limits = {"daily": {"budget": "2.75"}, "monthly": {"budget": "12.50"}, "models": models}
            self.world.api(f"/api/v1/admin/users/{user.id}/limits", self._operators_token, limits, method="PUT")

    def _write_models(self) -> None:
        """Models that have hostile names, prices, and a place among the free ones."""
        for text in hostile.ALL:
            self.world.rows(
                "INSERT INTO models (name, model_id, description, cost_per_1k_tokens) VALUES (%s, %s, %s, 0.000375)",
                *(text, text, text),
            )
            self.world.rows("INSERT INTO metering.free_models (model) VALUES (%s)", text)

    def _lose_events(self) -> None:
        """A spool that lacks events, and had no room for others."""
        self.world.rows(
            "INSERT INTO metering.spools (spool, highest, gaps, gap_since, lost, seen_at) "
            "VALUES (gen_random_uuid(), 1203, '{[77,80)}', now() - interval '7 minutes', 2, now())"
        )

    def people(self) -> Iterator[User]:
        """All users."""
        yield from (self.operator, self.customer, self.newcomer, self.suspended, *self.others, *self.hostile)


def hostile_calls(user: User, now: float) -> Iterator[Call]:
    """Calls of which each text is hostile."""
    for number, text in enumerate(hostile.ALL):
        call = Call(user.key, user.id, now - number * DAY, text, text, cost="9.5", tags=(text,), end_user=text)
        yield call
        yield replace(call, error=("500", text), id=call.id + "-failed")
    yield Call(user.key, user.id, now, "unknown-model", cost=None)


def from_environment(directory: Path) -> World:
    """A world in the cluster, and of the programs, that ``scripts/test-pages`` names."""
    return World(Path(os.environ["TEST_CLUSTER"]), Path(os.environ["TEST_PROGRAMS"]), directory)
