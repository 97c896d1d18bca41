"""The store of answers about keys, for a time in which ``webhook-api`` is down. All workers of a LiteLLM share it."""

import os
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def make_private(directory: Path) -> None:
    """Makes a directory that only its owner can enter, or makes an existing one private."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    directory.chmod(0o700)


def touch_private(path: Path) -> None:
    """Makes a file that only its owner can read. SQLite gives its companions the same mode."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    for companion in (path, *path.parent.glob(path.name + "-*")):
        companion.chmod(0o600)


@dataclass(frozen=True)
class Known:
    """The newest answer about a key."""

    text: str | None
    """The answer's JSON; ``None`` is a refusal: the key belongs to no user any more."""
    asked_at: float
    """When it was requested, in epoch seconds."""


class AnswerStore:
    """The newest answer about each key, refusals included, in one SQLite file.

    A refusal replaces the answer that it ends. So a key that was rotated, deleted or expired stays refused by every
    worker while ``webhook-api`` is down.
    """

    KEPT_SECONDS = 30 * 86_400
    """How long a refusal or an answer is kept that was not renewed."""

    def __init__(self, path: Path, now: Callable[[], float] = time.time) -> None:
        make_private(path.parent)
        touch_private(path)
        self._now = now
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS answers "
            "(key_hash TEXT PRIMARY KEY, answer TEXT, asked_at REAL NOT NULL) WITHOUT ROWID"
        )
        self._connection.execute("DELETE FROM answers WHERE asked_at < ?", (now() - self.KEPT_SECONDS,))

    def remember(self, key_hash: str, text: str, asked_at: float) -> None:
        """Keeps an answer, unless a newer one is there."""
        self._run(
            "INSERT INTO answers VALUES (?, ?, ?) ON CONFLICT (key_hash) DO UPDATE "
            "SET answer = excluded.answer, asked_at = excluded.asked_at WHERE answers.asked_at < excluded.asked_at",
            (key_hash, text, asked_at),
        )

    def refuse(self, key_hash: str, asked_at: float) -> None:
        """Keeps that a known key has ended. A key that was never known is not kept: anybody can send many of them."""
        self._run(
            "UPDATE answers SET answer = NULL, asked_at = ? WHERE key_hash = ? AND asked_at < ?",
            (asked_at, key_hash, asked_at),
        )

    def recall(self, key_hash: str) -> Known | None:
        """The newest answer about a key, or ``None`` where it was never known."""
        rows = self._run("SELECT answer, asked_at FROM answers WHERE key_hash = ?", (key_hash,))
        return Known(*rows[0]) if rows else None

    def oldest(self, before: float, count: int) -> list[str]:
        """The keys whose answers are older than a moment, the oldest first."""
        rows = self._run(
            "SELECT key_hash FROM answers WHERE answer IS NOT NULL AND asked_at < ? ORDER BY asked_at LIMIT ?",
            (before, count),
        )
        return [str(row[0]) for row in rows]

    def close(self) -> None:
        """Closes the file."""
        with self._lock:
            self._connection.close()

    def _run(self, text: str, values: tuple[object, ...]) -> list[tuple[str | None, float]]:
        with self._lock:
            return self._connection.execute(text, values).fetchall()
