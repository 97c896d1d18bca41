"""CodexFlow inside a LiteLLM proxy: who may call, what it may cost, and a report of every call that cannot get lost.

LiteLLM loads this file by ``custom_auth: codexflow.authenticate`` and ``callbacks: ["codexflow.callback"]``. It needs
nothing but Python's standard library and what LiteLLM ships. A call goes through it like this:

1. the gate (``codexflow_gate``): only the routes, headers and fields that are a customer's to choose reach LiteLLM.
   ``webhook-api`` is asked about the key's SHA-256; LiteLLM gets the hash and the user's id, no key.
2. the pre-call hook: limits, budget and models are checked, the call is reserved, an *intent* of it goes to a spool;
   the deployment hook, the last thing before a provider is called, checks the model of each attempt and waits until the
   intent is on the disk.
3. the logger: what LiteLLM computed is committed as the *outcome*, and closes the intent; the client's last byte waits
   for that commit.
4. the delivery: outcomes go to ``webhook-api`` in order and in batches, again until it says 2xx.

An intent without an outcome, because LiteLLM died, is reported as ``outcome_unknown`` at the next start.
"""

# No postponed annotations: LiteLLM executes this file without naming it in sys.modules, where dataclasses look them up.
import asyncio
import atexit
import calendar
import fcntl
import hashlib
import http.client
import importlib.metadata
import json
import logging
import os
import queue
import re
import secrets
import sqlite3
import sys
import threading
import time
import types
import uuid
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn, cast
from urllib.parse import urlsplit

import litellm
from fastapi import Request
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import LitellmUserRoles, ProxyException, UserAPIKeyAuth

# LiteLLM executes this file by its path: the folder beside it is on no other path.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from codexflow_gate import estimates, gate, routes
from codexflow_gate.fields import Fields
from codexflow_gate.refusal import Refusal, Refused, kept_words
from codexflow_gate.sizes import Size
from codexflow_gate.store import AnswerStore, make_private, touch_private

log = logging.getLogger("codexflow")


# --- Settings ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What an operator sets, in LiteLLM's environment."""

    url: str
    """Where ``webhook-api`` listens."""
    webhook_key: str
    spool: Path
    """A directory on a disk that survives the container."""
    serves_when_down: bool = True
    """While ``webhook-api`` is down the last known answer is served; else known users are refused with 503."""
    answer_seconds: float = 5.0
    """How long an answer about a key is believed."""
    events_per_second: int = 2000
    """The rate at which a spool drains after an outage."""
    master_key: str | None = None
    """LiteLLM's own, which keeps working for its operator."""
    fields: Fields = field(default_factory=Fields)
    """The body's fields that customers may set."""
    limits: gate.Limits = field(default_factory=gate.Limits)
    """What one request may take."""
    serves_unpriced: bool = False
    """Whether a user with a budget may use a model whose price LiteLLM does not know."""

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Settings":
        """The settings in force, or a ``ValueError`` that says which one is wrong."""
        key = environment.get("LITELLM_WEBHOOK_KEY", "")
        if len(key) < 32:
            raise ValueError("LITELLM_WEBHOOK_KEY: webhook-api's key, of at least 32 characters, is needed")
        url = (environment.get("CODEXFLOW_URL") or "http://webhook-api:8081").rstrip("/")
        if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
            raise ValueError("CODEXFLOW_URL: is not the http or https address of webhook-api")
        check_master_key(environment.get("LITELLM_MASTER_KEY"), key)
        when_down = environment.get("CODEXFLOW_WHEN_DOWN") or "open"
        if when_down not in ("open", "closed"):
            raise ValueError("CODEXFLOW_WHEN_DOWN: is neither open nor closed")
        unpriced = environment.get("CODEXFLOW_UNPRICED") or "refuse"
        if unpriced not in ("refuse", "serve"):
            raise ValueError("CODEXFLOW_UNPRICED: is neither refuse nor serve")
        return cls(
            url=url,
            webhook_key=key,
            spool=Path(environment.get("CODEXFLOW_SPOOL") or "/var/lib/codexflow"),
            serves_when_down=when_down == "open",
            answer_seconds=_positive(environment, "CODEXFLOW_ANSWER_SECONDS", 5),
            events_per_second=int(_positive(environment, "CODEXFLOW_EVENTS_PER_SECOND", 2000)),
            master_key=environment.get("LITELLM_MASTER_KEY") or None,
            fields=Fields.read(
                environment.get("CODEXFLOW_FIELDS") or "", environment.get("CODEXFLOW_UNKNOWN_FIELDS") or "drop"
            ),
            serves_unpriced=unpriced == "serve",
            limits=gate.Limits(
                open_paths=frozenset(
                    path.strip() for path in (environment.get("CODEXFLOW_OPEN_PATHS") or _PROBES).split(",")
                ),
                unstated_answer=int(_positive(environment, "CODEXFLOW_ANSWER_TOKENS", 4_000)),
                largest_body=int(_positive(environment, "CODEXFLOW_MAX_BODY_MIB", 32)) << 20,
            ),
        )


_PROBES = "/health/liveliness,/health/liveness,/health/readiness"


def check_master_key(master_key: str | None, webhook_key: str) -> None:
    """Raises ``ValueError`` where one of the two secrets tells the other."""
    if master_key and (webhook_key in master_key or master_key.removeprefix("sk-") in webhook_key):
        raise ValueError(
            "LITELLM_MASTER_KEY: contains LITELLM_WEBHOOK_KEY, so that who may post events administers the proxy. "
            "Choose another one, for example sk- and the output of openssl rand -hex 32"
        )


def _positive(environment: Mapping[str, str], name: str, default: float) -> float:
    try:
        value = float(environment.get(name) or default)
    except ValueError:
        value = 0
    if not 1 <= value <= 1_000_000:
        raise ValueError(f"{name}: is not a number from 1 to 1000000")
    return value


# --- The backend's answers about a key --------------------------------------------------------------------------------


class Unreachable(Exception):
    """``webhook-api`` gave no usable answer."""


class Backend:
    """``webhook-api`` over one kept connection a thread."""

    def __init__(self, settings: Settings) -> None:
        self._address = urlsplit(settings.url)
        self._headers = {"Content-Type": "application/json", "X-API-Key": settings.webhook_key}
        self._local = threading.local()

    def post(self, path: str, body: bytes, headers: Mapping[str, str], timeout: float) -> tuple[int, bytes]:
        """Status and body of the answer; a connection that turns out to be closed is opened once more."""
        for attempt in (1, 2):
            connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
            is_kept = connection is not None
            try:
                if connection is None:
                    connection = self._connect(timeout)
                    self._local.connection = connection
                connection.timeout = timeout
                if connection.sock is not None:
                    connection.sock.settimeout(timeout)
                connection.request("POST", self._address.path + path, body, {**self._headers, **headers})
                response = connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException) as error:
                self._local.connection = None
                if connection is not None:
                    connection.close()
                if not is_kept or attempt == 2 or isinstance(error, TimeoutError):
                    raise Unreachable(f"webhook-api: {type(error).__name__}") from None
        raise AssertionError("unreachable")

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._address.scheme == "https" else http.client.HTTPConnection
        return kind(self._address.hostname or "", self._address.port, timeout=timeout)

    def authorize(self, key_hash: str) -> "Answer":
        """What is known of a key."""
        status, body = self.post("/api/litellm/authorize", json.dumps({"key_hash": key_hash}).encode(), {}, timeout=2)
        if status != 200:
            raise Unreachable(f"webhook-api answered {status} to an authorization")
        try:
            return Answer.parse(body.decode())
        except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError):
            raise Unreachable("webhook-api's answer to an authorization cannot be read") from None


@dataclass(frozen=True)
class Amounts:
    """Requests, tokens and USD: what a limit allows, what is used, what a call takes. ``None`` is no limit."""

    requests: int | None = 0
    tokens: int | None = 0
    cost: Decimal | None = Decimal(0)


@dataclass(frozen=True)
class Window:
    """One of the user's calendar windows in UTC."""

    period: str
    resets_at: float
    limit: Amounts
    used: Amounts

    def start_at(self, now: float) -> tuple[float, float]:
        """Start and end of this kind of window around ``now``, in epoch seconds."""
        moment = datetime.fromtimestamp(now, UTC)
        if self.period == "daily":
            start = moment.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
            return start, start + 86_400
        days = calendar.monthrange(moment.year, moment.month)[1]
        start = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()
        return start, start + days * 86_400


@dataclass(frozen=True)
class Answer:
    """What ``webhook-api`` says of a key; limits are judged here, as calls in flight are known here alone."""

    user_id: int | None
    status: str | None
    models: frozenset[str] | None
    windows: tuple[Window, ...]
    is_unverified: bool
    """Whether nobody has proved yet that the address of the account is theirs: its limits are zero until then."""
    is_unknown: bool
    """Whether what is left of a budget cannot be computed."""
    text: str
    """The answer as it came, to be kept in the spool for a start while ``webhook-api`` is down."""

    @classmethod
    def parse(cls, text: str) -> "Answer":
        """Reads the answer's JSON; ``ValueError`` and its kin where it is something else."""
        value = json.loads(text)
        models = value.get("models")
        return cls(
            user_id=value["user_id"],
            status=value.get("status"),
            models=None if models is None else frozenset(models),
            windows=tuple(
                Window(
                    period=window["period"],
                    resets_at=datetime.fromisoformat(window["resets_at"].replace("Z", "+00:00")).timestamp(),
                    limit=_amounts(window, "limit"),
                    used=_amounts(window, "used"),
                )
                for window in value.get("windows", ())
            ),
            is_unverified=value.get("reason") == "unverified",
            is_unknown=value.get("reason") == "limit_unknown",
            text=text,
        )


def _amounts(window: Mapping[str, Any], name: str) -> Amounts:
    cost = window["cost"][name]
    return Amounts(window["requests"][name], window["tokens"][name], None if cost is None else Decimal(cost))


# --- Limits: reserve before, settle after -----------------------------------------------------------------------------


@dataclass
class Reservation:
    """What one call takes of its user's limits, until an answer of the backend includes it."""

    started: float
    amounts: Amounts
    acknowledged_at: float | None = None
    """When ``webhook-api`` had stored the call, on the monotonic clock."""


@dataclass
class Account:
    """A user's last answer, and what was let through since."""

    answer: Answer
    asked_at: float
    """When the answer was asked for, on the monotonic clock."""
    reservations: dict[str, Reservation] = field(default_factory=dict)

    def renew(self, answer: Answer, asked_at: float) -> None:
        """Takes a newer answer; it counts what was stored before it was asked for."""
        self.answer, self.asked_at = answer, asked_at
        for call, reservation in list(self.reservations.items()):
            if reservation.acknowledged_at is not None and reservation.acknowledged_at < asked_at:
                del self.reservations[call]

    def refusal(self, models: Iterable[str], now: float, own: str | None = None) -> Refusal | None:
        """Why a call of these models is refused now; what it has reserved itself does not count."""
        if self.answer.user_id is None:
            return Refusal(401, "invalid_api_key", "This API key is not known. Check the key.")
        if self.answer.status != "active":
            return Refusal(403, "account_suspended", "This account is suspended. Contact your provider.")
        if self.answer.is_unverified:
            message = "The e-mail address of this account is not verified. Verify it, then try again."
            return Refusal(403, "address_not_verified", message)
        if self.answer.is_unknown:
            message = "What is left of this account's budget cannot be computed. Contact your provider."
            return Refusal(503, "limit_unknown", message)
        if self.answer.models is not None:
            for model in models:
                if model not in self.answer.models:
                    return Refusal(403, "model_not_allowed", f"This account may not use the model '{model[:100]}'.")
        for window in self.answer.windows:
            if (refusal := self._spent(window, now, own)) is not None:
                return refusal
        return None

    def _spent(self, window: Window, now: float, own: str | None) -> Refusal | None:
        start, end = window.start_at(now)
        # A window that began since the answer is empty, but for what was let through here.
        used = window.used if window.resets_at > now else Amounts()
        taken = [r.amounts for call, r in list(self.reservations.items()) if r.started >= start and call != own]
        limit = window.limit
        spent = [
            name
            for name, allowed, amount in (
                ("requests", limit.requests, (used.requests or 0) + sum(a.requests or 0 for a in taken)),
                ("tokens", limit.tokens, (used.tokens or 0) + sum(a.tokens or 0 for a in taken)),
                ("budget", limit.cost, (used.cost or 0) + sum(a.cost or 0 for a in taken)),
            )
            if allowed is not None and amount >= allowed
        ]
        if not spent:
            return None
        reset = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        kind = "insufficient_quota" if spent[0] == "budget" else "rate_limit_exceeded"
        message = f"The {window.period} limit of {' and '.join(spent)} is reached. It resets at {reset}."
        return Refusal(429, kind, message, end)


@dataclass(frozen=True)
class Price:
    """USD of what a call takes."""

    prompt_token: float
    answer_token: float
    image: float


class Prices:
    """What the tokens of a model cost, asked for once in a while."""

    KEPT_SECONDS = 60.0
    CAPACITY = 1_000

    def __init__(self, ask: Callable[[str], Price | None], now: Callable[[], float]) -> None:
        self._ask, self._now = ask, now
        self._known: OrderedDict[str, tuple[float, Price | None]] = OrderedDict()

    def of(self, model: str) -> Price | None:
        """The price of a model, or ``None`` where nobody knows it."""
        known = self._known.get(model)
        if known is None or self._now() - known[0] > self.KEPT_SECONDS:
            try:
                known = (self._now(), self._ask(model))
            except Exception as error:  # LiteLLM raises many kinds for a model that it does not know.
                log.warning("the price of a model cannot be read: %s", type(error).__name__)
                known = (self._now(), None)
            self._known[model] = known
            _trim(self._known, self.CAPACITY)
        return known[1]

    def cost(self, model: str, size: Size) -> Decimal:
        """USD of a call at the most; zero where nobody knows the model's price."""
        price = self.of(model) or Price(0, 0, 0)
        tokens = price.prompt_token * size.prompt_tokens + price.answer_token * size.answer_tokens
        return Decimal(str(tokens + price.image * size.images))


class Accounts:
    """The accounts of the keys that were used lately."""

    CAPACITY = 20_000
    STRANGERS = 10_000
    PATIENCE = 1.0
    """Seconds until ``webhook-api`` is asked again after it failed."""

    def __init__(
        self,
        ask: Callable[[str], Answer],
        settings: Settings,
        store: AnswerStore,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._ask, self._settings, self._store, self._now = ask, settings, store, now
        self._accounts: OrderedDict[str, Account] = OrderedDict()
        self._strangers: OrderedDict[str, float] = OrderedDict()
        """Keys that nobody holds, and when that was heard, on the monotonic clock."""
        self._asking: dict[str, asyncio.Future[Account | None]] = {}
        self._failed_at = float("-inf")
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="codexflow-ask")

    def known(self, key_hash: str) -> Account | None:
        """The account as it is known, however old."""
        return self._accounts.get(key_hash)

    async def current(self, key_hash: str) -> Account | None:
        """The account of a key by a recent answer, else the last known one; ``None`` where nothing is known.

        Raises ``Unreachable`` where ``webhook-api`` is down and nothing may be served meanwhile.
        """
        now = time.monotonic()
        account = self._accounts.get(key_hash)
        if account is not None and now - account.asked_at < self._settings.answer_seconds:
            self._accounts.move_to_end(key_hash)
            return account
        refused_at = self._strangers.get(key_hash)
        if refused_at is not None and now - refused_at < self._settings.answer_seconds:
            return None
        if now - self._failed_at < self.PATIENCE:
            return self._last_known(key_hash)
        asking = self._asking.get(key_hash)
        if asking is None:
            asking = asyncio.ensure_future(self._renew(key_hash))
            self._asking[key_hash] = asking
            asking.add_done_callback(lambda _: self._asking.pop(key_hash, None))
        return await asyncio.shield(asking)

    async def _renew(self, key_hash: str) -> Account | None:
        asked_at = time.monotonic()
        try:
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, self._ask_and_keep, key_hash)
        except Unreachable as error:
            self._failed_at = time.monotonic()
            log.warning("%s; the last known limits stand in", error)
            return self._last_known(key_hash)
        if answer.user_id is None:
            self._accounts.pop(key_hash, None)
            self._strangers[key_hash] = asked_at
            _trim(self._strangers, self.STRANGERS)
            return None
        account = self._accounts.get(key_hash)
        if account is None:
            account = self._accounts.setdefault(key_hash, Account(answer, asked_at))
            self._forget_idle()
        else:
            account.renew(answer, asked_at)
        self._strangers.pop(key_hash, None)
        return account

    def _ask_and_keep(self, key_hash: str) -> Answer:
        asked_at = self._now()
        answer = self._ask(key_hash)
        try:
            if answer.user_id is None:
                self._store.refuse(key_hash, asked_at)
            else:
                self._store.remember(key_hash, answer.text, asked_at)
        except sqlite3.Error as error:
            log.warning("an answer cannot be kept for an outage: %s", error)
        return answer

    def _last_known(self, key_hash: str) -> Account | None:
        """The account by the newest answer of any worker; ``None`` where that was a refusal."""
        try:
            known = self._store.recall(key_hash)
        except sqlite3.Error:
            raise Unreachable("webhook-api is down, and so is what was kept of its answers") from None
        is_refused = key_hash in self._strangers
        if known is None and not is_refused:
            # A key that was never seen stays outside: open or closed is a question about customers.
            raise Unreachable("webhook-api is down")
        if known is None or known.text is None or is_refused:
            self._accounts.pop(key_hash, None)
            return None
        if not self._settings.serves_when_down:
            raise Unreachable("webhook-api is down")
        account = self._accounts.get(key_hash)
        return account or self._accounts.setdefault(key_hash, Account(Answer.parse(known.text), float("-inf")))

    def refresh(self, older_than: float, count: int) -> int:
        """Asks again about keys that were not asked about lately, so that an outage begins with what is true."""
        keys = self._store.oldest(self._now() - older_than, count)
        for key_hash in keys:
            self._ask_and_keep(key_hash)
        return len(keys)

    def _forget_idle(self) -> None:
        for key_hash, account in list(self._accounts.items())[: max(0, len(self._accounts) - self.CAPACITY)]:
            if not account.reservations:
                del self._accounts[key_hash]


def _trim(entries: OrderedDict[str, Any], capacity: int) -> None:
    while len(entries) > capacity:
        entries.popitem(last=False)


# --- The spool --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Intent:
    """A call that is about to be made."""

    call: str
    started: float
    key_hash: str | None
    user_id: int | None
    model: str
    call_type: str

    def unknown_outcome(self) -> str:
        """The event of a call of which nothing more was heard."""
        return self._failure("outcome_unknown", "LiteLLM ended before it knew how this call went.")

    def failure(self, status: int) -> str:
        """The event of a call that LiteLLM answered with an error, and of which it reports nothing."""
        return self._failure(str(status), "LiteLLM reported nothing of this failed call.")

    def estimate(self, usage: Mapping[str, Any]) -> str:
        """The event of a call that LiteLLM answered, and of which it reports nothing."""
        return json.dumps({**self._event(), "status": "success", **usage, estimates.FLAG: True})

    def _failure(self, code: str, message: str) -> str:
        return json.dumps({**self._event(), "error_information": {"error_code": code, "error_message": message}})

    def _event(self) -> dict[str, Any]:
        """A failed call without usage."""
        return {
            "id": self.call,
            "litellm_call_id": self.call,
            "call_type": self.call_type,
            "status": "failure",
            "startTime": self.started,
            "model_group": self.model,
            "response_cost": 0,
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "metadata": {
                "user_api_key_hash": self.key_hash,
                "user_api_key_user_id": None if self.user_id is None else str(self.user_id),
                "user_api_key_auth_metadata": {} if self.user_id is None else {"laravel_user_id": self.user_id},
            },
        }


Statement = tuple[str, Sequence[Any]]
_POISON = (sqlite3.IntegrityError, sqlite3.ProgrammingError, UnicodeError, OverflowError)
"""What no later attempt changes."""


@dataclass(frozen=True)
class _Write:
    statements: tuple[Statement, ...]
    is_event: bool
    done: Future[bool] = field(default_factory=Future)

    def __post_init__(self) -> None:
        # Whoever waits for it may be cancelled, as when a client hangs up; the write may not.
        self.done.set_running_or_notify_cancel()


class Spool:
    """Intents and outcomes in one SQLite file, which one process at a time holds.

    A thread commits everything that waits in one transaction and one fsync, off the event loop. Outcomes are numbered
    without holes, so that the backend notices what it misses.
    """

    WAITING = 10_000
    """Writes that are kept in memory while the disk is full; the oldest are kept."""
    KEPT_SECONDS = 86_400
    BATCH = 1_000
    IDLE_SECONDS = 0.5
    """After which what can wait is written, and what a full disk refused is tried again."""

    SCHEMA = """
        CREATE TABLE IF NOT EXISTS spool (id TEXT NOT NULL);
        CREATE TABLE IF NOT EXISTS intents (
            call TEXT PRIMARY KEY, started REAL NOT NULL, key_hash TEXT, user_id INTEGER, model TEXT NOT NULL,
            call_type TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE IF NOT EXISTS outcomes (
            sequence INTEGER PRIMARY KEY AUTOINCREMENT, call TEXT, event TEXT NOT NULL);
        CREATE TABLE IF NOT EXISTS deliveries (through INTEGER PRIMARY KEY, at REAL NOT NULL);
        DROP TABLE IF EXISTS answers;
    """

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        """Opens the spool, or raises ``BlockingIOError`` where another process holds it."""
        make_private(path.parent)
        touch_private(path.with_suffix(".lock"))
        touch_private(path)
        self._lock_file = path.with_suffix(".lock").open("w")
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock_file.close()
            raise
        self._path, self._now = path, now
        self._connection = self._open()
        self._connection.executescript(self.SCHEMA)
        self.id: str = self._identify()
        self.lost = 0
        """Events that a full disk and a full memory left no room for."""
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._held: deque[_Write] = deque()
        self._delivered: int | None = None
        """The newest delivery, which the next commit notes."""
        self._reader = self._open_reader()
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._closed = False
        self.written = threading.Event()
        """Set whenever there may be something new to deliver."""
        self._thread = threading.Thread(target=self._write_on, name="codexflow-spool", daemon=True)
        self._thread.start()

    @classmethod
    def claim(cls, directory: Path) -> "Spool":
        """The first spool of a directory that no living process holds: each worker of LiteLLM has its own."""
        for number in range(1, 1_000):
            with suppress(BlockingIOError):
                return cls(directory / f"spool-{number}.sqlite")
        raise RuntimeError(f"{directory}: has no free spool")

    @classmethod
    def orphans(cls, directory: Path) -> "list[Spool]":
        """The spools that workers left behind, such as when there are fewer now."""
        found = []
        for path in sorted(directory.glob("spool-*.sqlite")):
            with suppress(BlockingIOError):
                found.append(cls(path))
        return found

    def _open(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=10)
        connection.execute("PRAGMA journal_mode = WAL")
        # In WAL mode a COMMIT is on the disk only with FULL.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 16777216")
        return connection

    def _open_reader(self) -> sqlite3.Connection:
        return sqlite3.connect(f"file:{self._path}?mode=ro", uri=True, check_same_thread=False, timeout=10)

    def _identify(self) -> str:
        row = self._connection.execute("SELECT id FROM spool").fetchone()
        if row is None:
            row = (str(uuid.uuid4()),)
            self._connection.execute("INSERT INTO spool VALUES (?)", row)
        return str(row[0])

    # Writing

    def intend(self, intent: Intent) -> Future[bool]:
        """Notes a call that is about to be made; true once that is on the disk, false where there was no room."""
        row = (intent.call, intent.started, intent.key_hash, intent.user_id, intent.model, intent.call_type)
        return self._submit([("INSERT INTO intents VALUES (?, ?, ?, ?, ?, ?)", row)], is_event=True)

    def conclude(self, event: str, call: str | None, closes: bool) -> Future[bool]:
        """Keeps the event of a call, and closes its intent if it is the last one of the call."""
        statements: list[Statement] = [("INSERT INTO outcomes (call, event) VALUES (?, ?)", (call, event))]
        if closes and call is not None:
            statements.append(("DELETE FROM intents WHERE call = ?", (call,)))
        done = self._submit(statements, is_event=True)
        done.add_done_callback(lambda _: self.written.set())
        return done

    def close_intent(self, call: str) -> Future[bool]:
        """Closes the intent of a call that failed, after its last event."""
        return self._submit([("DELETE FROM intents WHERE call = ?", (call,))], is_event=False)

    def report_unknown(self, intents: Iterable[Intent]) -> None:
        """Makes an event of each intent that nobody works on any more."""
        for intent in intents:
            self.conclude(intent.unknown_outcome(), intent.call, closes=True)

    def delivered(self, through: int) -> None:
        """Notes that everything up to an outcome was answered 2xx, and removes what was so a day ago.

        It costs no commit of its own: were it lost, a few events would be sent twice, and stored once.
        """
        self._delivered = through

    def _note_of_delivery(self) -> list[_Write]:
        through, self._delivered = self._delivered, None
        if through is None:
            return []
        now = self._now()
        note: Statement = ("INSERT OR REPLACE INTO deliveries VALUES (?, ?)", (through, now))
        return [_Write((note, *self._removal(now - self.KEPT_SECONDS)), is_event=False)]

    @staticmethod
    def _removal(before: float) -> tuple[Statement, ...]:
        # The newest delivery stays: it is the cursor.
        old = "(SELECT max(through) FROM deliveries WHERE at < ?)"
        return (
            (f"DELETE FROM outcomes WHERE sequence <= {old}", (before,)),
            (f"DELETE FROM deliveries WHERE through < {old}", (before,)),
        )

    def _submit(self, statements: Iterable[Statement], is_event: bool) -> Future[bool]:
        write = _Write(tuple(statements), is_event)
        if self._closed:
            # The interpreter ends, and its threads with it.
            self._commit([write])
        else:
            self._queue.put(write)
        return write.done

    def _write_on(self) -> None:
        while True:
            try:
                first = self._queue.get(timeout=self.IDLE_SECONDS)
            except queue.Empty:
                if self._held or self._delivered is not None:
                    self._commit([])
                continue
            batch = [first]
            with suppress(queue.Empty):
                while len(batch) < self.BATCH:
                    batch.append(self._queue.get_nowait())
            self._commit([write for write in batch if write is not None])
            if None in batch:
                return

    def _commit(self, batch: list[_Write]) -> None:
        """Commits what waits; where the disk refuses, holds it in memory and says so."""
        batch += self._note_of_delivery()
        with self._writing:
            writes = [*self._held, *batch]
            try:
                if self._held:
                    # Room first: what was delivered need not be kept on a full disk.
                    self._execute(self._removal(float("inf")))
                self._execute(statement for write in writes for statement in write.statements)
            except _POISON as error:
                self._isolate(batch, error)
                return
            except sqlite3.Error as error:
                self._hold(batch, error)
                return
            if self._held:
                log.warning("the spool has room again; %d writes were held in memory", len(self._held))
                self._held.clear()
                self.written.set()
        for write in batch:
            write.done.set_result(True)

    def _execute(self, statements: Iterable[Statement]) -> None:
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for text, values in statements:
                self._connection.execute(text, values)
            self._connection.execute("COMMIT")
        except Exception:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    def _isolate(self, batch: list[_Write], error: Exception) -> None:
        """A write that can never succeed costs no other one."""
        if len(batch) == 1:
            log.error("EVENTS ARE LOST: one cannot be written (%s)", type(error).__name__)
            self.lost += batch[0].is_event
            batch[0].done.set_result(False)
            return
        for write in batch:
            try:
                self._execute(write.statements)
                write.done.set_result(True)
            except _POISON as error:
                self._isolate([write], error)
            except sqlite3.Error as error:
                self._hold([write], error)

    def _hold(self, batch: list[_Write], error: sqlite3.Error) -> None:
        if not self._held:
            log.error("the spool cannot be written (%s): events are held in memory. Make room in %s", error, self._path)
        for write in batch:
            if len(self._held) < self.WAITING:
                self._held.append(write)
            elif write.is_event:
                self.lost += 1
                if self.lost & (self.lost - 1) == 0:
                    log.error("EVENTS ARE LOST: %d by now, as the spool's disk and memory are full", self.lost)
            write.done.set_result(False)

    # Reading

    def _read(self, text: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._reading:
            return self._reader.execute(text, values).fetchall()

    def intents(self, before: float = float("inf")) -> list[Intent]:
        """The calls that were begun before a moment and not concluded."""
        return [
            Intent(*row) for row in self._read("SELECT * FROM intents WHERE started < ? ORDER BY started", (before,))
        ]

    def cursor(self) -> int:
        """The last outcome that was answered 2xx."""
        return int(self._read("SELECT coalesce(max(through), 0) FROM deliveries")[0][0])

    def batch(self, after: int, through: int | None, events: int, size: int) -> list[tuple[int, str | None, str]]:
        """The outcomes after one, in order and without a hole: number, call, event; ``size`` is of all their text."""
        rows = self._read(
            "SELECT sequence, call, event FROM outcomes WHERE sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?",
            (after, through if through is not None else 2**62, events),
        )
        taken: list[tuple[int, str | None, str]] = []
        for row in rows:
            size -= len(row[2])
            if taken and (size < 0 or row[0] != taken[-1][0] + 1):
                break
            taken.append(row)
        return taken

    def close(self) -> None:
        """Commits what waits and lets go of the file."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._thread.join(timeout=5)

    def release(self) -> None:
        """Closes the file for good, for another process or a test."""
        self.close()
        self._reader.close()
        self._connection.close()
        self._lock_file.close()


# --- Delivery ---------------------------------------------------------------------------------------------------------


class Delivery:
    """Sends a spool's outcomes to ``webhook-api`` in order, one request at a time, until each was answered 2xx."""

    EVENTS = 500
    SIZE = 1_000_000
    LINGER = 0.1
    """Seconds in which outcomes gather: a request of many costs the backend little more than a request of one."""
    LONGEST_PAUSE = 10.0

    def __init__(
        self,
        spool: Spool,
        backend: Backend,
        settings: Settings,
        acknowledged: Callable[[Iterable[str]], object],
    ) -> None:
        self.spool = spool
        self._backend, self._acknowledged = backend, acknowledged
        self._per_second = settings.events_per_second
        self._cursor = spool.cursor()
        self._limit = self.EVENTS
        self._stopping = threading.Event()

    def run(self) -> None:
        """Delivers until ``stop``; trouble is waited out, longer each time, and never costs an event."""
        pause = 0.0
        while not self._stopping.is_set():
            self.spool.written.wait(timeout=1)
            self._stopping.wait(self.LINGER)
            self.spool.written.clear()
            try:
                while (sent := self.deliver()) and not self._stopping.is_set():
                    self._stopping.wait(max(self.LINGER, sent / self._per_second))
                pause = 0.0
            except (Unreachable, sqlite3.Error) as error:
                pause = min(max(1.0, pause * 2), self.LONGEST_PAUSE)
                log.warning("events are not delivered (%s); the next attempt is in %.0f s", error, pause)
                self._stopping.wait(pause)
                self.spool.written.set()

    def stop(self) -> None:
        """Lets ``run`` return after the request it is at."""
        self._stopping.set()
        self.spool.written.set()

    def deliver(self) -> int:
        """Sends the next batch, if there is any, and returns its size; ``Unreachable`` where it was not taken."""
        batch = self.spool.batch(self._cursor, None, self._limit, self.SIZE)
        if not batch:
            return 0
        missing = self._send(batch)
        self._cursor = batch[-1][0]
        self.spool.delivered(self._cursor)
        self._acknowledged(call for _, call, _ in batch if call is not None)
        for first, last in missing:
            self._send_again(first, min(last, self._cursor))
        return len(batch)

    def _send_again(self, first: int, last: int) -> None:
        """Sends a range that the backend misses, as after a restore of its database, as far as it is still here."""
        log.warning("webhook-api misses the events %d to %d and gets them again", first, last)
        after = first - 1
        while batch := self.spool.batch(after, last, self._limit, self.SIZE):
            self._send(batch)
            after = batch[-1][0]

    def _send(self, batch: Sequence[tuple[int, str | None, str]]) -> list[tuple[int, int]]:
        body = "[" + ",".join(event for _, _, event in batch) + "]"
        headers = {
            "X-CodexFlow-Spool": self.spool.id,
            "X-CodexFlow-First": str(batch[0][0]),
            "X-CodexFlow-Lost": str(self.spool.lost),
        }
        status, answer = self._backend.post("/api/webhook/litellm", body.encode(), headers, timeout=30)
        if status == 413 and len(batch) > 1:
            self._limit = len(batch) // 2
        if not 200 <= status < 300:
            raise Unreachable(f"webhook-api answered {status}")
        self._limit = min(self.EVENTS, self._limit * 2)
        try:
            value = json.loads(answer)
            if value["success"] is not True:
                raise ValueError
            return [(int(first), int(last)) for first, last in value.get("missing", ())]
        except (ValueError, TypeError, KeyError, AttributeError):
            # Some other server, such as a proxy's own page.
            raise Unreachable("what answered was not webhook-api") from None


# --- Events -----------------------------------------------------------------------------------------------------------

_KEPT = (
    *("id", "litellm_call_id", "call_type", "stream", "status", "startTime", "endTime", "completionStartTime"),
    *("response_cost", "prompt_tokens", "completion_tokens", "total_tokens", "cache_hit"),
    *("model", "model_group", "model_id", "custom_llm_provider", "end_user", "request_tags", "error_str"),
    estimates.FLAG,
)
_KEPT_OF_METADATA = ("user_api_key_hash", "user_api_key_user_id", "usage_object")
_KEPT_OF_ERROR = ("error_code", "error_class", "error_message")
_CACHE_HIT = re.compile(r"_cache_hit[0-9.]+$")
_KEY = re.compile(r"\b(cf_|sk-)[A-Za-z0-9_-]{6,}")
_HASH = re.compile(r"[0-9a-f]{64}|litellm_proxy_master_key")
_LONGEST_TEXT = 8_192


def trimmed(payload: Mapping[str, Any], intent: Intent | None = None, tags: Sequence[str] = ()) -> str:
    """The JSON of LiteLLM's event without prompts, answers, model prices, and keys that somebody wrote somewhere.

    A call that was let through here has our name, and a served one begins with its intent: `codexflow litellm
    reconcile` finds both in LiteLLM's own database, and so knows the event again.
    """
    event = {name: payload[name] for name in _KEPT if payload.get(name) is not None}
    if tags:
        event["request_tags"] = [*tags, *(event.get("request_tags") or ())]
    if intent is not None:
        event["litellm_call_id"] = intent.call
        if payload.get("status") == "success" or payload.get("total_tokens"):
            _name_as_in_spend_logs(event, intent)
    metadata = payload.get("metadata") or {}
    kept = {name: metadata[name] for name in _KEPT_OF_METADATA if metadata.get(name) is not None}
    presented = kept.get("user_api_key_hash")
    if presented is not None and not _HASH.fullmatch(str(presented)):
        # What a stranger sent is not a hash, and may be somebody's key.
        kept["user_api_key_hash"] = hashlib.sha256(str(presented).encode(errors="replace")).hexdigest()
    laravel_id = (metadata.get("user_api_key_auth_metadata") or {}).get("laravel_user_id")
    if laravel_id is not None:
        kept["user_api_key_auth_metadata"] = {"laravel_user_id": laravel_id}
    event["metadata"] = kept
    error = payload.get("error_information") or {}
    event["error_information"] = {name: error[name] for name in _KEPT_OF_ERROR if error.get(name)}
    # A provider's words can repeat the prompt.
    for holder, name in ((event["error_information"], "error_message"), (event, "error_str")):
        if isinstance(holder.get(name), str):
            holder[name] = kept_words(holder[name])
    text = json.dumps(_shortened(event), default=str)
    return _KEY.sub(r"\1***", text)


def _name_as_in_spend_logs(event: dict[str, Any], intent: Intent) -> None:
    # On a cache hit LiteLLM adds the time to the id, in either place another.
    event["id"] = _CACHE_HIT.sub("", str(event.get("id") or ""))
    with suppress(KeyError, TypeError, ValueError):
        event["response_cost"] = float(event["response_cost"])
    start = event.get("startTime")
    if isinstance(start, (int, float)):
        # LiteLLM's durations stay as they are.
        for name in ("endTime", "completionStartTime"):
            if isinstance(event.get(name), (int, float)):
                event[name] = round(intent.started + event[name] - start, 6)
    event["startTime"] = intent.started


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_LONGEST_TEXT]
    if isinstance(value, dict):
        return {name: _shortened(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shortened(item) for item in value[:100]]
    # NaN and the infinities are not JSON.
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value


# --- What LiteLLM calls -----------------------------------------------------------------------------------------------

_MARK = "codexflow_call"
"""The name under which a call's own id travels in LiteLLM's metadata; a client's value of it is overwritten."""
_HOLDERS = ("litellm_metadata", "metadata")
"""Where LiteLLM keeps metadata, depending on the route; of both, the second is the client's, for its provider."""
_KEPT_IN_SPEND_LOGS = "spend_logs_metadata"
"""The part of metadata that LiteLLM keeps in its own database."""


@dataclass
class OpenCall:
    """A call between its pre-call hook and its outcome."""

    intent: Intent
    account: Account | None
    concluded: asyncio.Future[None]
    intended: Future[bool] | None = None
    """Done when the intent is on the disk."""
    has_event: bool = False
    """Whether an attempt of it was reported as failed."""
    has_failed: bool = False
    """Whether LiteLLM has given it up."""
    attempts: int = 0
    """How often a deployment was about to be called."""
    tags: tuple[str, ...] = ()
    """The client's own labels."""
    prompt_tokens: int = 0
    """What the prompt has, roughly."""
    end_user: str | None = None
    exchange: gate.Exchange | None = None
    deployment: Mapping[str, Any] = field(default_factory=dict)
    """What was called last, as prices are found by it."""
    failures: dict[Any, int] = field(default_factory=dict)
    """The failed attempts, by the moment at which each called its provider, and the tokens of each."""
    overdue_at: float | None = None
    """The moment until which LiteLLM must have told the outcome, on the monotonic clock."""
    taken: Amounts = field(default_factory=Amounts)
    """What its events add up to."""

    @property
    def is_counted(self) -> bool:
        """Whether an event of it has tokens."""
        return bool(self.taken.tokens)

    def takes_failure(self, attempt: Any, tokens: int) -> bool:
        """Notes that an attempt failed; false where that is known already."""
        if self.failures.get(attempt, -1) >= tokens:
            return False
        self.failures[attempt] = tokens
        return True

    size: Size = field(default_factory=Size)
    """What it may take."""


class CodexFlow(CustomLogger):
    """The hooks of one LiteLLM process."""

    OUTCOME_SECONDS = 30.0
    """How long an answer is held back for its outcome; LiteLLM gives up a callback after 20 s."""
    FAILED_SECONDS = 3.0
    """The same after a failed attempt: a stream that broke in the middle ends without another outcome."""
    LONGEST_CALL = 7_200
    """Seconds after which a call that was never concluded is reported as unknown; LiteLLM's own limit is 6,000."""
    OVERDUE = 10_000
    """Overdue calls that are remembered."""
    REFRESH_SECONDS = 60.0
    """How old an answer may be when an outage begins."""
    MOST_ATTEMPTS = 50
    """Of one call: retries and fallbacks are the operator's, and have an end."""

    def __init__(self, settings: Settings, now: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._settings, self._now = settings, now
        self._backend = Backend(settings)
        self._spool = Spool.claim(settings.spool)
        self._store = AnswerStore(settings.spool / "answers.sqlite")
        self._accounts = Accounts(self._backend.authorize, settings, self._store)
        self._calls: dict[str, OpenCall] = {}
        self._reservations: dict[str, Reservation] = {}
        self._checked_key = settings.master_key
        self._is_unsafe = False
        """Whether the master key tells the webhook key, or the other way round."""
        self._prices = Prices(_price_of_group, time.monotonic)
        self._overdue: OrderedDict[str, None] = OrderedDict()
        """Calls whose event was written here, as LiteLLM had none: what it says later still would count twice."""
        self._is_stopping = threading.Event()
        left = self._spool.intents()
        self._spool.report_unknown(left)
        if left:
            log.warning("%d calls were cut off when LiteLLM ended; they are reported as outcome_unknown", len(left))
        self._deliver(self._spool)
        threading.Thread(target=self._look_after_spools, name="codexflow-spools", daemon=True).start()
        threading.Thread(target=self._refresh_answers, name="codexflow-answers", daemon=True).start()
        atexit.register(self._spool.close)

    def _deliver(self, spool: Spool) -> None:
        delivery = Delivery(spool, self._backend, self._settings, self._acknowledged)
        threading.Thread(target=delivery.run, name="codexflow-delivery", daemon=True).start()

    def _look_after_spools(self) -> None:
        """Adopts what dead workers left, and gives up calls that LiteLLM never concluded."""
        while not self._is_stopping.wait(30):
            try:
                for spool in Spool.orphans(self._settings.spool):
                    spool.report_unknown(spool.intents())
                    self._deliver(spool)
                given_up = self._spool.intents(before=self._now() - self.LONGEST_CALL)
                for intent in given_up:
                    self._calls.pop(intent.call, None)
                self._spool.report_unknown(given_up)
            except (OSError, sqlite3.Error) as error:
                log.warning("the spools cannot be looked after: %s", type(error).__name__)

    def _refresh_answers(self) -> None:
        """Keeps the answers young that an outage would have to do with, a few at a time."""
        while not self._is_stopping.wait(self.REFRESH_SECONDS / 10):
            try:
                while self._accounts.refresh(self.REFRESH_SECONDS, 10) == 10 and not self._is_stopping.wait(0.2):
                    pass
            except (Unreachable, sqlite3.Error):
                # Said by the calls that meet it.
                continue

    def _acknowledged(self, calls: Iterable[str]) -> None:
        at = time.monotonic()
        for call in calls:
            # What is known of an open call is that an attempt failed.
            reservation = None if call in self._calls else self._reservations.pop(call, None)
            if reservation is not None:
                reservation.acknowledged_at = at

    # Who calls

    def guard(self) -> None:
        """Puts the gate before LiteLLM; raises where LiteLLM is none that this module can keep safe."""
        if fields := self._settings.fields.steering():
            log.warning("CODEXFLOW_FIELDS lets customers steer LiteLLM by %s", ", ".join(fields))
        estimates.watch()
        gate.install(lambda application: gate.Gate(application, self, self._settings.fields, self._settings.limits))

    def is_master(self, key: str) -> bool:
        """Whether a key is the operator's own, LiteLLM's master key."""
        master_key = self._master_key()
        return master_key is not None and not self._is_unsafe and gate.is_same(key, master_key)

    def _master_key(self) -> str | None:
        """The master key in force. LiteLLM may have read it from its configuration after this module was loaded."""
        master_key = _effective_master_key() or self._settings.master_key
        if master_key != self._checked_key:
            self._checked_key, self._is_unsafe = master_key, False
            try:
                check_master_key(master_key, self._settings.webhook_key)
            except ValueError as error:
                log.critical("no request is served: %s", error)
                self._is_unsafe = True
        return master_key

    def owns_responses(self) -> bool:
        """Whether LiteLLM encrypts the ids of responses with their users', as it does by default."""
        from litellm.proxy import proxy_server

        switches = ("disable_responses_id_security", "allow_unmanaged_response_ids")
        return bool(_effective_master_key()) and not any(proxy_server.general_settings.get(name) for name in switches)

    async def admit(self, key: str) -> tuple[str, Account]:
        """The holder of a key; 401 for a stranger, 503 while nobody knows."""
        # Whatever a configuration says that was read after this module: no call may hide.
        litellm.global_disable_no_log_param, litellm.disable_streaming_logging = True, False
        if self._is_unsafe:
            message = "This proxy is not set up safely. Its operator finds the reason in its log."
            raise Refused(Refusal(503, "service_unavailable", message))
        key_hash = hashlib.sha256(key.encode(errors="replace")).hexdigest()
        try:
            account = await self._accounts.current(key_hash)
        except Unreachable:
            message = "Keys cannot be checked at the moment. Try again shortly."
            raise Refused(Refusal(503, "service_unavailable", message)) from None
        if account is None or account.answer.user_id is None:
            raise Refused(Refusal(401, "invalid_api_key", "This API key is not known. Check the key."))
        return key_hash, account

    async def authenticate(self, request: Request, api_key: str) -> UserAPIKeyAuth:
        """The holder of the key that the gate has seen; 403 for a request that has come another way."""
        exchange = gate.exchange_of(request.scope)
        if exchange is not None and exchange.is_operator:
            return UserAPIKeyAuth(api_key="litellm_proxy_master_key", user_role=LitellmUserRoles.PROXY_ADMIN)
        template = getattr(request.scope.get("route"), "path", None)
        if exchange is None or template not in routes.TEMPLATES:
            _refuse(Refusal(403, "route_not_allowed", "This route is not open to customers' keys."))
        user = exchange.account.answer.user_id
        return UserAPIKeyAuth(
            api_key=exchange.key_hash,
            user_id=str(user),
            metadata={"laravel_user_id": user},
            user_role=LitellmUserRoles.INTERNAL_USER,
        )

    async def async_filter_listed_models(
        self, user_api_key_dict: UserAPIKeyAuth, model_names: Sequence[str]
    ) -> Sequence[str]:
        """Shows a customer the models they may use."""
        account = self._accounts.known(user_api_key_dict.api_key or "")
        if account is None or account.answer.models is None:
            return model_names
        return [name for name in model_names if name in account.answer.models]

    # Before the call

    async def async_pre_call_hook(
        self, user_api_key_dict: UserAPIKeyAuth, cache: Any, data: dict[str, Any], call_type: Any
    ) -> dict[str, Any]:
        """Refuses what is over a limit, else reserves the call and commits the intent."""
        key_hash = user_api_key_dict.api_key
        exchange = gate.current()
        account = None
        if (user_api_key_dict.metadata or {}).get("laravel_user_id") is not None and key_hash is not None:
            try:
                account = await self._accounts.current(key_hash)
            except Unreachable:
                _refuse(Refusal(503, "service_unavailable", "Limits cannot be checked at the moment. Try again."))
            if account is None:
                _refuse(Refusal(401, "invalid_api_key", "This API key is not known. Check the key."))
            if exchange is None:
                _refuse(Refusal(403, "route_not_allowed", "This route is not open to customers' keys."))
        opened = None if exchange is None else exchange.call
        if account is not None:
            own = None if opened is None else opened.intent.call
            if (refusal := account.refusal([str(data.get("model") or "")], self._now(), own)) is not None:
                _refuse(refusal)
            self._check_price(account, str(data.get("model") or ""))
        if opened is not None:
            # LiteLLM begins again, with a fallback of the operator's.
            _set_mark(data, opened.intent.call)
            return data
        started = int(self._now() * 1000)
        intent = Intent(
            call=_name(started),
            started=started / 1000,
            key_hash=key_hash,
            user_id=None if account is None else account.answer.user_id,
            model=str(data.get("model") or "")[:255].encode(errors="replace").decode(),
            call_type=str(call_type),
        )
        # Between the check above and this reservation nothing else runs.
        call = OpenCall(intent, account, asyncio.get_running_loop().create_future())
        call.end_user = user_api_key_dict.end_user_id
        if exchange is not None:
            exchange.call, call.exchange, call.tags, call.size = call, exchange, exchange.tags, exchange.size
        self._reserve(call, data)
        self._calls[intent.call] = call
        call.intended = self._spool.intend(intent)
        _set_mark(data, intent.call)
        return data

    async def async_pre_call_deployment_hook(self, kwargs: dict[str, Any], call_type: Any) -> None:
        """Checks the model that LiteLLM has chosen for this attempt, and waits until the intent is on the disk.

        What LiteLLM did since the pre-call hook took about as long as the disk.
        """
        call = self._calls.get(_mark(kwargs))
        if call is not None:
            call.attempts += 1
            self._check_attempt(call, kwargs)
            info = kwargs.get("model_info")
            call.deployment = {
                "model_id": info.get("id") if isinstance(info, dict) else None,
                "model": kwargs.get("model"),
                "custom_llm_provider": kwargs.get("custom_llm_provider"),
            }
        if call is not None and call.intended is not None and not call.intended.done():
            try:
                await asyncio.wrap_future(call.intended)
            except asyncio.CancelledError:
                self._give_up(call)
                raise

    def _check_attempt(self, call: OpenCall, kwargs: Mapping[str, Any]) -> None:
        """Refuses an attempt with a model that is not its user's, such as a fallback of the operator's."""
        allowed = None if call.account is None else call.account.answer.models
        holders = (kwargs.get(name) for name in _HOLDERS)
        groups = [holder["model_group"] for holder in holders if isinstance(holder, dict) and holder.get("model_group")]
        for model in groups or [str(kwargs.get("model") or "")]:
            if allowed is not None and model not in allowed:
                _refuse(Refusal(403, "model_not_allowed", f"This account may not use the model '{str(model)[:100]}'."))
            if call.account is not None:
                self._check_price(call.account, str(model))
        if call.attempts > self.MOST_ATTEMPTS:
            _refuse(Refusal(503, "service_unavailable", "The model could not be reached. Try again shortly."))

    def _check_price(self, account: Account, model: str) -> None:
        """Refuses a model whose price nobody knows to a user with a budget: it would never end."""
        has_budget = any(window.limit.cost is not None for window in account.answer.windows)
        if has_budget and not self._settings.serves_unpriced and self._prices.of(model) is None:
            message = f"The price of the model '{model[:100]}' is not known, so it cannot be used with a budget."
            _refuse(Refusal(403, "model_not_priced", f"{message} Choose another model."))

    def _reserve(self, call: OpenCall, data: Mapping[str, Any]) -> None:
        call.prompt_tokens = _prompt_tokens(data)
        if call.account is None:
            return
        size = call.size
        cost = self._prices.cost(call.intent.model, size)
        reservation = Reservation(call.intent.started, Amounts(1, size.prompt_tokens + size.answer_tokens, cost))
        call.account.reservations[call.intent.call] = reservation
        self._reservations[call.intent.call] = reservation

    def _give_up(self, call: OpenCall) -> None:
        """Forgets a call of which nothing more will count."""
        self._calls.pop(call.intent.call, None)
        reservation = self._reservations.pop(call.intent.call, None)
        if reservation is not None and call.is_counted:
            # Its events are on their way, or there already.
            reservation.amounts, reservation.acknowledged_at = call.taken, time.monotonic()
        elif call.account is not None:
            call.account.reservations.pop(call.intent.call, None)
        self._spool.close_intent(call.intent.call)

    # After the call

    async def finish(self, exchange: gate.Exchange) -> None:
        """Ends the call of a request that was answered, however that went."""
        call = exchange.call
        if call is None or call.intent.call not in self._calls:
            return
        if call.attempts == 0:
            # No provider was called: LiteLLM refused the request, or served something else.
            self._give_up(call)
            return
        if call.has_failed and call.has_event and exchange.letters == 0:
            self._give_up(call)
            return
        # Here and not in a task of its own: uvicorn waits for a request, and for nothing else, when it is stopped.
        try:
            await self._concluded(call)
        finally:
            self._end(call, exchange)

    def _end(self, call: OpenCall, exchange: gate.Exchange) -> None:
        """Writes the event of an answered call of which LiteLLM has told none in time."""
        if self._calls.get(call.intent.call) is not call:
            return
        is_answered = exchange.status == 200 and (exchange.letters > 0 or not call.has_event)
        if is_answered and not call.is_counted:
            log.warning("LiteLLM reports nothing of a call that it answered: its tokens are estimated")
            sent, received = call.prompt_tokens, -(-exchange.letters // 4)
            usage = {
                **{"prompt_tokens": sent, "completion_tokens": received, "total_tokens": sent + received},
                **{"response_cost": estimates.cost(call.deployment, sent, received), "endTime": self._now()},
            }
            if call.size.images:
                usage["response_cost"] = None
            self._settle(call, usage)
            event = call.intent.estimate({**usage, **call.deployment, "end_user": call.end_user})
        elif not call.has_event:
            event = call.intent.failure(exchange.status)
        else:
            self._give_up(call)
            return
        self._overdue[call.intent.call] = None
        _trim(self._overdue, self.OVERDUE)
        self._spool.conclude(event, call.intent.call, closes=True)
        self._give_up(call)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Keeps what LiteLLM computed, which concludes the call."""
        payload = kwargs.get("standard_logging_object")
        mark = _mark(kwargs)
        if payload is None or mark in self._overdue:
            return
        payload = estimates.with_usage(payload, kwargs.get("messages") or kwargs.get("input"), response_obj)
        call = self._calls.get(mark)
        if call is None:
            self._spool.conclude(trimmed(payload), None, closes=False)
            return
        payload = estimates.flagged(payload, call.exchange)
        self._settle(call, payload)
        event = trimmed(payload, call.intent, call.tags)
        # An error until here leaves the call open, so that it is estimated when it is overdue.
        self._calls.pop(mark)
        done = self._spool.conclude(event, call.intent.call, closes=True)
        done.add_done_callback(lambda _: self._conclude(call))

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Keeps a failed attempt; a retry may still conclude the call."""
        payload = kwargs.get("standard_logging_object")
        if payload is None:
            return
        # LiteLLM would log no other failed attempt of the call, not even a stream that breaks in its middle.
        kwargs.pop("has_logged_async_failure", None)
        call = self._calls.get(_mark(kwargs)) or _own_call(kwargs)
        if call is None:
            self._spool.conclude(trimmed(payload), None, closes=False)
            return
        call.has_event = True
        tokens = int(payload.get("total_tokens") or 0)
        is_late = call.intent.call in self._overdue and tokens == 0
        if is_late or not call.takes_failure(kwargs.get("current_attempt_api_call_start_time"), tokens):
            return
        # Each attempt is an event of its own. LiteLLM's own record has one failure of a call, which has tokens.
        is_recorded = tokens > 0 and sum(taken > 0 for taken in call.failures.values()) == 1
        name = str(payload.get("id")) + ("" if is_recorded else f":{len(call.failures)}")
        payload = estimates.flagged({**payload, "id": name}, call.exchange)
        if tokens > 0:
            self._settle(call, payload)
        self._spool.conclude(trimmed(payload, call.intent, call.tags), call.intent.call, closes=False)
        if call.has_failed and call.exchange is None:
            self._give_up(call)

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: Any = None,
    ) -> None:
        """Notes that a call has failed for good: its attempts were or will be reported."""
        call = self._calls.get(_mark(request_data))
        if call is None:
            return
        call.has_failed = True
        if call.has_event and call.exchange is None:
            self._give_up(call)

    async def async_post_call_response_headers_hook(
        self,
        data: Any,
        user_api_key_dict: Any,
        response: Any,
        request_headers: Any = None,
        litellm_call_info: Any = None,
    ) -> None:
        """Holds a whole answer back until its outcome is on the disk; LiteLLM runs this last before it answers."""
        if response is not None and not hasattr(response, "__aiter__"):
            await self._concluded(self._calls.get(_mark(data)))

    async def async_post_call_streaming_iterator_hook(
        self, user_api_key_dict: Any, response: Any, request_data: dict[str, Any]
    ) -> AsyncGenerator[Any, None]:
        """Passes a stream on, and holds its end back until the outcome is on the disk."""
        async for chunk in response:
            yield chunk
        # With guardrails LiteLLM logs a stream only after this hook: the intent speaks for the call until then.
        if getattr(request_data.get("litellm_logging_obj"), "_on_deferred_stream_complete", None) is None:
            await self._concluded(self._calls.get(_mark(request_data)))

    async def _concluded(self, call: OpenCall | None) -> None:
        """Waits for the outcome of a call, or until it is overdue."""
        if call is None:
            return
        if call.overdue_at is None:
            call.overdue_at = time.monotonic() + self.OUTCOME_SECONDS
        has_failed = call.has_event or (call.exchange is not None and call.exchange.status >= 400)
        patience = call.overdue_at - time.monotonic()
        try:
            await asyncio.wait_for(
                asyncio.shield(call.concluded), min(patience, self.FAILED_SECONDS) if has_failed else patience
            )
        except TimeoutError:
            return

    def _conclude(self, call: OpenCall) -> None:
        """Lets the answer go; called by the spool's thread."""

        def let_go() -> None:
            if not call.concluded.done():
                call.concluded.set_result(None)

        with suppress(RuntimeError):
            call.concluded.get_loop().call_soon_threadsafe(let_go)

    @staticmethod
    def _settle(call: OpenCall, payload: Mapping[str, Any]) -> None:
        """Replaces what was reserved by what the call has taken; after a failed attempt another one may follow."""
        # As the backend counts: a cache hit is a request without tokens.
        tokens = 0 if payload.get("cache_hit") is True else int(payload.get("total_tokens") or 0)
        cost = Decimal(str(payload.get("response_cost") or 0))
        call.taken = Amounts(1, (call.taken.tokens or 0) + tokens, (call.taken.cost or 0) + cost)
        reservation = None if call.account is None else call.account.reservations.get(call.intent.call)
        if reservation is not None and payload.get("status") != "failure":
            reservation.amounts = call.taken
        elif reservation is not None:
            reserved = reservation.amounts
            reservation.amounts = Amounts(1, (reserved.tokens or 0) + tokens, (reserved.cost or 0) + cost)


def _name(milliseconds: int) -> str:
    """A UUID of version 7: it tells when its call began."""
    return str(
        uuid.UUID(int=milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62))
    )


def _set_mark(data: dict[str, Any], call: str) -> None:
    holders = [data[name] for name in _HOLDERS if isinstance(data.get(name), dict)]
    holders = holders or [data.setdefault("metadata", {})]
    for holder in holders:
        holder[_MARK] = call
    kept = holders[0].get(_KEPT_IN_SPEND_LOGS)
    holders[0][_KEPT_IN_SPEND_LOGS] = {**(kept if isinstance(kept, dict) else {}), _MARK: call}


def _mark(data: Mapping[str, Any]) -> str:
    parameters = data.get("litellm_params")
    for holder in (data, parameters if isinstance(parameters, dict) else {}):
        for name in _HOLDERS:
            metadata = holder.get(name)
            if isinstance(metadata, dict) and isinstance(metadata.get(_MARK), str):
                return str(metadata[_MARK])
    return ""


_DEAREST_IMAGE = 0.2
"""USD of an image that LiteLLM prices by its size or its tokens."""


def _price_of_group(model: str) -> Price | None:
    """The price of a model's dearest deployment in LiteLLM, or ``None`` where it has none for any of them."""
    from litellm.proxy import proxy_server

    router = proxy_server.llm_router
    group = None if router is None else router.get_model_group_info(model_group=model)
    if router is None or group is None:
        return None
    stated = [group.input_cost_per_token, group.output_cost_per_token]
    if all(cost is None for cost in stated):
        # Prices by the second or by the size of an image are in other places.
        names = [str(one["litellm_params"]["model"]) for one in router.get_model_list(model_name=model) or ()]
        if not all(map(_has_other_price, names)):
            return None
    return Price(float(stated[0] or 0), float(stated[1] or 0), _DEAREST_IMAGE)


def _has_other_price(name: str) -> bool:
    """Whether LiteLLM's map has a price of another kind than for tokens."""
    own = name.split("/", 1)[-1]
    return any(
        entry in (name, own) or entry.endswith("/" + own)
        for entry, info in litellm.model_cost.items()
        if any("_cost_per_" in key and cost for key, cost in info.items())
    )


def _own_call(kwargs: Mapping[str, Any]) -> OpenCall | None:
    """The call of the request that is served now, if it is that of an event: it may have been given up."""
    exchange = gate.current()
    call: OpenCall | None = None if exchange is None else exchange.call
    return call if call is not None and call.intent.call == _mark(kwargs) else None


_PROMPTS = ("messages", "input", "prompt", "instructions", "system", "tools", "functions")


def _prompt_tokens(data: Mapping[str, Any]) -> int:
    """The tokens of a body's prompt, roughly: a quarter of its letters."""
    return sum(_letters(data.get(name)) for name in _PROMPTS) // 4


def _letters(value: Any) -> int:
    """The letters of all texts in a value; an image counts as 4,000."""
    total, waiting = 0, [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            total += min(len(item), 4_000) if len(item) > 4_000 and " " not in item[:1_000] else len(item)
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, (list, tuple)):
            waiting.extend(item)
        elif isinstance(item, int):
            # A prompt of token numbers.
            total += 4
    return total


def _refuse(refusal: Refusal) -> NoReturn:
    raise ProxyException(
        message=refusal.message, type=refusal.kind, param=refusal.field, code=refusal.status, headers=refusal.headers
    ) from None


def _effective_master_key() -> str | None:
    """The master key of LiteLLM's configuration, which need not be in the environment."""
    from litellm.proxy import proxy_server

    key: str | None = proxy_server.master_key
    return key


_OLDEST = (1, 109, 1)
_COMPROMISED = ("1.107.0",)


def _check_version(version: str) -> None:
    """Raises ``RuntimeError`` for a LiteLLM with which no call is safe."""
    if version in _COMPROMISED:
        raise RuntimeError(
            f"LiteLLM {version} was compromised. Remove it, change every secret it saw, install another."
        )
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    if numbers < _OLDEST:
        raise RuntimeError(f"LiteLLM {version} loses events. Install {'.'.join(map(str, _OLDEST))} or newer.")


# LiteLLM executes this file once for each name its configuration takes from it: they must be one.
_SHARED = "codexflow.shared"


def _shared() -> CodexFlow:
    holder = sys.modules.get(_SHARED)
    if holder is None:
        _check_version(importlib.metadata.version("litellm"))
        callback = CodexFlow(Settings.read(os.environ))
        callback.guard()
        holder = types.ModuleType(_SHARED)
        holder.__dict__["callback"] = callback
        sys.modules[_SHARED] = holder
    return cast(CodexFlow, holder.__dict__["callback"])


def __getattr__(name: str) -> Any:
    """``callback`` and ``authenticate``, made when LiteLLM takes them and not when a test imports this file."""
    if name == "callback":
        return _shared()
    raise AttributeError(name)


async def authenticate(request: Request, api_key: str) -> UserAPIKeyAuth:
    """LiteLLM's ``custom_auth``."""
    return await _shared().authenticate(request, api_key)
