"""A provider of models, as LiteLLM's clients see one: it logs what it was asked and served, and fails at will."""

import itertools
import json
import re
import secrets
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from answers import Answer, Call, Piece, answer, error


@dataclass(frozen=True)
class Fault:
    """How one attempt of a call goes wrong; by default it does not."""

    status: int = 200
    message: str = "the provider is out of order"
    delay: float = 0.0
    """Seconds before the answer begins."""
    break_after: int | None = None
    """Bytes of the body after which the connection is closed; -1: before anything is sent."""
    resets: bool = False
    """Whether it is then reset, which takes from the reader what it has not read."""
    stall_after: int | None = None
    """Pieces after which the answer pauses."""
    stall: float = 0.0
    is_chunked: bool = True
    """Whether the reader of a stream can distinguish a break from an end."""
    states_usage: bool = True
    garbles: bool = False
    """Whether the body is not JSON, or a stream has an event that is none."""
    words: int = 20
    pace: float = 0.0
    """Seconds over which the pieces of a stream are spread."""

    def __str__(self) -> str:
        """Only what is not as usual."""
        usual = Fault()
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return ", ".join(f"{n}={v!r}" for n, v in values.items() if v != getattr(usual, n)) or "no fault"


NONE = Fault()


@dataclass
class Attempt:
    """One request that the provider was sent, and what became of it."""

    serial: int
    call: int | None
    """The number that the prompt ends with."""
    nth: int
    path: str
    model: str
    is_stream: bool
    fault: Fault
    input: int
    output: int
    authorization: str
    end: str = "open"
    """`refused`, `whole`, `broken` by the provider, or `left` by LiteLLM."""
    has_usage: bool = False
    """Whether LiteLLM was sent the usage."""
    is_read: bool = True
    """Whether LiteLLM has certainly read all that it was sent."""
    words: int = 0
    """Words of the answer that were sent."""
    bytes: int = 0

    def __str__(self) -> str:
        """For a failing test."""
        usage = f"{self.input}/{self.output}" if self.has_usage else f"no usage, {self.words} words"
        usage += "" if self.is_read else ", perhaps not read"
        stream = " stream" if self.is_stream else ""
        return f"#{self.serial} attempt {self.nth} {self.model} {self.path}{stream}: {self.end}, {usage} ({self.fault})"


class Provider:
    """Serves on a free port of the loopback; the number that a prompt ends with becomes its count of tokens."""

    FIRST_SERIAL = 1_000_000

    def __init__(self) -> None:
        self.served: Counter[int] = Counter()
        """How often each prompt's number was answered."""
        self.traffic: list[bytes] = []
        """Headers and bodies of every request."""
        self.delay = 0.0
        """Seconds until every answer, or within every stream."""
        self.repeats_ids = True
        """Whether every answer has the same id, as some providers' have."""
        self.spread = 0.0
        """Seconds over which the answers to calls made at once are spread, besides."""
        self.plans: dict[int, Sequence[Fault]] = {}
        """What happens to each attempt of a prompt's number; calls with a plan have tokens that no other has."""
        self.attempts: list[Attempt] = []
        self._serials = itertools.count(self.FIRST_SERIAL)
        self._lock = threading.Lock()
        provider = self

        class Handler(_Handler):
            owner = provider

        self._server = _Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """The base URL for LiteLLM's OpenAI clients."""
        return f"{self.root}/v1"

    @property
    def root(self) -> str:
        """The base URL for LiteLLM's Anthropic client."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def calls(self) -> int:
        """All calls that were answered."""
        return self.served.total()

    def note(self, path: str, request: dict[str, Any], authorization: str, traffic: bytes) -> Attempt:
        """Logs a request."""
        number = _number(request)
        with self._lock:
            self.served[number or 0] += 1
            self.traffic.append(traffic)
            plan = self.plans.get(number or 0)
            nth = self.served[number or 0]
            serial = next(self._serials)
            planned = plan is not None
            attempt = Attempt(
                serial=serial,
                call=number,
                nth=nth,
                path=path,
                model=str(request.get("model")),
                is_stream=request.get("stream") is True,
                fault=plan[nth - 1] if plan is not None and nth <= len(plan) else NONE,
                input=serial if planned else number or 0,
                output=11 + serial % 89 if planned else 5,
                authorization=authorization,
            )
            self.attempts.append(attempt)
        return attempt

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: the caller may be killed meanwhile."""


class _Left(Exception):
    """The reader hung up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Provider

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_POST(self) -> None:
        """Answers one call."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = json.loads(body)
        authorization = self.headers.get("Authorization") or self.headers.get("x-api-key") or ""
        attempt = self.owner.note(self.path, request, authorization, str(self.headers).encode() + body)
        try:
            self._respond(attempt, self._answer(attempt, request))
        except (_Left, OSError):
            attempt.end, attempt.is_read = "left", False

    def _answer(self, attempt: Attempt, request: dict[str, Any]) -> Answer:
        fault = attempt.fault
        if "failing" in attempt.model or fault.status != 200:
            return error(500 if fault.status == 200 else fault.status, fault.message)
        planned = attempt.call in self.owner.plans
        name = (
            str(attempt.serial) if planned else "the-same-for-all" if self.owner.repeats_ids else secrets.token_hex(8)
        )
        return answer(
            Call(
                path=attempt.path,
                request=request,
                name=name,
                input=attempt.input,
                output=0 if attempt.path.endswith("/embeddings") else attempt.output,
                words=fault.words if planned else 20,
                always_states_usage=not planned,
                states_usage=fault.states_usage,
            )
        )

    def _respond(self, attempt: Attempt, answer: Answer) -> None:
        fault, number = attempt.fault, attempt.call or 0
        self._pause(
            fault.delay + (0 if answer.is_stream else self.owner.delay) + self.owner.spread * (number % 50) / 50
        )
        planned = attempt.call in self.owner.plans
        if fault.break_after == -1:
            self._close(fault.resets)
            attempt.end = "broken"
            return
        pieces = answer.pieces
        if fault.garbles:
            pieces = _garbled(pieces)
        self.send_response(answer.status)
        self.send_header("Content-Type", "text/event-stream" if answer.is_stream else "application/json")
        is_chunked = answer.is_stream and planned and fault.is_chunked
        if is_chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif not answer.is_stream:
            self.send_header("Content-Length", str(sum(len(piece.data) for piece in pieces)))
        if answer.is_stream or planned:
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()
        for index, piece in enumerate(pieces):
            self._pause((self.owner.delay + fault.pace) / len(pieces) if answer.is_stream else 0)
            if fault.stall_after == index:
                self._pause(fault.stall)
            room = len(piece.data) if fault.break_after is None else fault.break_after - attempt.bytes
            self._send(piece.data[: max(0, room)], is_chunked)
            attempt.bytes += min(room, len(piece.data))
            if room < len(piece.data):
                self._close(fault.resets)
                attempt.end = "broken"
                return
            attempt.words += piece.words
            attempt.has_usage = attempt.has_usage or piece.has_usage
        if is_chunked:
            self.wfile.write(b"0\r\n\r\n")
        attempt.end = "whole" if answer.status == 200 else "refused"
        attempt.is_read = not planned or self._is_read()

    def _send(self, data: bytes, is_chunked: bool) -> None:
        if self._has_left():
            raise _Left
        if data:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data) if is_chunked else data)

    def _pause(self, seconds: float) -> None:
        if seconds <= 0:
            return
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
            if self._has_left():
                raise _Left

    def _has_left(self) -> bool:
        """Whether LiteLLM has closed the connection."""
        try:
            return not self.connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False

    def _is_read(self) -> bool:
        """Whether LiteLLM has read all of it: who closes a connection with something unread resets it."""
        with suppress(OSError):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_WR)
        try:
            ready, _, _ = select.select([self.connection], [], [], 10)
            return not ready or not self.connection.recv(1)
        except OSError:
            return False

    def _close(self, resets: bool) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.wfile.flush()
            if resets:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                self.connection.close()
            else:
                self.connection.shutdown(socket.SHUT_RDWR)


def _garbled(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    if len(pieces) == 1:
        return (Piece(pieces[0].data[: len(pieces[0].data) // 2]),)
    middle = len(pieces) // 2
    return (*pieces[:middle], Piece(b'data: {"choices": [{"delta\n\n'), *pieces[middle:])


_COUNT = re.compile(r"\bcount (\d+)")


def _number(request: dict[str, Any]) -> int | None:
    """The number of the last prompt that is one."""
    prompts = request.get("input") or request.get("prompt") or request.get("messages")
    found = _COUNT.findall(json.dumps(prompts))
    return int(found[-1]) if found else None
