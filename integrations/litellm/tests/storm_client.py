"""Makes a storm's calls over sockets of its own, so that it can leave at any byte, while processes are killed."""

import asyncio
import json
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from stage import Stage
from storm_calls import OPERATORS_TIMEOUT, StormCall

LONGEST = 120.0


@dataclass
class Outcome:
    """What the client saw of a call."""

    call: StormCall
    status: int = 0
    received: bytes = b""
    is_whole: bool = False
    at: float = 0.0
    """When it began by the clock on the wall."""
    began: float = 0.0
    ended: float = 0.0
    error: str = ""
    kills: list[str] = field(default_factory=list)
    """What was killed while it was under way."""

    @property
    def text(self) -> str:
        """The body, or as much of it as came; streams are left in chunks."""
        return self.received.partition(b"\r\n\r\n")[2].decode(errors="replace")

    def __str__(self) -> str:
        """For a failing test."""
        killed = f", while {' and '.join(self.kills)} died" if self.kills else ""
        whole = "" if self.is_whole else ", not whole"
        seconds = f"{self.ended - self.began:.2f} s"
        return f"{self.status}, {len(self.received)} bytes{whole}, {seconds}{killed} {self.error} {self.text[:300]!r}"


@dataclass
class Kill:
    """Something that dies when a part of the calls is done."""

    name: str
    after: float
    """The part of all calls."""
    act: Callable[[], None]
    """Kills it and starts it again."""
    stops_calls: bool = False
    """Whether calls wait meanwhile, because no process would answer them."""


class Storm:
    """Calls at once, each to the end that its plan has."""

    def __init__(self, stage: Stage, users: list[int], at_once: int = 24) -> None:
        self.stage = stage
        self.users = users
        self.outcomes: dict[int, Outcome] = {}
        self.crashes: list[int] = []
        """How LiteLLM has died by itself: the negative numbers of signals."""
        self._host, port = stage.url.removeprefix("http://").split(":")
        self._port = int(port)
        self._at_once = at_once
        self._open: set[int] = set()
        self._may_call = asyncio.Event()

    async def run(self, calls: list[StormCall], kills: Iterable[Kill] = ()) -> None:
        """Makes all calls, and waits until each has ended."""
        self._may_call.set()
        pending = iter(calls)
        done = 0

        async def work() -> None:
            nonlocal done
            for call in pending:
                await self._may_call.wait()
                self.stage.provider.plans[call.number] = call.faults
                await self._make(call)
                done += 1

        async def kill(what: Kill) -> None:
            while done < what.after * len(calls):
                await asyncio.sleep(0.05)
            if what.stops_calls:
                self._may_call.clear()
            self._note_death(what.name)
            await asyncio.to_thread(what.act)
            self._may_call.set()

        crashes = asyncio.create_task(self._watch_for_crashes())
        await asyncio.gather(*(work() for _ in range(self._at_once)), *map(kill, kills))
        crashes.cancel()

    def _note_death(self, name: str) -> None:
        for number, outcome in self.outcomes.items():
            # Where a client has left, the call goes on without it.
            goes_on = not outcome.call.client.is_steady and time.monotonic() - outcome.ended < QUIET
            if number in self._open or goes_on:
                outcome.kills.append(name)

    async def _watch_for_crashes(self) -> None:
        """LiteLLM may die by itself: with Python 3.11.7 it was seen once in 30,000 calls, in CPython's contextvars."""
        while True:
            await asyncio.sleep(0.02)
            process = self.stage.proxy.process
            if self._may_call.is_set() and process is not None and process.poll() is not None:
                self.crashes.append(process.returncode)
                self._may_call.clear()
                self._note_death("litellm")
                await asyncio.to_thread(self.stage.proxy.start)
                self._may_call.set()

    async def _make(self, call: StormCall) -> None:
        outcome = self.outcomes[call.number] = Outcome(call, at=time.time(), began=time.monotonic())
        self._open.add(call.number)
        try:
            await asyncio.wait_for(self._talk(call, outcome), LONGEST)
        except TimeoutError:
            outcome.error = f"no end within {LONGEST} s"
        except (OSError, asyncio.IncompleteReadError) as error:
            outcome.error = type(error).__name__
        finally:
            outcome.ended = time.monotonic()
            self._open.discard(call.number)

    async def _talk(self, call: StormCall, outcome: Outcome) -> None:
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            request = _request(call, self.stage.keys[self.users[call.user]])
            client = call.client
            writer.write(request[: int(len(request) * client.sends)])
            await writer.drain()
            if client.sends < 1:
                await asyncio.sleep(0.02)
                return
            try:
                await asyncio.wait_for(self._read(reader, outcome, client.cut_after), client.leaves_after)
            except TimeoutError:
                if client.leaves_after is None:
                    raise
        finally:
            if call.client.resets:
                raw = writer.get_extra_info("socket")
                if raw is not None:
                    with suppress(OSError):
                        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    @staticmethod
    async def _read(reader: asyncio.StreamReader, outcome: Outcome, cut_after: int | None) -> None:
        while cut_after is None or len(outcome.received) < cut_after:
            part = await reader.read(65_536 if cut_after is None else cut_after - len(outcome.received))
            if not part:
                break
            outcome.received += part
            if outcome.status == 0 and b"\r\n" in outcome.received:
                outcome.status = int(outcome.received.split(b" ", 2)[1])
        outcome.is_whole = _is_whole(outcome.received)


def _request(call: StormCall, key: str) -> bytes:
    body = json.dumps(call.body).encode()
    lines = [
        f"POST {call.path} HTTP/1.1",
        "Host: proxy",
        f"Authorization: Bearer {key}",
        "Content-Type: application/json",
        "Connection: close",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in call.headers.items()),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def _is_whole(received: bytes) -> bool:
    """Whether an HTTP answer has come to its end."""
    head, _, body = received.partition(b"\r\n\r\n")
    for line in head.lower().split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == b"content-length":
            return len(body) == int(value)
        if name == b"transfer-encoding":
            return body.endswith(b"0\r\n\r\n")
    return False


QUIET = OPERATORS_TIMEOUT + 3
"""Seconds after which nothing that was begun is still under way."""
