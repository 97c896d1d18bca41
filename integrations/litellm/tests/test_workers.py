"""Several workers of one LiteLLM, and what is left in their spools when it is stopped or one of them dies."""

import os
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from stage import Service, Stage, eventually
from test_calls import chat

FIRST = 50_000


@pytest.fixture(scope="module")
def workers(stage: Stage) -> Iterator[Service]:
    """A LiteLLM of two workers instead of the stage's own."""
    original = stage.proxy
    original.stop()
    stage.proxy = stage.make_proxy("workers", spools=stage.directory / "spools-of-workers", workers=2)
    stage.spools, own = stage.directory / "spools-of-workers", stage.spools
    stage.proxy.start()
    eventually("both workers", lambda: len(stage.proxy.held_spools()) == 2)
    yield stage.proxy
    stage.proxy.stop()
    stage.proxy, stage.spools = original, own
    original.start()


def make_rich_user(stage: Stage) -> int:
    """A customer whom no limit stops."""
    user = stage.make_user()
    stage.postgres.sql(
        "INSERT INTO metering.user_limits (user_id, period, requests, tokens) "
        f"SELECT {user}, p, 1000000, 1000000000 FROM unnest('{{daily,monthly}}'::text[]) p"
    )
    return user


def served(stage: Stage, key: str, numbers: range) -> set[int]:
    """Makes calls at once; the numbers of those that were answered whole."""
    with ThreadPoolExecutor(40) as pool:
        answers = dict(zip(numbers, pool.map(lambda number: _status(stage, key, number), numbers), strict=True))
    # A worker is gone, or knows nothing of the key and cannot ask.
    assert set(answers.values()) <= {0, 200, 503}, Counter(answers.values())
    return {number for number, status in answers.items() if status == 200}


def _status(stage: Stage, key: str, number: int) -> int:
    try:
        return chat(stage, key, number).status_code
    except httpx.HTTPError:
        return 0


def stored(stage: Stage, user: int) -> list[int]:
    """The numbers of the user's calls that are rows."""
    stage.drain()
    rows = stage.postgres.sql(
        f"SELECT input_tokens FROM metering.events WHERE user_id = {user} AND status = 'success' ORDER BY 1"
    )
    return [int(number) for [number] in rows]


UNDELIVERED = "SELECT count(*) FROM outcomes WHERE sequence > (SELECT coalesce(max(through), 0) FROM deliveries)"


def in_spool(path: Path, query: str = UNDELIVERED) -> int:
    """How many events a spool has that were not delivered, or what else is asked of it."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return int(connection.execute(query).fetchone()[0])
    finally:
        connection.close()


def busy(workers: Service) -> int | None:
    """A worker that has calls under way."""
    open_calls = "SELECT count(*) FROM intents"
    return next((pid for pid, spool in workers.held_spools().items() if in_spool(spool, open_calls) > 5), None)


def test_each_worker_has_a_spool_and_a_stop_loses_nothing(stage: Stage, workers: Service) -> None:
    user = make_rich_user(stage)
    key = stage.keys[user]
    spools = stage.spools
    before = served(stage, key, range(FIRST, FIRST + 100))
    stage.drain()
    # Both know the key by now, and webhook-api is away: what they serve waits in their spools.
    stage.webhook.kill()
    try:
        waiting = served(stage, key, range(FIRST + 100, FIRST + 200))
        assert len(waiting) > 50
        workers.stop()
        assert workers.process is not None and workers.process.returncode is not None
        assert sum(in_spool(path) for path in spools.glob("spool-*.sqlite")) >= len(waiting)
        assert all(in_spool(path) for path in spools.glob("spool-*.sqlite"))
    finally:
        stage.webhook.start()
    workers.start()
    assert stored(stage, user) == sorted(before | waiting)


def test_a_worker_that_dies_leaves_its_spool_to_the_others(stage: Stage, workers: Service) -> None:
    user = make_rich_user(stage)
    key = stage.keys[user]
    stage.provider.spread = 2
    try:
        with ThreadPoolExecutor(1) as pool:
            calls = pool.submit(served, stage, key, range(FIRST + 1000, FIRST + 1080))
            os.kill(eventually("a worker with calls under way", lambda: busy(workers)), signal.SIGKILL)
            expected = calls.result()
    finally:
        stage.provider.spread = 0
    assert expected
    # Rows of all that were answered; what was cut off is known to be unknown.
    assert set(stored(stage, user)) >= expected
    unknown = f"SELECT count(*) FROM metering.events WHERE user_id = {user} AND error_code = 'outcome_unknown'"
    assert stage.postgres.number(unknown) > 0
    assert len(stored(stage, user)) == len(set(stored(stage, user)))
