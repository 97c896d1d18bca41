"""500 calls at once by 20 users while each process of the chain is killed, one after the other."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
from stage import Stage, eventually

USERS = 20
WAVE = 500


@dataclass
class Whole:
    """The calls whose answers came whole: the user, the prompt's number, and LiteLLM's cost."""

    answers: dict[int, tuple[int, str | None]] = field(default_factory=dict)
    broken: int = 0


async def wave(stage: Stage, users: list[int], numbers: range, whole: Whole, kill: Callable[[], None]) -> None:
    """Makes the calls at once, and kills something while they are under way."""
    limits = httpx.Limits(max_connections=WAVE)
    async with httpx.AsyncClient(base_url=stage.url, timeout=120, limits=limits) as client:

        async def call(number: int) -> None:
            user = users[number % len(users)]
            body = {"model": "gpt-4o", "messages": [{"role": "user", "content": f"count {number}"}]}
            if number % 3 == 0:
                body["stream"] = True  # type: ignore[assignment]
            headers = {"Authorization": f"Bearer {stage.keys[user]}"}
            try:
                answer = await client.post("/v1/chat/completions", json=body, headers=headers)
            except httpx.HTTPError:
                whole.broken += 1
                return
            is_whole = "data: [DONE]" in answer.text if number % 3 == 0 else "usage" in answer.text
            if answer.status_code == 200 and is_whole:
                cost = answer.headers.get("x-litellm-response-cost")
                whole.answers[number] = (user, cost if number % 3 else None)
            else:
                whole.broken += 1

        calls = [asyncio.ensure_future(call(number)) for number in numbers]
        while sum(call.done() for call in calls) < WAVE // 3:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(kill)
        await asyncio.gather(*calls)


FIRST = 10_000


def test_nothing_is_lost_and_nothing_doubled(stage: Stage) -> None:
    users = [stage.make_user() for _ in range(USERS)]
    stage.postgres.sql(
        "INSERT INTO metering.user_limits (user_id, period, requests, tokens) "
        "SELECT id, p, 1000000, 1000000000 FROM users, unnest('{daily,monthly}'::text[]) p"
    )
    whole = Whole()
    stage.provider.spread = 5

    def kill_webhook() -> None:
        stage.webhook.kill()
        stage.webhook.start()

    def kill_postgres() -> None:
        stage.postgres.kill()
        eventually("PostgreSQL is back", stage.postgres.restart)

    def kill_litellm() -> None:
        stage.proxy.kill()

    for index, kill in enumerate([kill_webhook, kill_postgres, kill_litellm]):
        numbers = range(FIRST + index * WAVE, FIRST + (index + 1) * WAVE)
        asyncio.run(wave(stage, users, numbers, whole, kill))
    stage.proxy.start()
    if stage.webhook.process is not None and stage.webhook.process.poll() is not None:
        stage.webhook.start()
    stage.settle()

    stored: Counter[tuple[int, int]] = Counter()
    costs: dict[int, str] = {}
    for user, tokens, cost in stage.postgres.sql(
        f"SELECT user_id, input_tokens, cost FROM metering.events WHERE status = 'success' AND input_tokens >= {FIRST}"
    ):
        stored[(int(user), int(tokens))] += 1
        costs[int(tokens)] = cost
    lost_sight = "SELECT user_id FROM metering.events WHERE error_code = 'outcome_unknown'"
    unknown = Counter(int(user) for [user] in stage.postgres.sql(lost_sight))
    print(f"whole {len(whole.answers)}, broken {whole.broken}, stored {stored.total()}, unknown {unknown.total()}")
    # Each whole answer is one row of its user, with the tokens and the cost of LiteLLM.
    assert len(whole.answers) > 2 * WAVE
    assert {(user, number) for number, (user, _) in whole.answers.items()} <= set(stored)
    assert max(stored.values()) == 1
    for number, (_, stated) in whole.answers.items():
        assert stated is None or float(costs[number]) == round(float(stated), 12)
    # What the provider served and no answer's row tells of is a row of unknown outcome.
    silent = Counter(
        users[number % USERS]
        for number in stage.provider.served
        if number >= FIRST and (users[number % USERS], number) not in stored
    )
    assert silent.total() > 0
    assert all(unknown[user] >= count for user, count in silent.items())
    # The counters are the rows.
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
    assert stage.postgres.number("SELECT count(*) FROM metering.quarantine WHERE reason <> 'denied'") == 0
