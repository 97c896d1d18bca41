"""An ASGI application around LiteLLM's: it authenticates a request, cleans it, and reads its answer to the end.

Of a customer's request, LiteLLM sees the canonical path, a few headers and the allowed fields of the body, and never
the key. LiteLLM does not see that a client hangs up. It reads the provider's answer to its end, and so counts the usage
that the provider reports.
"""

import asyncio
import hmac
import re
from collections import Counter
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from codexflow_litellm.gate import routes
from codexflow_litellm.gate.exchange import Application, Client, Exchange, Message, Receive, Send, enter, leave
from codexflow_litellm.gate.fields import Fields, parsed, tags_of
from codexflow_litellm.gate.refusal import Refusal, Refused, refuse
from codexflow_litellm.gate.sizes import size_of

_KEY_HEADERS = (b"x-litellm-api-key", b"authorization", b"x-api-key", b"api-key")
"""Where clients send a key. The first one that is there counts."""
_PASSED_HEADERS = frozenset(
    b"""accept accept-language anthropic-beta anthropic-version host user-agent x-forwarded-for
    x-forwarded-host x-forwarded-proto x-real-ip""".split()
)


class Keeper(Protocol):
    """What the gate asks of the hooks: who holds a key, and what to do when a request has ended."""

    async def admit(self, key: str) -> tuple[str, Any]:
        """The hash and the account of a customer's key; raises ``Refused`` for an unknown key."""

    def is_master(self, key: str) -> bool:
        """Whether a key is the operator's own."""

    def owns_responses(self) -> bool:
        """Whether LiteLLM knows the user of each stored response."""

    async def finish(self, exchange: Exchange) -> None:
        """Ends what the request has opened."""


@dataclass(frozen=True)
class Limits:
    """What one request may take."""

    open_paths: frozenset[str] = frozenset()
    """Paths that need no key for GET and HEAD, such as those of health probes."""
    largest_body: int = 32 << 20
    """Bytes of one body."""
    held_bytes: int = 512 << 20
    """Bytes of all bodies that are being received."""
    body_seconds: float = 60.0
    """How long a body may take to arrive."""
    unstated_answer: int = 4_000
    """Tokens that are reserved for an answer where the body states no longest one."""
    stalled_seconds: float = 60.0
    """How long a client may keep the answer waiting, in sum of all its parts."""


class Gate:
    """The outermost application of a LiteLLM process."""

    def __init__(self, application: Application, keeper: Keeper, fields: Fields, limits: Limits) -> None:
        self._application, self._keeper, self._fields, self._limits = application, keeper, fields, limits
        self._held = 0
        self._held_of: Counter[str] = Counter()
        """The same by key, so that one customer alone cannot use all of it."""

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serves one connection's request, or refuses it."""
        if scope["type"] == "lifespan":
            await self._application(scope, receive, send)
        elif scope["type"] != "http":
            # Limits hold for a request. A socket would carry any number of requests.
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
        """The body as LiteLLM gets it; raises ``ConnectionError`` where the client left in the middle of sending it."""
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
        body = parsed(text)
        exchange.tags = tags_of(body)
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
        token = enter(exchange, scope)
        client = Client(exchange, receive, send, self._limits.stalled_seconds)
        try:
            await self._application(scope, client.receive if hears_out else receive, client.send)
        finally:
            client.ended.set()
            leave(token)
            await self._keeper.finish(exchange)


def install(make: Callable[[Application], Gate]) -> None:
    """Puts a gate before every request of this process; raises ``RuntimeError`` where that cannot be done."""
    from litellm.proxy.proxy_server import app

    if app.middleware_stack is None:
        app.add_middleware(_Middleware, make=make)
    else:
        # The application has started before LiteLLM reads its configuration.
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
    # LiteLLM asks our custom_auth only if there is a key. It reads the exchange and not this key.
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
    # The rest of a body is not read.
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


def is_same(one: str, other: str) -> bool:
    """Compares two secrets in constant time."""
    return hmac.compare_digest(one.encode(errors="replace"), other.encode(errors="replace"))
