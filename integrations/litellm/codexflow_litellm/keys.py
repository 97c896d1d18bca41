"""Keys and their accounts: asked from ``webhook-api``, kept for a few seconds, and by a store for an outage."""

import asyncio
import json
import logging
import sqlite3
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from codexflow_litellm.bounded import Bounded
from codexflow_litellm.limits import Account, Answer
from codexflow_litellm.settings import Settings
from codexflow_litellm.store import AnswerStore
from codexflow_litellm.webhook import Backend, Unreachable

log = logging.getLogger("codexflow")


def authorize(backend: Backend, key_hash: str) -> Answer:
    """Asks ``webhook-api`` about a key; raises ``Unreachable`` where it gives no usable answer."""
    status, body = backend.post("/api/litellm/authorize", json.dumps({"key_hash": key_hash}).encode(), {}, timeout=2)
    if status != 200:
        raise Unreachable(f"webhook-api answered {status} to an authorization")
    try:
        return Answer.parse(body.decode())
    except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError):
        raise Unreachable("webhook-api's answer to an authorization cannot be read") from None


class Accounts:
    """The accounts of the keys that were used lately."""

    CAPACITY = 20_000
    UNKNOWN_CAPACITY = 10_000
    RETRY_SECONDS = 1.0
    """After a failure, ``webhook-api`` is asked again only after this time."""

    def __init__(
        self,
        ask: Callable[[str], Answer],
        settings: Settings,
        store: AnswerStore,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._ask, self._settings, self._store, self._now = ask, settings, store, now
        self._accounts: OrderedDict[str, Account] = OrderedDict()
        self._unknown: Bounded[str, float] = Bounded(self.UNKNOWN_CAPACITY)
        """Keys that belong to no user, and when each was asked about, on the monotonic clock."""
        self._asking: dict[str, asyncio.Future[Account | None]] = {}
        self._failed_at = float("-inf")
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="codexflow-ask")

    def known(self, key_hash: str) -> Account | None:
        """The account by the last answer, however old that is."""
        return self._accounts.get(key_hash)

    async def current(self, key_hash: str) -> Account | None:
        """The account of a key by a recent answer, else by the last known one; ``None`` for an unknown key.

        Raises ``Unreachable`` where ``webhook-api`` is down and the key may not be served meanwhile.
        """
        now = time.monotonic()
        account = self._accounts.get(key_hash)
        if account is not None and now - account.asked_at < self._settings.answer_seconds:
            self._accounts.move_to_end(key_hash)
            return account
        refused_at = self._unknown.get(key_hash)
        if refused_at is not None and now - refused_at < self._settings.answer_seconds:
            return None
        if now - self._failed_at < self.RETRY_SECONDS:
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
            log.warning("%s; the last known limits are used", error)
            return self._last_known(key_hash)
        if answer.user_id is None:
            self._accounts.pop(key_hash, None)
            self._unknown[key_hash] = asked_at
            return None
        account = self._accounts.get(key_hash)
        if account is None:
            account = self._accounts.setdefault(key_hash, Account(answer, asked_at))
            self._forget_idle()
        else:
            account.renew(answer, asked_at)
        self._unknown.pop(key_hash, None)
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
            raise Unreachable("webhook-api is down, and its kept answers cannot be read") from None
        is_refused = key_hash in self._unknown
        if known is None and not is_refused:
            # A key that was never seen is refused in either mode: ``open`` serves known customers only.
            raise Unreachable("webhook-api is down")
        if known is None or known.text is None or is_refused:
            self._accounts.pop(key_hash, None)
            return None
        if not self._settings.serves_when_down:
            raise Unreachable("webhook-api is down")
        account = self._accounts.get(key_hash)
        return account or self._accounts.setdefault(key_hash, Account(Answer.parse(known.text), float("-inf")))

    def refresh(self, older_than: float, count: int) -> int:
        """Asks again about the ``count`` keys with the oldest answers, so that an outage begins with recent ones."""
        keys = self._store.oldest(self._now() - older_than, count)
        for key_hash in keys:
            self._ask_and_keep(key_hash)
        return len(keys)

    def _forget_idle(self) -> None:
        for key_hash, account in list(self._accounts.items())[: max(0, len(self._accounts) - self.CAPACITY)]:
            if not account.reservations:
                del self._accounts[key_hash]
