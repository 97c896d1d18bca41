"""Limits: what an answer of ``webhook-api`` allows, what it counts, and what was reserved since."""

import calendar
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from codexflow_litellm.gate.refusal import Refusal


@dataclass(frozen=True)
class Amounts:
    """Requests, tokens and USD: what a limit allows, what is used, what a call takes. ``None`` is no limit."""

    requests: int | None = 0
    tokens: int | None = 0
    cost: Decimal | None = Decimal(0)


@dataclass(frozen=True)
class Window:
    """One of the user's calendar windows in UTC."""

    period: str
    resets_at: float
    """Epoch seconds."""
    limit: Amounts
    used: Amounts

    def start_at(self, now: float) -> tuple[float, float]:
        """Start and end of the window of this period that contains ``now``, in epoch seconds."""
        moment = datetime.fromtimestamp(now, UTC)
        if self.period == "daily":
            start = moment.replace(hour=0, minute=0, second=0, microsecond=0).timestamp()
            return start, start + 86_400
        days = calendar.monthrange(moment.year, moment.month)[1]
        start = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()
        return start, start + days * 86_400


@dataclass(frozen=True)
class Answer:
    """What ``webhook-api`` answers about a key. Limits are judged here: only this process knows its open calls."""

    user_id: int | None
    status: str | None
    models: frozenset[str] | None
    windows: tuple[Window, ...]
    is_unverified: bool
    """Whether the user has not verified their e-mail address yet. All limits are zero until then."""
    is_unknown: bool
    """Whether the rest of a budget cannot be computed."""
    text: str
    """The JSON of the answer. The store keeps it for a time in which ``webhook-api`` is down."""

    @classmethod
    def parse(cls, text: str) -> "Answer":
        """Reads the JSON of an answer.

        Raises ``AttributeError``, ``KeyError``, ``TypeError``, ``ValueError`` or ``ArithmeticError`` for anything else.
        """
        value = json.loads(text)
        models = value.get("models")
        return cls(
            user_id=value["user_id"],
            status=value.get("status"),
            models=None if models is None else frozenset(models),
            windows=tuple(
                Window(
                    period=window["period"],
                    resets_at=datetime.fromisoformat(window["resets_at"].replace("Z", "+00:00")).timestamp(),
                    limit=_amounts(window, "limit"),
                    used=_amounts(window, "used"),
                )
                for window in value.get("windows", ())
            ),
            is_unverified=value.get("reason") == "unverified",
            is_unknown=value.get("reason") == "limit_unknown",
            text=text,
        )


def _amounts(window: Mapping[str, Any], name: str) -> Amounts:
    cost = window["cost"][name]
    return Amounts(window["requests"][name], window["tokens"][name], None if cost is None else Decimal(cost))


@dataclass
class Reservation:
    """What one call takes of the limits of its user, until an answer of ``webhook-api`` counts it."""

    started: float
    """Epoch seconds."""
    amounts: Amounts
    acknowledged_at: float | None = None
    """When ``webhook-api`` had stored the events of the call, on the monotonic clock."""


@dataclass
class Account:
    """The last answer about a user, and the calls that were let through since."""

    answer: Answer
    asked_at: float
    """When the answer was requested, on the monotonic clock."""
    reservations: dict[str, Reservation] = field(default_factory=dict)
    """By the id of the call."""

    def renew(self, answer: Answer, asked_at: float) -> None:
        """Takes a newer answer. It counts every event that was stored before it was requested."""
        self.answer, self.asked_at = answer, asked_at
        for call, reservation in list(self.reservations.items()):
            if reservation.acknowledged_at is not None and reservation.acknowledged_at < asked_at:
                del self.reservations[call]

    def refusal(self, models: Iterable[str], now: float, own: str | None = None) -> Refusal | None:
        """Why a call of these models is refused now; ``own`` is a call whose own reservation does not count."""
        if self.answer.user_id is None:
            return Refusal(401, "invalid_api_key", "This API key is not known. Check the key.")
        if self.answer.status != "active":
            return Refusal(403, "account_suspended", "This account is suspended. Contact your provider.")
        if self.answer.is_unverified:
            message = "The e-mail address of this account is not verified. Verify it, then try again."
            return Refusal(403, "address_not_verified", message)
        if self.answer.is_unknown:
            message = "What is left of this account's budget cannot be computed. Contact your provider."
            return Refusal(503, "limit_unknown", message)
        if self.answer.models is not None:
            for model in models:
                if model not in self.answer.models:
                    return Refusal(403, "model_not_allowed", f"This account may not use the model '{model[:100]}'.")
        for window in self.answer.windows:
            if (refusal := self._spent(window, now, own)) is not None:
                return refusal
        return None

    def _spent(self, window: Window, now: float, own: str | None) -> Refusal | None:
        start, end = window.start_at(now)
        # A window that began after the answer is empty, except for the calls that were let through here.
        used = window.used if window.resets_at > now else Amounts()
        taken = [r.amounts for call, r in list(self.reservations.items()) if r.started >= start and call != own]
        limit = window.limit
        spent = [
            name
            for name, allowed, amount in (
                ("requests", limit.requests, (used.requests or 0) + sum(a.requests or 0 for a in taken)),
                ("tokens", limit.tokens, (used.tokens or 0) + sum(a.tokens or 0 for a in taken)),
                ("budget", limit.cost, (used.cost or 0) + sum(a.cost or 0 for a in taken)),
            )
            if allowed is not None and amount >= allowed
        ]
        if not spent:
            return None
        reset = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        kind = "insufficient_quota" if spent[0] == "budget" else "rate_limit_exceeded"
        message = f"The {window.period} limit of {' and '.join(spent)} is reached. It resets at {reset}."
        return Refusal(429, kind, message, end)
