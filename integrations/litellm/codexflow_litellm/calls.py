"""The open calls of one LiteLLM process: each from its pre-call hook to its outcome."""

import asyncio
import logging
import secrets
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from codexflow_litellm import estimates
from codexflow_litellm.bounded import Bounded
from codexflow_litellm.events import Intent, trimmed
from codexflow_litellm.gate.exchange import Exchange, current
from codexflow_litellm.gate.sizes import Size
from codexflow_litellm.limits import Account, Amounts, Reservation
from codexflow_litellm.prices import Prices
from codexflow_litellm.spool import Spool

log = logging.getLogger("codexflow")

METADATA = ("litellm_metadata", "metadata")
"""Where LiteLLM keeps metadata, depending on the route. If both are there, the second is the client's own."""
_ID = "codexflow_call"
"""The name of a call's id in LiteLLM's metadata. A client's value of it is overwritten."""
_KEPT_IN_SPEND_LOGS = "spend_logs_metadata"
"""The part of metadata that LiteLLM keeps in its own database."""


@dataclass
class OpenCall:
    """A call between its pre-call hook and its outcome."""

    intent: Intent
    account: Account | None
    """``None`` for the operator."""
    concluded: asyncio.Future[None]
    """Done when the outcome is on the disk."""
    intended: Future[bool] | None = None
    """Done when the intent is on the disk."""
    has_event: bool = False
    """Whether a failed attempt of it was reported."""
    has_failed: bool = False
    """Whether LiteLLM makes no further attempt."""
    attempts: int = 0
    """How often a provider was about to be called."""
    tags: tuple[str, ...] = ()
    """The client's own labels."""
    prompt_tokens: int = 0
    """An estimate."""
    end_user: str | None = None
    exchange: Exchange | None = None
    deployment: Mapping[str, Any] = field(default_factory=dict)
    """The deployment of the last attempt, by which LiteLLM finds prices."""
    failures: dict[Any, int] = field(default_factory=dict)
    """The tokens of each failed attempt, by the moment at which it called its provider."""
    overdue_at: float | None = None
    """The moment until which LiteLLM must have reported the outcome, on the monotonic clock."""
    taken: Amounts = field(default_factory=Amounts)
    """The sum of its events."""
    size: Size = field(default_factory=Size)
    """What it may take at the most."""

    @property
    def is_counted(self) -> bool:
        """Whether an event of it has tokens."""
        return bool(self.taken.tokens)

    def takes_failure(self, attempt: Any, tokens: int) -> bool:
        """Notes that an attempt failed; false where that was known, with as many tokens or more."""
        if self.failures.get(attempt, -1) >= tokens:
            return False
        self.failures[attempt] = tokens
        return True


class Calls:
    """The open calls by their ids, what they have reserved, and how each ends."""

    OUTCOME_SECONDS = 30.0
    """How long an answer waits for its outcome. LiteLLM stops a callback after 20 s."""
    FAILED_SECONDS = 3.0
    """The same after a failed attempt: a stream that broke in its middle ends without another outcome."""
    OVERDUE = 10_000
    """Overdue calls that are remembered."""

    def __init__(self, spool: Spool, prices: Prices, now: Callable[[], float]) -> None:
        self._spool, self._prices, self._now = spool, prices, now
        self._open: dict[str, OpenCall] = {}
        self._reservations: dict[str, Reservation] = {}
        self._overdue: Bounded[str, None] = Bounded(self.OVERDUE)
        """Calls whose event was made here because LiteLLM reported none. A later report would count twice."""

    def find(self, data: Mapping[str, Any]) -> OpenCall | None:
        """The open call whose id is in LiteLLM's metadata."""
        return self._open.get(id_in(data))

    def begin(self, call: OpenCall) -> None:
        """Reserves what a call may take and sends its intent to the spool."""
        if call.account is not None:
            size = call.size
            cost = self._prices.cost(call.intent.model, size)
            amounts = Amounts(1, size.prompt_tokens + size.answer_tokens, cost)
            reservation = Reservation(call.intent.started, amounts)
            call.account.reservations[call.intent.call] = reservation
            self._reservations[call.intent.call] = reservation
        self._open[call.intent.call] = call
        call.intended = self._spool.intend(call.intent)

    def forget(self, call: OpenCall) -> None:
        """Removes a call that gets no further event, and closes its intent."""
        self._open.pop(call.intent.call, None)
        reservation = self._reservations.pop(call.intent.call, None)
        if reservation is not None and call.is_counted:
            # Its events are on their way to webhook-api, or already there.
            reservation.amounts, reservation.acknowledged_at = call.taken, time.monotonic()
        elif call.account is not None:
            call.account.reservations.pop(call.intent.call, None)
        self._spool.close_intent(call.intent.call)

    def report_unknown(self, started_before: float) -> None:
        """Reports calls that LiteLLM never concluded as unknown; runs in a thread of its own."""
        intents = self._spool.intents(before=started_before)
        for intent in intents:
            self._open.pop(intent.call, None)
        self._spool.report_unknown(intents)

    def acknowledged(self, calls: Iterable[str]) -> None:
        """Notes that ``webhook-api`` has stored events of these calls; runs in the thread of a delivery."""
        at = time.monotonic()
        for call in calls:
            # The stored event of a call that is still open is that of a failed attempt.
            reservation = None if call in self._open else self._reservations.pop(call, None)
            if reservation is not None:
                reservation.acknowledged_at = at

    # Reports of LiteLLM

    def succeed(self, kwargs: Mapping[str, Any], response: Any) -> None:
        """Keeps LiteLLM's report of a served call, which concludes it."""
        payload = kwargs.get("standard_logging_object")
        if payload is None or id_in(kwargs) in self._overdue:
            return
        payload = estimates.with_usage(payload, kwargs.get("messages") or kwargs.get("input"), response)
        call = self.find(kwargs)
        if call is None:
            self._spool.conclude(trimmed(payload), None, closes=False)
            return
        payload = estimates.flagged(payload, call.exchange)
        self._add_up(call, payload)
        event = trimmed(payload, call.intent, call.tags)
        # An error in the lines above leaves the call open, so that its event is estimated when it is overdue.
        self._open.pop(call.intent.call)
        done = self._spool.conclude(event, call.intent.call, closes=True)
        done.add_done_callback(lambda _: _release(call))

    def fail(self, kwargs: Mapping[str, Any]) -> None:
        """Keeps LiteLLM's report of a failed attempt. A retry may still conclude the call."""
        payload = kwargs.get("standard_logging_object")
        if payload is None:
            return
        call = self.find(kwargs) or _call_of_this_request(kwargs)
        if call is None:
            self._spool.conclude(trimmed(payload), None, closes=False)
            return
        call.has_event = True
        tokens = int(payload.get("total_tokens") or 0)
        is_late = call.intent.call in self._overdue and tokens == 0
        if is_late or not call.takes_failure(kwargs.get("current_attempt_api_call_start_time"), tokens):
            return
        # Each attempt is an event of its own. LiteLLM's own database has one failure of a call: the one with tokens.
        is_recorded = tokens > 0 and sum(taken > 0 for taken in call.failures.values()) == 1
        event_id = str(payload.get("id")) + ("" if is_recorded else f":{len(call.failures)}")
        payload = estimates.flagged({**payload, "id": event_id}, call.exchange)
        if tokens > 0:
            self._add_up(call, payload)
        self._spool.conclude(trimmed(payload, call.intent, call.tags), call.intent.call, closes=False)
        if call.has_failed and call.exchange is None:
            self.forget(call)

    def fail_for_good(self, data: Mapping[str, Any]) -> None:
        """Notes that LiteLLM makes no further attempt: each one was reported or will be."""
        call = self.find(data)
        if call is None:
            return
        call.has_failed = True
        if call.has_event and call.exchange is None:
            self.forget(call)

    # The end of a call

    async def finish(self, exchange: Exchange) -> None:
        """Ends the call of a request that was answered, with any status."""
        call = exchange.call
        if call is None or call.intent.call not in self._open:
            return
        if call.attempts == 0:
            # No provider was called: LiteLLM refused the request, or served it by itself.
            self.forget(call)
            return
        if call.has_failed and call.has_event and exchange.letters == 0:
            self.forget(call)
            return
        # Wait here and not in another task: when uvicorn stops, it waits for requests and for nothing else.
        try:
            await self.wait_for_outcome(call)
        finally:
            self._end_overdue(call, exchange)

    async def wait_for_outcome(self, call: OpenCall | None) -> None:
        """Waits until the outcome of a call is on the disk, or until it is overdue."""
        if call is None:
            return
        if call.overdue_at is None:
            call.overdue_at = time.monotonic() + self.OUTCOME_SECONDS
        has_failed = call.has_event or (call.exchange is not None and call.exchange.status >= 400)
        timeout = call.overdue_at - time.monotonic()
        if has_failed:
            timeout = min(timeout, self.FAILED_SECONDS)
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(call.concluded), timeout)

    def _end_overdue(self, call: OpenCall, exchange: Exchange) -> None:
        """Makes the event of an answered call that LiteLLM did not report in time."""
        if self._open.get(call.intent.call) is not call:
            return
        is_answered = exchange.status == 200 and (exchange.letters > 0 or not call.has_event)
        if is_answered and not call.is_counted:
            log.warning("LiteLLM did not report a call that it answered: its tokens are estimated")
            event = self._estimate(call, exchange)
        elif not call.has_event:
            event = call.intent.failure(exchange.status)
        else:
            self.forget(call)
            return
        self._overdue[call.intent.call] = None
        self._spool.conclude(event, call.intent.call, closes=True)
        self.forget(call)

    def _estimate(self, call: OpenCall, exchange: Exchange) -> str:
        sent, received = call.prompt_tokens, -(-exchange.letters // 4)
        usage = {
            **{"prompt_tokens": sent, "completion_tokens": received, "total_tokens": sent + received},
            **{"response_cost": estimates.cost(call.deployment, sent, received), "endTime": self._now()},
        }
        if call.size.images:
            usage["response_cost"] = None
        self._add_up(call, usage)
        return call.intent.estimate({**usage, **call.deployment, "end_user": call.end_user})

    @staticmethod
    def _add_up(call: OpenCall, payload: Mapping[str, Any]) -> None:
        """Replaces what was reserved by what the call has taken. After a failed attempt, it is added instead."""
        # webhook-api counts a cache hit as a request without tokens, too.
        tokens = 0 if payload.get("cache_hit") is True else int(payload.get("total_tokens") or 0)
        cost = Decimal(str(payload.get("response_cost") or 0))
        call.taken = Amounts(1, (call.taken.tokens or 0) + tokens, (call.taken.cost or 0) + cost)
        reservation = None if call.account is None else call.account.reservations.get(call.intent.call)
        if reservation is not None and payload.get("status") != "failure":
            reservation.amounts = call.taken
        elif reservation is not None:
            reserved = reservation.amounts
            reservation.amounts = Amounts(1, (reserved.tokens or 0) + tokens, (reserved.cost or 0) + cost)


def _release(call: OpenCall) -> None:
    """Lets the answer of a call end; runs in the thread of the spool."""

    def conclude() -> None:
        if not call.concluded.done():
            call.concluded.set_result(None)

    # The loop is closed when LiteLLM ends.
    with suppress(RuntimeError):
        call.concluded.get_loop().call_soon_threadsafe(conclude)


# The id of a call


def new_id(milliseconds: int) -> str:
    """A UUID of version 7, which begins with the start of its call in epoch milliseconds."""
    return str(
        uuid.UUID(int=milliseconds << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62))
    )


def set_id(data: dict[str, Any], call: str) -> None:
    """Writes the id of a call to LiteLLM's metadata."""
    holders = [data[name] for name in METADATA if isinstance(data.get(name), dict)]
    holders = holders or [data.setdefault("metadata", {})]
    for holder in holders:
        holder[_ID] = call
    kept = holders[0].get(_KEPT_IN_SPEND_LOGS)
    holders[0][_KEPT_IN_SPEND_LOGS] = {**(kept if isinstance(kept, dict) else {}), _ID: call}


def id_in(data: Mapping[str, Any]) -> str:
    """The id of a call in LiteLLM's metadata; empty where there is none."""
    parameters = data.get("litellm_params")
    for holder in (data, parameters if isinstance(parameters, dict) else {}):
        for name in METADATA:
            metadata = holder.get(name)
            if isinstance(metadata, dict) and isinstance(metadata.get(_ID), str):
                return str(metadata[_ID])
    return ""


def _call_of_this_request(kwargs: Mapping[str, Any]) -> OpenCall | None:
    """The call of the request that this task serves, if the report is about it. It may be forgotten already."""
    exchange = current()
    call: OpenCall | None = None if exchange is None else exchange.call
    return call if call is not None and call.intent.call == id_in(kwargs) else None
