"""The spool: intents and outcomes of calls in one SQLite file, until ``webhook-api`` has stored the outcomes."""

import fcntl
import logging
import queue
import sqlite3
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from codexflow_litellm.events import Intent
from codexflow_litellm.store import make_private, touch_private

log = logging.getLogger("codexflow")

Statement = tuple[str, Sequence[Any]]
_POISON = (sqlite3.IntegrityError, sqlite3.ProgrammingError, UnicodeError, OverflowError)
"""Errors that no later attempt can avoid."""


@dataclass(frozen=True)
class _Write:
    statements: tuple[Statement, ...]
    is_event: bool
    done: Future[bool] = field(default_factory=Future)

    def __post_init__(self) -> None:
        # A waiting task may be cancelled, as when a client hangs up. The write must not be cancelled with it.
        self.done.set_running_or_notify_cancel()


class Spool:
    """Intents and outcomes in one SQLite file, which one process at a time holds.

    A thread commits all waiting writes in one transaction and one fsync, off the event loop. Outcomes are numbered
    without gaps, so that ``webhook-api`` notices a missing one.
    """

    WAITING = 10_000
    """Writes that are kept in memory while the disk is full. The oldest are kept."""
    KEPT_SECONDS = 86_400
    """How long a delivered outcome is kept."""
    BATCH = 1_000
    IDLE_SECONDS = 0.5
    """After this time a delivery is noted, and writes that a full disk refused are tried again."""

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
        """Opens the spool; raises ``BlockingIOError`` where another process holds it."""
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
        """Events that were dropped because the disk and the memory were full."""
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._held: deque[_Write] = deque()
        self._delivered: int | None = None
        """The newest delivered outcome. The next commit notes it."""
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
        """The first spool of a directory that no living process holds. Each worker of LiteLLM has its own."""
        for number in range(1, 1_000):
            with suppress(BlockingIOError):
                return cls(directory / f"spool-{number}.sqlite")
        raise RuntimeError(f"{directory}: has no free spool")

    @classmethod
    def orphans(cls, directory: Path) -> "list[Spool]":
        """The spools of workers that ended, such as after a start with fewer workers."""
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
        """Notes a call that is about to be made. The result is true once that is on the disk, false without room."""
        row = (intent.call, intent.started, intent.key_hash, intent.user_id, intent.model, intent.call_type)
        return self._submit([("INSERT INTO intents VALUES (?, ?, ?, ?, ?, ?)", row)], is_event=True)

    def conclude(self, event: str, call: str | None, closes: bool) -> Future[bool]:
        """Keeps the event of a call; ``closes`` its intent if it is the last event of the call."""
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
        """Makes an event of each intent that no process works on any more."""
        for intent in intents:
            self.conclude(intent.unknown_outcome(), intent.call, closes=True)

    def delivered(self, through: int) -> None:
        """Notes that every outcome up to this one was answered 2xx, and removes those delivered a day ago.

        It needs no commit of its own. If the note is lost, a few events are sent twice and stored once.
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
        # The newest delivery stays: the next batch begins after it.
        old = "(SELECT max(through) FROM deliveries WHERE at < ?)"
        return (
            (f"DELETE FROM outcomes WHERE sequence <= {old}", (before,)),
            (f"DELETE FROM deliveries WHERE through < {old}", (before,)),
        )

    def _submit(self, statements: Iterable[Statement], is_event: bool) -> Future[bool]:
        write = _Write(tuple(statements), is_event)
        if self._closed:
            # The interpreter is ending, and has stopped the thread.
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
        """Commits the waiting writes; holds them in memory and logs that where the disk refuses them."""
        batch += self._note_of_delivery()
        with self._writing:
            writes = [*self._held, *batch]
            try:
                if self._held:
                    # Make room first: delivered outcomes need not stay on a full disk.
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
        """Commits each write alone, so that one that can never succeed fails alone."""
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
                    log.error("EVENTS ARE LOST: %d so far, because the spool's disk and memory are full", self.lost)
            write.done.set_result(False)

    # Reading

    def _read(self, text: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._reading:
            return self._reader.execute(text, values).fetchall()

    def intents(self, before: float = float("inf")) -> list[Intent]:
        """The calls without an outcome that began before a moment, in epoch seconds."""
        return [
            Intent(*row) for row in self._read("SELECT * FROM intents WHERE started < ? ORDER BY started", (before,))
        ]

    def delivered_through(self) -> int:
        """The number of the last outcome that was answered 2xx."""
        return int(self._read("SELECT coalesce(max(through), 0) FROM deliveries")[0][0])

    def batch(self, after: int, through: int | None, events: int, size: int) -> list[tuple[int, str | None, str]]:
        """The outcomes after one, in order and without a gap: number, call, event; ``size`` bounds all their text."""
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
        """Commits the waiting writes. Later ones are committed at once by their caller."""
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
