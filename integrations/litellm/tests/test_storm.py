"""What the provider has served is what is counted, through random calls, faults, hang-ups, hostile fields and kills.

`TEST_SEED` makes the calls of an earlier run again, `CODEXFLOW_STORM_CALLS` says how many there are in each
weather, `CODEXFLOW_STORM_MINUTES` lets further ones follow for so long.
"""

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from stage import Stage
from storm import WEATHERS, Result, configure, make_users, report, run
from storm_calls import FIRST

SEED = int(os.environ.get("TEST_SEED") or time.time_ns() // 1_000 % 1_000_000)
CALLS = int(os.environ.get("CODEXFLOW_STORM_CALLS") or 100)
MINUTES = float(os.environ.get("CODEXFLOW_STORM_MINUTES") or 0)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The chain with the models of the storm."""
    directory = tmp_path_factory.mktemp("storm")
    stage = Stage(directory, Path(os.environ["TEST_CLUSTER"]), Path(os.environ["TEST_PROGRAMS"]), configure=configure)
    try:
        yield stage
    finally:
        stage.close()
    stage.require_no_key()


@pytest.fixture(scope="module")
def users(stage: Stage) -> list[int]:
    """The customers of the storm."""
    return make_users(stage)


def require_no_finding(result: Result) -> None:
    """Fails with what is needed to see a finding again."""
    print(report(result, shown=0))
    assert not result.findings, f"TEST_SEED={SEED} repeats it: {report(result, shown=10)}"


@pytest.mark.parametrize("weather", WEATHERS)
def test_what_was_served_is_what_is_counted(stage: Stage, users: list[int], weather: str) -> None:
    first = FIRST + list(WEATHERS).index(weather) * 100_000
    print(f"TEST_SEED={SEED} repeats {weather}")
    result = run(stage, users, SEED, range(first, first + CALLS), WEATHERS[weather])
    require_no_finding(result)
    assert result.figures["counted exactly"] > CALLS // 5


def test_nothing_is_lost_and_nothing_doubled_when_each_process_dies(stage: Stage, users: list[int]) -> None:
    first = FIRST + 1_000_000
    result = run(stage, users, SEED, range(first, first + 3 * CALLS), WEATHERS["all"], with_kills=True)
    require_no_finding(result)
    killed = Counter(name for outcome in result.outcomes for name in outcome.kills)
    assert set(killed) == {"webhook-api", "postgres", "a stop", "litellm"}


# Collected only where it is asked for.
if MINUTES > 0:

    def test_a_long_storm(stage: Stage, users: list[int]) -> None:
        deadline = time.monotonic() + 60 * MINUTES
        total: Counter[str] = Counter()
        findings = 0
        first = FIRST + 2_000_000
        while time.monotonic() < deadline:
            result = run(stage, users, SEED, range(first, first + 1_000), WEATHERS["all"], with_kills=True)
            total += result.figures
            findings += len(result.findings)
            print(report(Result(result.findings, total, [], result.seconds), shown=20), flush=True)
            first += 1_000
        print(f"TEST_SEED={SEED} repeats it: {findings} findings")
        assert findings == 0


def test_the_counters_and_the_rollups_are_the_rows(stage: Stage, users: list[int]) -> None:
    differences = stage.postgres.number(
        """
        SELECT count(*) FROM (
            SELECT user_id, sum(quota_requests) AS requests, sum(quota_tokens) AS tokens, coalesce(sum(cost), 0) AS cost
            FROM metering.events WHERE quota_requests > 0 GROUP BY user_id
        ) e FULL JOIN (
            SELECT user_id, sum(requests) AS requests, sum(tokens) AS tokens, sum(cost) AS cost
            FROM metering.quota_usage WHERE period = 'monthly' GROUP BY user_id
        ) q USING (user_id)
        WHERE (e.requests, e.tokens, e.cost) IS DISTINCT FROM (q.requests, q.tokens, q.cost)
        """
    )
    assert differences == 0
    code, output = stage.worker("once")
    assert code == 0, output
    code, output = stage.worker("verify")
    assert code == 0, output
    assert stage.postgres.number("SELECT count(*) FROM metering.quarantine WHERE reason <> 'denied'") == 0
    assert stage.postgres.number("SELECT count(*) FROM metering.events") > 0
