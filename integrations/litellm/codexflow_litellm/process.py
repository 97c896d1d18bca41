"""One LiteLLM process: its version is checked, the hooks are made once, and the background jobs run beside requests."""

import atexit
import importlib.metadata
import logging
import os
import re
import sqlite3
import threading
import time
from functools import cache, partial

from fastapi import Request
from litellm.proxy._types import UserAPIKeyAuth

from codexflow_litellm.calls import Calls
from codexflow_litellm.delivery import Delivery
from codexflow_litellm.hooks import CodexFlow
from codexflow_litellm.keys import Accounts, authorize
from codexflow_litellm.prices import Prices, price_of_group
from codexflow_litellm.settings import Settings
from codexflow_litellm.spool import Spool
from codexflow_litellm.store import AnswerStore
from codexflow_litellm.webhook import Backend, Unreachable

log = logging.getLogger("codexflow")

_OLDEST = (1, 109, 1)
_COMPROMISED = ("1.107.0",)


@cache
def hooks() -> CodexFlow:
    """The hooks of this process, made when LiteLLM first takes them.

    Raises ``RuntimeError`` for an unsafe LiteLLM, ``ValueError`` for a wrong setting.
    """
    check_version(importlib.metadata.version("litellm"))
    settings = Settings.read(os.environ)
    backend = Backend(settings)
    spool = Spool.claim(settings.spool)
    accounts = Accounts(partial(authorize, backend), settings, AnswerStore(settings.spool / "answers.sqlite"))
    prices = Prices(price_of_group, time.monotonic)
    calls = Calls(spool, prices, time.time)
    made = CodexFlow(settings, accounts, calls, prices)
    BackgroundJobs(settings, backend, spool, accounts, calls).start()
    made.guard()
    return made


async def authenticate(request: Request, api_key: str) -> UserAPIKeyAuth:
    """LiteLLM's ``custom_auth``."""
    return await hooks().authenticate(request, api_key)


class BackgroundJobs:
    """The threads beside requests: deliveries, the search for left spools and calls, and the renewal of answers."""

    LEFT_SECONDS = 30
    """How often spools of ended workers and calls without an outcome are looked for."""
    LONGEST_CALL_SECONDS = 7_200
    """A call without an outcome is reported as unknown after this time. LiteLLM's own limit is 6,000."""
    REFRESH_SECONDS = 60.0
    """How old an answer may be when an outage begins."""

    def __init__(self, settings: Settings, backend: Backend, spool: Spool, accounts: Accounts, calls: Calls) -> None:
        self._settings, self._backend, self._spool = settings, backend, spool
        self._accounts, self._calls = accounts, calls

    def start(self) -> None:
        """Reports the calls that the last process left open, and starts the threads."""
        left = self._spool.intents()
        self._spool.report_unknown(left)
        if left:
            log.warning("%d calls were cut off when LiteLLM ended; they are reported as outcome_unknown", len(left))
        self._deliver(self._spool)
        threading.Thread(target=self._adopt_left, name="codexflow-spools", daemon=True).start()
        threading.Thread(target=self._refresh_answers, name="codexflow-answers", daemon=True).start()
        atexit.register(self._spool.close)

    def _deliver(self, spool: Spool) -> None:
        delivery = Delivery(spool, self._backend, self._settings, self._calls.acknowledged)
        threading.Thread(target=delivery.run, name="codexflow-delivery", daemon=True).start()

    def _adopt_left(self) -> None:
        """Delivers the spools of ended workers, and reports calls that LiteLLM never concluded."""
        while True:
            time.sleep(self.LEFT_SECONDS)
            try:
                for spool in Spool.orphans(self._settings.spool):
                    spool.report_unknown(spool.intents())
                    self._deliver(spool)
                self._calls.report_unknown(time.time() - self.LONGEST_CALL_SECONDS)
            except (OSError, sqlite3.Error) as error:
                log.warning("the spools cannot be checked for left calls: %s", type(error).__name__)

    def _refresh_answers(self) -> None:
        """Renews the answers that an outage would have to rely on, ten at a time."""
        while True:
            time.sleep(self.REFRESH_SECONDS / 10)
            try:
                while self._accounts.refresh(self.REFRESH_SECONDS, 10) == 10:
                    time.sleep(0.2)
            except (Unreachable, sqlite3.Error):
                # The requests that meet the same error log it.
                continue


def check_version(version: str) -> None:
    """Raises ``RuntimeError`` for a LiteLLM with which no call is safe."""
    if version in _COMPROMISED:
        raise RuntimeError(
            f"LiteLLM {version} was compromised. Remove it, change every secret it saw, install another."
        )
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    if numbers < _OLDEST:
        raise RuntimeError(f"LiteLLM {version} loses events. Install {'.'.join(map(str, _OLDEST))} or newer.")
