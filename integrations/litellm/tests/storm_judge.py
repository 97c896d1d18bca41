"""Compares what the provider has served with what was counted, call by call."""

import json
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from provider import Attempt
from stage import Stage
from storm_calls import ALLOWED, FALLBACKS, GROUPS, INPUT_PRICE, OUTPUT_PRICE
from storm_client import Outcome, Storm

FLAG = "codexflow_usage_estimated"
UNKNOWN = "outcome_unknown"


@dataclass(frozen=True)
class Event:
    """An event of a spool."""

    text: dict[str, Any]

    @property
    def input(self) -> int:
        """Tokens of the prompt."""
        return int(self.text.get("prompt_tokens") or 0)

    @property
    def output(self) -> int:
        """Tokens of the answer."""
        return int(self.text.get("completion_tokens") or 0)

    @property
    def cost(self) -> float:
        """USD."""
        return float(self.text.get("response_cost") or 0)

    @property
    def status(self) -> str:
        """`success` or `failure`."""
        return str(self.text.get("status"))

    @property
    def is_success(self) -> bool:
        """Whether it is about an answer."""
        return self.status == "success"

    @property
    def is_estimated(self) -> bool:
        """Whether the module says that the tokens are no provider's."""
        return self.text.get(FLAG) is True

    @property
    def is_unknown(self) -> bool:
        """Whether nothing was heard of the call any more."""
        return str((self.text.get("error_information") or {}).get("error_code")) == UNKNOWN

    @property
    def user(self) -> str:
        """The hash of the customer's key."""
        return str((self.text.get("metadata") or {}).get("user_api_key_hash"))

    @property
    def group(self) -> str:
        """The model that was asked for, or fallen back to."""
        return str(self.text.get("model_group"))

    def __str__(self) -> str:
        """For a failing test."""
        error = self.text.get("error_information") or {}
        shown = f"{self.status} {self.input}/{self.output} {self.cost:.6f} USD {self.group} ({self.text.get('model')})"
        shown += " estimated" if self.is_estimated else ""
        shown += " cache hit" if self.text.get("cache_hit") is True else ""
        if error.get("error_code") or error.get("error_message"):
            shown += f" {error.get('error_code')} {str(error.get('error_message'))[:120]!r}"
        return f"{shown} as {self.text.get('call_type')} of {self.text.get('end_user')}"


@dataclass(frozen=True)
class Finding:
    """Something that was served and not counted, or the other way round."""

    kind: str
    outcome: Outcome | None
    attempts: tuple[Attempt, ...]
    events: tuple[Event, ...]

    @property
    def cause(self) -> str:
        """What was special about the call."""
        if self.outcome is None:
            return "?"
        call = self.outcome.call
        parts = [call.kind + (" stream" if call.is_stream else "")]
        parts += sorted({_short(attempt) for attempt in self.attempts})
        if not call.client.is_steady:
            parts.append("client leaves" if call.client.sends == 1 else "client sends half")
        parts += [f"[{name}]" for name in sorted(call.hostile)]
        parts += [f"{name} killed" for name in self.outcome.kills]
        return ", ".join(parts)

    def __str__(self) -> str:
        """All that is needed to see it again."""
        lines = [f"{self.kind}: {self.outcome.call if self.outcome else 'no call'}"]
        lines.append(f"  client: {self.outcome}" if self.outcome else "")
        lines += [f"  provider: {attempt}" for attempt in self.attempts]
        lines += [f"  counted: {event}" for event in self.events] or ["  counted: nothing"]
        return "\n".join(line for line in lines if line)


def _short(attempt: Attempt) -> str:
    fault = attempt.fault
    for name, is_so in (
        (f"{fault.status}", fault.status != 200),
        ("break before the first byte", fault.break_after == -1),
        ("break within", fault.break_after is not None),
        ("stall", fault.stall_after is not None),
        ("garbled", fault.garbles),
        ("no usage stated", not fault.states_usage),
        ("slow", fault.delay > 3),
    ):
        if is_so:
            return name
    return "served" if attempt.end == "whole" else attempt.end


def events(stage: Stage) -> list[Event]:
    """All events of all spools."""
    found = []
    for path in sorted(stage.spools.glob("spool-*.sqlite")):
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            rows = connection.execute("SELECT event FROM outcomes ORDER BY sequence").fetchall()
        finally:
            connection.close()
        found += [Event(json.loads(text)) for [text] in rows]
    return found


@dataclass(frozen=True)
class OpenIntent:
    """A call that a spool takes to be under way."""

    call: str
    started: float
    user: str
    model: str

    def __str__(self) -> str:
        """For a failing test."""
        return f"an intent of {self.model} that is still open"


def open_calls(stage: Stage) -> set[OpenIntent]:
    """The open intents of all spools."""
    found: set[OpenIntent] = set()
    for path in stage.spools.glob("spool-*.sqlite"):
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            rows = connection.execute("SELECT call, started, key_hash, model FROM intents").fetchall()
        finally:
            connection.close()
        found |= {OpenIntent(*row) for row in rows}
    return found


def undelivered(stage: Stage) -> list[Finding]:
    """Where the rows of the database are not the events of the spools, each once."""
    spooled = Counter((event.input, event.output, event.user, event.is_success) for event in events(stage))
    stored = Counter(
        (int(input), int(output), key, status == "success")
        for input, output, key, status in stage.postgres.sql(
            "SELECT input_tokens, output_tokens, encode(key_hash, 'hex'), status FROM metering.events"
        )
    )
    lines = [
        f"{'in the spools' if n > 0 else 'stored'}, {abs(n)} too many: {row}" for row, n in _difference(spooled, stored)
    ]
    return [Finding(f"rows are not the events: {line}", None, (), ()) for line in lines]


def _difference(one: Counter[Any], other: Counter[Any]) -> list[tuple[Any, int]]:
    return [(row, one[row] - other[row]) for row in one | other if one[row] != other[row]]


class Judge:
    """The provider's log beside the events of a storm."""

    def __init__(self, storm: Storm, counted: list[Event], attempts: list[Attempt]) -> None:
        self._storm = storm
        self._stage = storm.stage
        self._counted = counted
        self._logged = attempts
        self._of_call: dict[int, list[Event]] = defaultdict(list)
        self._attempts: dict[int, list[Attempt]] = defaultdict(list)
        self.findings: list[Finding] = []
        self._serials = {attempt.serial: attempt for attempt in attempts}
        self.figures: Counter[str] = Counter()

    def judge(self, still_open: set[OpenIntent]) -> list[Finding]:
        """What is wrong."""
        for attempt in self._logged:
            if attempt.call in self._storm.outcomes:
                self._attempts[attempt.call].append(attempt)
            else:
                self._find("call without a number", None, [attempt], [])
        homeless = []
        for event in self._counted:
            number = self._number(event)
            if number is None and event.input + event.output > 0 and (namesake := self._unmarked(event)) is not None:
                number = namesake.call.number
            if number is None:
                homeless.append(event)
            else:
                self._of_call[number].append(event)
        for number, outcome in self._storm.outcomes.items():
            self._judge_call(outcome, self._attempts[number], self._of_call[number])
        self._judge_homeless(homeless)
        for intent in still_open:
            nearest = self._nearest(self._storm.outcomes.values(), intent.user, (intent.model,), intent.started)
            number = nearest.call.number if nearest else 0
            self._find("intent without an end", nearest, self._attempts[number], self._of_call[number])
        return self.findings

    def _unmarked(self, event: Event) -> Outcome | None:
        """The call of an estimate, where what the customer sent as its end user is not our mark."""
        groups = (event.group, *(group for group, other in FALLBACKS.items() if other == event.group))
        unmarked = [o for o in self._storm.outcomes.values() if o.call.mark not in json.dumps(o.call.body)]
        return self._nearest(unmarked, event.user, groups, float(event.text.get("startTime") or 0))

    def _nearest(
        self, outcomes: Iterable[Outcome], user: str, models: tuple[str, ...], started: float
    ) -> Outcome | None:
        """The call that began last before a moment, of a customer and a model."""
        alike = [
            outcome
            for outcome in outcomes
            if self._stage.key_hash(self._storm.users[outcome.call.user]) == user
            and outcome.call.model in models
            and outcome.at < started + 0.01
        ]
        return max(alike, key=lambda outcome: outcome.at, default=None)

    def _find(self, kind: str, outcome: Outcome | None, attempts: list[Attempt], counted: list[Event]) -> None:
        self.findings.append(Finding(kind, outcome, tuple(attempts), tuple(counted)))

    def _number(self, event: Event) -> int | None:
        """The call that an event belongs to: by tokens that no other has, else by the end user it named."""
        attempt = self._serials.get(event.input)
        if attempt is not None and attempt.call in self._storm.outcomes:
            return attempt.call
        name = str(event.text.get("end_user") or "")
        if name.startswith("storm-") and name[6:].isdigit() and int(name[6:]) in self._storm.outcomes:
            return int(name[6:])
        return None

    def _judge_call(self, outcome: Outcome, attempts: list[Attempt], counted: list[Event]) -> None:
        figures = self.figures
        figures["calls"] += 1
        figures["reached the provider"] += bool(attempts)
        figures["attempts"] += len(attempts)
        figures[f"answered {outcome.status or 'nothing'}"] += 1
        wrong = [kind for attempt in attempts for kind in self._judge_attempt(outcome, attempt, counted)]
        exact = {attempt.serial for attempt in attempts}
        loose = [event for event in counted if event.input not in exact and event.input + event.output > 0]
        cut = not outcome.call.client.is_steady
        partial = [a for a in attempts if ((cut and a.end != "refused") or _is_partial(a)) and not _exact(a, counted)]
        for event in loose:
            if event.text.get("cache_hit") is True:
                continue
            if not event.is_estimated:
                wrong.append("estimate without a flag" if attempts else "tokens without a call")
        if len(loose) > len(partial):
            wrong.append("more counted than served")
        if sum(_must_count(attempt) for attempt in partial) > len(loose) and not outcome.kills:
            wrong.append("answer begun, nothing counted")
        if wrong:
            self._find(" + ".join(dict.fromkeys(wrong)), outcome, attempts, counted)

    def _judge_attempt(self, outcome: Outcome, attempt: Attempt, counted: list[Event]) -> list[str]:
        mine = [event for event in counted if event.input == attempt.serial and event.text.get("cache_hit") is not True]
        if not attempt.has_usage or attempt.fault.garbles:
            self.figures["begun and broken"] += attempt.words > 0
            wrong = ["counted twice"] if len(mine) > 1 else []
            # Anthropic states the prompt's tokens at once, and the answer's at the end.
            guessed = [event for event in mine if event.output != attempt.output]
            wrong += ["estimate without a flag"] if any(not event.is_estimated for event in guessed) else []
            if attempt.end == "whole" and not attempt.fault.garbles and not counted and not outcome.kills:
                wrong.append("no event at all")
            return wrong
        self.figures["served with usage"] += 1
        if not mine:
            if _is_partial(attempt) or not outcome.call.client.is_steady:
                return []  # An estimate stands for it.
            return [] if "litellm" in outcome.kills else ["served, not counted"]
        self.figures["counted exactly"] += 1
        [event, *others] = mine
        # A connection that is reset takes with it what LiteLLM has not read yet: the usage may be among it.
        if event.is_estimated and event.status != "success" and attempt.fault.resets and attempt.end == "broken":
            return ["counted twice"] if others else []
        wrong = ["counted twice"] if others else []
        if event.status != "success" and attempt.end == "whole":
            wrong.append("served, counted as a failure")
        if event.user != self._stage.key_hash(self._storm.users[outcome.call.user]):
            wrong.append("wrong user")
        if event.output != (0 if attempt.path.endswith("/embeddings") else attempt.output):
            wrong.append("wrong output tokens")
        wrong += self._judge_model(outcome, attempt, event)
        if event.is_estimated:
            wrong.append("exact, flagged as an estimate")
        return wrong

    def _judge_model(self, outcome: Outcome, attempt: Attempt, event: Event) -> list[str]:
        wrong = []
        served = {group for group, targets in GROUPS.items() for t in targets if t.endswith(f"/{attempt.model}")}
        if event.group not in served:
            wrong.append("wrong model")
        allowed = ALLOWED[outcome.call.user]
        if allowed is not None and not served & set(allowed):
            wrong.append("a model that is not the customer's")
        cost = event.input * INPUT_PRICE + event.output * OUTPUT_PRICE
        if abs(event.cost - cost) > 1e-9 and event.group != "image":
            wrong.append("wrong cost")
        if attempt.authorization not in ("Bearer of-the-provider", "of-the-provider"):
            wrong.append("other credentials")
        return wrong

    def _judge_homeless(self, homeless: list[Event]) -> None:
        """Events that name no call: unknown outcomes stand for calls that died with LiteLLM, failures for nothing."""
        lost: Counter[str] = Counter()
        for number, outcome in self._storm.outcomes.items():
            if {"litellm", "a stop"} & set(outcome.kills):
                # A stop ends LiteLLM too; what was served must be counted all the same.
                lost[self._stage.key_hash(self._storm.users[outcome.call.user])] += 1
            if "litellm" in outcome.kills:
                silent = [a for a in self._attempts[number] if a.has_usage and not _exact(a, self._of_call[number])]
                self.figures["died with LiteLLM"] += bool(silent)
        for event in homeless:
            if event.is_unknown:
                self.figures["outcome unknown"] += 1
                lost[event.user] -= 1
                if lost[event.user] < 0:
                    self._find("unknown outcome though LiteLLM lived", None, [], [event])
            elif event.input + event.output > 0:
                self._find("tokens of no call", None, [], [event])
            else:
                self.figures["failures without a name"] += 1


def _exact(attempt: Attempt, counted: list[Event]) -> bool:
    return any(event.input == attempt.serial for event in counted)


def _is_partial(attempt: Attempt) -> bool:
    """Whether an estimate may stand for it."""
    return attempt.end != "refused" and (not attempt.has_usage or not attempt.is_read or attempt.fault.garbles)


def _must_count(attempt: Attempt) -> bool:
    """Whether LiteLLM has certainly read a part of the answer."""
    fault = attempt.fault
    # LiteLLM takes an answer of Anthropic's without usage for none.
    is_unreadable = fault.garbles or (not fault.states_usage and not attempt.is_stream and "claude" in attempt.model)
    return attempt.words > 2 and not fault.resets and not is_unreadable
