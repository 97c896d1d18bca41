"""One exchange: a request that was let through, and what its client gets of the answer."""

import asyncio
import contextvars
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from typing import Any

from codexflow_litellm.gate.refusal import tidied, tidied_stream
from codexflow_litellm.gate.sizes import Size

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

_ANSWERED_HEADERS = frozenset(
    b"""cache-control connection content-encoding content-length content-type date retry-after transfer-encoding vary
    x-accel-buffering x-litellm-call-id x-litellm-response-cost""".split()
)
"""The headers that a customer gets. Others name the operator's deployments, accounts and limits."""
_OF_THE_BODY = (b"content-encoding", b"content-length", b"content-type", b"transfer-encoding")
_LARGEST_ERROR = 1 << 20
"""Bytes of an error that are read."""
_STREAMED_ERROR = (b'data: {"error"', b"event: error")
"""How an error in the middle of a stream begins."""
_OWN = "codexflow.exchange"
"""The name of an exchange in the ASGI scope, where no client can write."""


@dataclass(eq=False)
class Exchange:
    """One HTTP request that was let through, and its outcome."""

    account: Any = None
    """The account of the caller; ``None`` for the operator."""
    key_hash: str = ""
    is_operator: bool = False
    tags: tuple[str, ...] = ()
    """The client's own labels of the call. They reach the event and not LiteLLM."""
    size: Size = field(default_factory=Size)
    """What the call may take."""
    call: Any = None
    """The call that the pre-call hook has opened for it."""
    status: int = 0
    """The status of the answer; 0 where there is none."""
    letters: int = 0
    """The letters of a model's answer that LiteLLM has handed over for the client."""
    estimates: set[tuple[int, int]] = field(default_factory=set)
    """Tokens of a prompt and of its answer that LiteLLM has counted itself, because no provider stated them."""
    reported: set[tuple[int, int]] = field(default_factory=set)
    """The same where the provider of a stream has stated both."""


_current: contextvars.ContextVar[Exchange | None] = contextvars.ContextVar("codexflow_exchange", default=None)


def current() -> Exchange | None:
    """The exchange that the running task serves."""
    return _current.get()


def enter(exchange: Exchange, scope: MutableMapping[str, Any]) -> contextvars.Token[Exchange | None]:
    """Makes an exchange the current one of this task, and the one of an ASGI scope."""
    scope[_OWN] = exchange
    return _current.set(exchange)


def leave(token: contextvars.Token[Exchange | None]) -> None:
    """Ends what ``enter`` has begun."""
    _current.reset(token)


def exchange_of(scope: MutableMapping[str, Any]) -> Exchange | None:
    """The exchange that the gate has let through with this scope."""
    exchange = scope.get(_OWN)
    return exchange if isinstance(exchange, Exchange) else None


class Client:
    """The client's end of a request. LiteLLM cannot see whether it has gone."""

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
            # LiteLLM may see that a client leaves in the middle of its body: no provider was called yet.
            return message
        await self.ended.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Sends a part of the answer, unless the client has gone or does not read."""
        if message["type"] == "http.response.start":
            self._exchange.status = message["status"]
        elif self._exchange.status == 200:
            # Count what the client does not read, too: the provider has produced it.
            self._exchange.letters += letters(message.get("body", b""))
        is_last = message["type"] == "http.response.body" and not message.get("more_body", False)
        for part in [message] if self._exchange.is_operator else self._for_customers(message, is_last):
            if not self._is_gone:
                await self._send_one(part)
        if is_last:
            self.ended.set()

    def _for_customers(self, message: Message, is_last: bool) -> list[Message]:
        """What a customer gets of a part. The parts of an error are joined and sent at the end."""
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


# Unrolled, so that a long text takes little time.
_TEXT = rb'"\s*:\s*"([^"\\]*(?:\\.[^"\\]*)*)"'
_WHOLE = re.compile(rb'"(?:content|text|arguments|thinking|reasoning_content|refusal|partial_json|delta)' + _TEXT)
# The same characters inside a text of the model have a backslash before their quotes.
_RESPONSES_EVENT = re.compile(rb'"type"\s*:\s*"response\.')
_DELTA = re.compile(rb'"delta' + _TEXT)


def letters(part: bytes) -> int:
    """The letters of a model's answer in a part of a body, whole or of a stream."""
    # The last events of a stream of OpenAI's responses repeat the texts of its deltas.
    pattern = _DELTA if _RESPONSES_EVENT.search(part) else _WHOLE
    return sum(len(text) for text in pattern.findall(part))
