"""A storm of random calls over the whole chain, by a test or by hand: `python storm.py --weather faults --seed 7`."""

import argparse
import asyncio
import os
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stage import Stage, eventually
from storm_calls import (
    ALLOWED,
    FALLBACKS,
    FIRST,
    GROUPS,
    INPUT_PRICE,
    OPERATORS_TIMEOUT,
    OUTPUT_PRICE,
    Weather,
    storm_call,
)
from storm_client import Kill, Outcome, Storm
from storm_judge import Finding, Judge, OpenIntent, events, open_calls, undelivered

OVERDUE = 40.0
"""Seconds in which an outcome must come that LiteLLM itself does not report."""
WEATHERS = {
    "ordinary": Weather(),
    "faults": Weather(faults=0.6),
    "cuts": Weather(cuts=0.5),
    "hostile": Weather(hostile=0.8),
    "all": Weather(faults=0.25, cuts=0.2, hostile=0.25),
}


def configure(stage: Stage, configuration: dict[str, Any]) -> None:
    """The models of the storm, each at a price, with retries, a fallback and a timeout of the operator's."""
    configuration["model_list"] = [
        {"model_name": group, "litellm_params": _deployment(stage, target)}
        for group, targets in GROUPS.items()
        for target in targets
    ]
    # With a cache LiteLLM uses none of its Rust.
    del configuration["litellm_settings"]["cache"], configuration["litellm_settings"]["cache_params"]
    configuration["router_settings"] = {
        "num_retries": 2,
        "timeout": OPERATORS_TIMEOUT,
        "fallbacks": [{group: [other]} for group, other in FALLBACKS.items()],
        "disable_cooldowns": True,
    }


def _deployment(stage: Stage, target: str) -> dict[str, Any]:
    return {
        "model": target,
        "api_key": "of-the-provider",
        "api_base": stage.provider.root if target.startswith("anthropic/") else stage.provider.url,
        "input_cost_per_token": INPUT_PRICE,
        "output_cost_per_token": OUTPUT_PRICE,
    }


def make_users(stage: Stage) -> list[int]:
    """A customer for each list of models, without other limits."""
    users = [stage.make_user() for _ in ALLOWED]
    for user, allowed in zip(users, ALLOWED, strict=True):
        if allowed is not None:
            stage.postgres.sql(f"INSERT INTO metering.user_models VALUES ({user}, '{{{','.join(allowed)}}}')")
    stage.postgres.sql(
        "INSERT INTO metering.user_limits (user_id, period, requests, tokens) "
        "SELECT id, p, 100000000, 1000000000000 FROM users, unnest('{daily,monthly}'::text[]) p"
    )
    return users


def kills(stage: Stage) -> list[Kill]:
    """Each process of the chain dies once, and LiteLLM is stopped once, which excuses nothing."""

    def kill_webhook() -> None:
        stage.webhook.kill()
        stage.webhook.start()

    def kill_postgres() -> None:
        stage.postgres.kill()
        eventually("PostgreSQL is back", stage.postgres.restart)

    def stop_litellm() -> None:
        stage.proxy.stop(within=60)
        stage.proxy.start()

    def kill_litellm() -> None:
        stage.proxy.kill()
        stage.proxy.start()

    return [
        Kill("webhook-api", 0.3, kill_webhook),
        Kill("postgres", 0.5, kill_postgres),
        Kill("a stop", 0.65, stop_litellm, stops_calls=True),
        Kill("litellm", 0.8, kill_litellm, stops_calls=True),
    ]


@dataclass
class Result:
    """What a storm has left."""

    findings: list[Finding]
    figures: Counter[str]
    outcomes: list[Outcome]
    seconds: float


def run(
    stage: Stage, users: list[int], seed: int, numbers: range, weather: Weather, with_kills: bool = False
) -> Result:
    """Makes the calls, waits until all is counted, and judges."""
    began = time.monotonic()
    open_earlier = open_calls(stage)
    earlier, earlier_attempts = len(events(stage)), len(stage.provider.attempts)
    storm = Storm(stage, users)
    calls = [storm_call(seed, number, weather) for number in numbers]
    asyncio.run(storm.run(calls, kills(stage) if with_kills else ()))
    if stage.webhook.process is not None and stage.webhook.process.poll() is not None:
        stage.webhook.start()
    still_open = _wait_for_quiet(stage, open_earlier)
    stage.drain(keeps_open=True)
    judge = Judge(storm, events(stage)[earlier:], stage.provider.attempts[earlier_attempts:])
    findings = judge.judge(still_open)
    findings += undelivered(stage)
    judge.figures["crashes of LiteLLM"] += len(storm.crashes)
    return Result(findings, judge.figures, list(storm.outcomes.values()), time.monotonic() - began)


def _wait_for_quiet(stage: Stage, known: set[OpenIntent]) -> set[OpenIntent]:
    """Waits until nothing is under way any more; the intents that are open even then."""
    deadline = time.monotonic() + OVERDUE
    quiet_since = time.monotonic()
    while True:
        still_open = open_calls(stage) - known
        is_busy = bool(still_open) or any(attempt.end == "open" for attempt in stage.provider.attempts)
        now = time.monotonic()
        quiet_since = now if is_busy else quiet_since
        if now - quiet_since > 2 or now > deadline:
            return still_open
        time.sleep(0.1)


def report(result: Result, shown: int) -> str:
    """Figures, findings by kind and cause, and the first findings whole."""
    lines = [f"{name}: {count}" for name, count in result.figures.items()] + [f"seconds: {result.seconds:.0f}", ""]
    kinds = Counter(finding.kind for finding in result.findings)
    lines += [f"{count} x {kind}" for kind, count in kinds.most_common()] + [""]
    causes = Counter((finding.kind, finding.cause) for finding in result.findings)
    lines += [f"{count:4} x {kind}: {cause}" for (kind, cause), count in causes.most_common(60)]
    seen: Counter[tuple[str, str]] = Counter()
    for finding in result.findings:
        seen[finding.kind, finding.cause] += 1
        if seen[finding.kind, finding.cause] == 1 and shown > 0:
            shown -= 1
            lines += ["", str(finding)]
    return "\n".join(lines)


def main() -> None:
    """Runs storms by hand."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--calls", type=int, default=400)
    parser.add_argument("--weather", choices=WEATHERS, nargs="+", default=list(WEATHERS))
    parser.add_argument("--first", type=int, default=FIRST, help="the first call's number, as a finding names it")
    parser.add_argument("--kills", action="store_true")
    parser.add_argument("--shown", type=int, default=20)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="storm-"))
    stage = Stage(directory, Path(os.environ["TEST_CLUSTER"]), Path(os.environ["TEST_PROGRAMS"]), configure=configure)
    try:
        users = make_users(stage)
        first = options.first
        for name in options.weather:
            print(f"\n== {name}, seed {options.seed}, {options.calls} calls, {directory}", flush=True)
            numbers = range(first, first + options.calls)
            print(report(run(stage, users, options.seed, numbers, WEATHERS[name], options.kills), options.shown))
            first += options.calls
    finally:
        stage.close()


if __name__ == "__main__":
    main()
