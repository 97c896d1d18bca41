"""The delivery of a spool's outcomes to ``webhook-api``."""

import json
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence

from codexflow_litellm.settings import Settings
from codexflow_litellm.spool import Spool
from codexflow_litellm.webhook import Backend, Unreachable

log = logging.getLogger("codexflow")


class Delivery:
    """Sends a spool's outcomes to ``webhook-api`` in order, one request at a time, until each was answered 2xx."""

    EVENTS = 500
    """Of one request."""
    SIZE = 1_000_000
    """Characters of one request."""
    LINGER_SECONDS = 0.1
    """The time in which outcomes gather. A request with many costs ``webhook-api`` little more than one with one."""
    LONGEST_PAUSE_SECONDS = 10.0

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
        self._through = spool.delivered_through()
        """The last outcome that was answered 2xx."""
        self._limit = self.EVENTS
        self._stopping = threading.Event()

    def run(self) -> None:
        """Delivers until ``stop``. After an error it waits, longer each time, and sends the same events again."""
        pause = 0.0
        while not self._stopping.is_set():
            self.spool.written.wait(timeout=1)
            self._stopping.wait(self.LINGER_SECONDS)
            self.spool.written.clear()
            try:
                while (sent := self.deliver()) and not self._stopping.is_set():
                    self._stopping.wait(max(self.LINGER_SECONDS, sent / self._per_second))
                pause = 0.0
            except (Unreachable, sqlite3.Error) as error:
                pause = min(max(1.0, pause * 2), self.LONGEST_PAUSE_SECONDS)
                log.warning("events are not delivered (%s); the next attempt is in %.0f s", error, pause)
                self._stopping.wait(pause)
                self.spool.written.set()

    def stop(self) -> None:
        """Lets ``run`` return after its current request."""
        self._stopping.set()
        self.spool.written.set()

    def deliver(self) -> int:
        """Sends the next batch, if there is any, and returns its size; raises ``Unreachable`` where that failed."""
        batch = self.spool.batch(self._through, None, self._limit, self.SIZE)
        if not batch:
            return 0
        missing = self._send(batch)
        self._through = batch[-1][0]
        self.spool.delivered(self._through)
        self._acknowledged(call for _, call, _ in batch if call is not None)
        for first, last in missing:
            self._send_again(first, min(last, self._through))
        return len(batch)

    def _send_again(self, first: int, last: int) -> None:
        """Sends a range that ``webhook-api`` misses, as after a restore of its database, as far as it is kept here."""
        log.warning("webhook-api misses the events %d to %d; they are sent again", first, last)
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
            # Another server answered, such as a proxy with its own page.
            raise Unreachable("another server answered in place of webhook-api") from None
