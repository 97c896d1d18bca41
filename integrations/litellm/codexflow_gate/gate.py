"""An ASGI application around LiteLLM's: it authenticates, cleans the request, and hears the provider's answer out.

LiteLLM sees of a customer's request the canonical path, a few headers and the allowed fields of the body, and never
the key. It is not told when a client hangs up: it reads the provider's answer to its end, so that the usage that the
provider reports is the usage that is counted.
"""

import asyncio
import contextvars
import hmac
import json
import logging
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from codexflow_gate import routes
from codexflow_gate.fields import Fields
from codexflow_gate.refusal import Refusal, Refused, refuse, tidied, tidied_stream
from codexflow_gate.sizes import Size, size_of

log = logging.getLogger("codexflow")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_KEY_HEADERS = (b"x-litellm-api-key", b"authorization", b"x-api-key", b"api-key")
"""Where clients send a key, the first that is there counts."""
_PASSED_HEADERS = frozenset(
    b"""accept accept-language anthropic-beta anthropic-version host user-agent x-forwarded-for
    x-forwarded-host x-forwarded-proto x-real-ip""".split()
)
_ANSWERED_HEADERS = frozenset(
    b"""cache-control connection content-encoding content-length content-type date retry-after transfer-encoding vary
    x-accel-buffering x-litellm-call-id x-litellm-response-cost""".split()
)
"""Others tell of the operator's deployments, accounts and limits."""
_OF_THE_BODY = (b"content-encoding", b"content-length", b"content-type", b"transfer-encoding")
_LARGEST_ERROR = 1 << 20
"""Bytes of an error that are looked at."""
_STREAMED_ERROR = (b'data: {"error"', b"event: error")
"""How an error begins that comes in the middle of a stream."""
_OWN = "codexflow.exchange"
"""The name of an exchange in the ASGI scope, where no client can write."""


@dataclass(eq=False)
class Exchange:
    """One HTTP request that was let through, and what became of it."""

    account: Any = None
    """Who calls; ``None`` for the operator."""
    key_hash: str = ""
    is_operator: bool = False
    tags: tuple[str, ...] = ()
    """The client's own labels of the call: they reach the event and not LiteLLM."""
    size: Size = field(default_factory=Size)
    """What the call may take."""
    call: Any = None
    """The call that the pre-call hook has opened for it."""
    status: int = 0
    """The status of the answer; 0 where there is none."""
    letters: int = 0
    """The letters of a model's answer that LiteLLM has handed over for the client."""
    estimates: set[tuple[int, int]] = field(default_factory=set)
    """Tokens of a prompt and of its answer that LiteLLM has counted itself, as no provider stated them."""
    reported: set[tuple[int, int]] = field(default_factory=set)
    """The same where the provider of a stream has stated both."""


_current: contextvars.ContextVar[Exchange | None] = contextvars.ContextVar("codexflow_exchange", default=None)


def current() -> Exchange | None:
    """The exchange that the running task serves."""
    return _current.get()


def exchange_of(scope: MutableMapping[str, Any]) -> Exchange | None:
    """The exchange that the gate has let through with this scope."""
    exchange = scope.get(_OWN)
    return exchange if isinstance(exchange, Exchange) else None


class Keeper(Protocol):
    """What the gate asks of the module: who holds a key, and what to do when a request has ended."""

    async def admit(self, key: str) -> tuple[str, Any]:
        """The hash and the account of a customer's key; raises ``Refused`` for a stranger's."""

    def is_master(self, key: str) -> bool:
        """Whether a key is the operator's own."""

    def owns_responses(self) -> bool:
        """Whether LiteLLM knows whose stored responses are whose."""

    async def finish(self, exchange: Exchange) -> None:
        """Ends what the request has opened."""


@dataclass(frozen=True)
class Limits:
    """What one request may take."""

    open_paths: frozenset[str] = frozenset()
    """Paths that anybody may GET, such as those of health probes."""
    largest_body: int = 32 << 20
    """Bytes of one body."""
    held_bytes: int = 512 << 20
    """Bytes of all bodies that are being received."""
    body_seconds: float = 60.0
    """How long a body may take to arrive."""
    unstated_answer: int = 4_000
    """Tokens that are reserved for an answer whose longest is not stated."""
    stalled_seconds: float = 60.0
    """How long a client may keep the answer waiting, in sum."""


class Gate:
    """The outermost application of a LiteLLM process."""

    def __init__(self, application: Application, keeper: Keeper, fields: Fields, limits: Limits) -> None:
        self._application, self._keeper, self._fields, self._limits = application, keeper, fields, limits
        self._held = 0
        self._held_of: Counter[str] = Counter()
        """The same by key: one customer alone cannot fill it."""

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serves one connection's request, or refuses it."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
        elif scope["type"] != "http":
            # Limits hold for a request; a socket would carry any number of them.
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "This proxy serves HTTP requests only."})
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        match = routes.match(scope)
        keys = _keys(scope)
        if any(self._keeper.is_master(key) for key in keys):
            exchange = Exchange(is_operator=True)
            # An inference call of the operator's is counted like any other.
            await self._pass(exchange, scope, receive, send, hears_out=match is not None and match.is_inference)
            return
        if scope["method"] in ("GET", "HEAD") and scope["path"] in self._limits.open_paths:
            await self._application(scope, receive, send)
            return
        try:
            if match is None:
                raise Refused(Refusal(403, "route_not_allowed", "This route is not open to customers' keys."))
            key_hash, account = await self._keeper.admit(keys[0] if keys else "")
            exchange = Exchange(account, key_hash)
            body = b""
            if match.is_inference:
                body = await self._body(scope, receive, match, exchange)
            elif match.model and account.answer.models is not None and match.model not in account.answer.models:
                raise Refused(Refusal(404, "model_not_found", "There is no such model for this account."))
        except Refused as refused:
            is_anthropic = bool(_header(scope, b"anthropic-version")) or (match is not None and match.is_anthropic)
            await _answer(send, refused.refusal, is_anthropic)
            return
        except ConnectionError:
            return
        clean = _cleaned(scope, match, len(body))
        await self._pass(exchange, clean, _single(body), send, hears_out=True)

    async def _body(
        self, scope: MutableMapping[str, Any], receive: Receive, match: routes.Match, exchange: Exchange
    ) -> bytes:
        """The body as LiteLLM gets it; raises ``ConnectionError`` where the client left in the middle of its own."""
        if _header(scope, b"content-encoding") not in (b"", b"identity"):
            raise Refused(Refusal(415, "invalid_request_error", "Send the body without a content encoding."))
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ConnectionAbortedError
                    part = message.get("body", b"")
                    size += len(part)
                    self._held += len(part)
                    parts.append(part)
                    if size > self._limits.largest_body:
                        limit = self._limits.largest_body >> 20
                        raise Refused(Refusal(413, "invalid_request_error", f"The body is larger than {limit} MiB."))
                    self._held_of[exchange.key_hash] += len(part)
                    share = self._limits.held_bytes // 8
                    if self._held > self._limits.held_bytes or self._held_of[exchange.key_hash] > share:
                        message_ = "The proxy holds too many bodies at the moment. Try again shortly."
                        raise Refused(Refusal(503, "service_unavailable", message_))
                    if not message.get("more_body", False):
                        break
            return self._clean(b"".join(parts), match, exchange)
        except TimeoutError:
            raise Refused(Refusal(408, "timeout", "The body did not arrive in time. Send it faster.")) from None
        finally:
            self._held -= size
            self._held_of[exchange.key_hash] -= size
            if self._held_of[exchange.key_hash] <= 0:
                del self._held_of[exchange.key_hash]

    def _clean(self, text: bytes, match: routes.Match, exchange: Exchange) -> bytes:
        body = _parsed(text)
        exchange.tags = _tags(body)
        cleaned = self._fields.clean(match.name, body, match.model)
        if "previous_response_id" in cleaned and not self._keeper.owns_responses():
            name = "previous_response_id"
            refuse(name, f"The field '{name}' is not served by this proxy. Send the earlier items in 'input'.")
        passed = orjson.dumps(cleaned)
        exchange.size = size_of(match.name, cleaned, passed, self._limits.unstated_answer)
        return passed

    async def _pass(
        self, exchange: Exchange, scope: MutableMapping[str, Any], receive: Receive, send: Send, hears_out: bool
    ) -> None:
        scope[_OWN] = exchange
        token = _current.set(exchange)
        client = Client(exchange, receive, send, self._limits.stalled_seconds)
        try:
            await self._application(scope, client.receive if hears_out else receive, client.send)
        finally:
            client.ended.set()
            _current.reset(token)
            await self._keeper.finish(exchange)


class Client:
    """The client's end of a request: LiteLLM cannot see that it has gone."""

    def __init__(self, exchange: Exchange, receive: Receive, send: Send, stalled_seconds: float) -> None:
        self._exchange, self._receive, self._send, self._stalled_seconds = exchange, receive, send, stalled_seconds
        self._has_body = False
        self._is_gone = False
        self._failure: Message | None = None
        """The start of an answer that is an error, whose body gathers in ``_failed_parts``."""
        self._failed_parts: list[bytes] = []
        self._stalled = 0.0
        """Seconds for which the client has kept the answer waiting, in sum."""
        self.ended = asyncio.Event()
        """Set when the answer is complete."""

    async def receive(self) -> Message:
        """The request's body; after it nothing, until the answer is complete."""
        if not self._has_body:
            message = await self._receive()
            is_gone = message["type"] == "http.disconnect"
            self._has_body = is_gone or not message.get("more_body", False)
            # In the middle of its body, nothing has been called yet.
            return message
        await self.ended.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Sends a part of the answer, unless the client has gone or does not read."""
        if message["type"] == "http.response.start":
            self._exchange.status = message["status"]
        elif self._exchange.status == 200:
            # Also of what the client does not hear: the provider has said it.
            self._exchange.letters += letters(message.get("body", b""))
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        for part in [message] if self._exchange.is_operator else self._for_customers(message, is_last):
            if not self._is_gone:
                await self._send_one(part)
        if is_last:
            self.ended.set()

    def _for_customers(self, message: Message, is_last: bool) -> list[Message]:
        """What a customer gets of a part; the parts of an error come together, as a whole."""
        if message["type"] == "http.response.start":
            headers = [(name, value) for name, value in message["headers"] if name.lower() in _ANSWERED_HEADERS]
            message = {**message, "headers": headers}
            if message["status"] >= 400:
                self._failure = message
                return []
            return [message]
        if self._failure is None or message["type"] != "http.response.body":
            if message.get("body", b"").startswith(_STREAMED_ERROR):
                message = {**message, "body": tidied_stream(message["body"])}
            return [message]
        if sum(map(len, self._failed_parts)) < _LARGEST_ERROR:
            self._failed_parts.append(message.get("body", b""))
        if not is_last:
            return []
        body = tidied(b"".join(self._failed_parts))
        kept = [(name, value) for name, value in self._failure["headers"] if name.lower() not in _OF_THE_BODY]
        kept += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        return [{**self._failure, "headers": kept}, {"type": "http.response.body", "body": body}]

    async def _send_one(self, message: Message) -> None:
        try:
            began = time.monotonic()
            async with asyncio.timeout(self._stalled_seconds - self._stalled):
                await self._send(message)
            self._stalled += time.monotonic() - began
        except (OSError, TimeoutError):
            self._is_gone = True


def install(make: Callable[[Application], Gate]) -> None:
    """Puts a gate before every request of this process; raises ``RuntimeError`` where that cannot be done."""
    from litellm.proxy.proxy_server import app

    if app.middleware_stack is None:
        app.add_middleware(_Middleware, make=make)
    else:
        # LiteLLM reads its configuration when the application has started already.
        app.middleware_stack = make(app.middleware_stack)


class _Middleware:
    def __init__(self, app: Application, make: Callable[[Application], Gate]) -> None:
        self._gate = make(app)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        await self._gate(scope, receive, send)


def _header(scope: MutableMapping[str, Any], name: bytes) -> bytes:
    return next((value for key, value in scope["headers"] if key.lower() == name), b"")


def _keys(scope: MutableMapping[str, Any]) -> list[str]:
    """The keys that a request presents, the one that counts first."""
    presented = [_header(scope, name).decode("latin-1").strip() for name in _KEY_HEADERS]
    return [re.sub(r"^(?i:bearer)\s+", "", key)[:1_000] for key in presented if key]


def _cleaned(scope: MutableMapping[str, Any], match: routes.Match, size: int) -> MutableMapping[str, Any]:
    """The scope that LiteLLM gets."""
    passed = [(name.lower(), value) for name, value in scope["headers"] if name.lower() in _PASSED_HEADERS]
    # Some key must be there for LiteLLM to ask our custom_auth, which looks at the exchange and not at it.
    passed.append((b"authorization", b"Bearer codexflow"))
    if match.is_inference:
        passed += [(b"content-type", b"application/json"), (b"content-length", str(size).encode())]
    root = (scope.get("root_path") or "").rstrip("/")
    path = root + match.path
    return {**scope, "headers": passed, "path": path, "raw_path": path.encode(), "query_string": b""}


def _single(body: bytes) -> Receive:
    """A connection whose one message is the whole body."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop() if messages else {"type": "http.disconnect"}

    return receive


async def _answer(send: Send, refusal: Refusal, is_anthropic: bool) -> None:
    body = refusal.body(is_anthropic)
    headers = {"content-type": "application/json", "content-length": str(len(body)), **refusal.headers}
    # What is left of a body is not read.
    headers["connection"] = "close"
    with suppress(OSError):
        await send(
            {
                "type": "http.response.start",
                "status": refusal.status,
                "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            }
        )
        await send({"type": "http.response.body", "body": body})


# Unrolled, so that a long text takes little time.
_TEXT = rb'"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"'
_WHOLE = re.compile(rb'"(?:content|text|arguments|thinking|reasoning_content|refusal|partial_json|delta)' + _TEXT)
# A text of the model's that looks so has a backslash before its quotes.
_RESPONSES_EVENT = re.compile(rb'"type"\s*:\s*"response\.')
_DELTA = re.compile(rb'"delta' + _TEXT)


def letters(part: bytes) -> int:
    """The letters of a model's answer in a part of a body, whole or a stream's."""
    # Events of OpenAI's responses repeat at their ends what their deltas were.
    pattern = _DELTA if _RESPONSES_EVENT.search(part) else _WHOLE
    return sum(len(text) for text in pattern.findall(part))


_LONE = re.compile("[\ud800-\udfff]")
_LARGEST_REPAIRED = 1 << 20
_MOST_VALUES = 250_000
"""In one body: what is large may be a text or an image, as values take time."""


def _parsed(text: bytes) -> Any:
    """The value of a body's JSON; lone surrogates, which no provider takes, are left out."""
    if sum(map(text.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        message = f"The body has more than {_MOST_VALUES} values. Send several smaller requests."
        raise Refused(Refusal(413, "invalid_request_error", message))
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(text)
    if len(text) > _LARGEST_REPAIRED:
        # What follows takes long.
        raise Refused(Refusal(400, "invalid_request_error", "The body is not JSON in UTF-8 without lone surrogates."))
    try:
        value = json.loads(text.decode(), parse_constant=_no_number, parse_int=_short_integer)
        return orjson.loads(_LONE.sub("", json.dumps(value, ensure_ascii=False)).encode())
    except (ValueError, RecursionError):
        message = "The body is not JSON. Send a JSON object."
        raise Refused(Refusal(400, "invalid_request_error", message)) from None


def _no_number(name: str) -> None:
    raise ValueError(name)


def _short_integer(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError("an integer beyond 64 bits")
    return int(digits)


def _tags(body: Any) -> tuple[str, ...]:
    """The tags in the body's metadata: at most 20 texts of 100 characters."""
    metadata = body.get("metadata") if isinstance(body, dict) else None
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    return tuple(tag[:100] for tag in tags if isinstance(tag, str))[:20] if isinstance(tags, list) else ()


def is_same(one: str, other: str) -> bool:
    """Compares two secrets in constant time."""
    return hmac.compare_digest(one.encode(errors="replace"), other.encode(errors="replace"))
