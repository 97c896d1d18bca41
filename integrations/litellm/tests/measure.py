"""What the module costs a call, and how soon a call is in the dashboards; `scripts/test-litellm measure` prints it."""

import asyncio
import os
import tempfile
import time
from pathlib import Path

import httpx
from stage import Service, Stage

PAIRS = 5
CALLS = 200
PER_SECOND = 50
SECONDS = 20


def percentile(values: list[float], share: float) -> float:
    """The smallest value that this share of them does not pass."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def call_times(service: Service, key: str) -> list[float]:
    """Milliseconds of calls made one after the other."""
    times = []
    with httpx.Client(base_url=service.health.removesuffix("/health/liveliness"), timeout=60) as client:
        for number in range(CALLS):
            body = {"model": "gpt-4o", "messages": [{"role": "user", "content": f"count {number}"}]}
            start = time.perf_counter()
            answer = client.post("/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"})
            times.append((time.perf_counter() - start) * 1000)
            assert answer.status_code == 200, answer.text
    return times


def overhead(stage: Stage, key: str) -> None:
    """With the module and without, in turns."""
    plain = stage.make_proxy("plain", with_module=False)
    plain.start()
    try:
        with_module: list[float] = []
        without: list[float] = []
        for service, used in ((plain, stage.master_key), (stage.proxy, key)):
            call_times(service, used)
        for _ in range(PAIRS):
            without += call_times(plain, stage.master_key)
            with_module += call_times(stage.proxy, key)
    finally:
        plain.stop()
    for share in (0.5, 0.99):
        plainly, added = percentile(without, share), percentile(with_module, share) - percentile(without, share)
        print(f"p{share * 100:.0f} of a call: {plainly:.1f} ms without the module, {added:+.1f} ms with it")


async def visibility(stage: Stage, user: int) -> None:
    """Seconds from the end of an answer until its row is in `api_logs`, at a steady rate."""
    ended: dict[int, float] = {}
    seen: dict[int, float] = {}

    async with httpx.AsyncClient(base_url=stage.url, timeout=60) as client:

        async def call(number: int) -> None:
            body = {"model": "gpt-4o", "messages": [{"role": "user", "content": f"count {number}"}]}
            headers = {"Authorization": f"Bearer {stage.keys[user]}"}
            answer = await client.post("/v1/chat/completions", json=body, headers=headers)
            assert answer.status_code == 200, answer.text
            ended[number] = time.monotonic()

        async def watch() -> None:
            query = f"SELECT input_tokens FROM api_logs WHERE user_id = {user} AND input_tokens >= 100000"
            while len(seen) < PER_SECOND * SECONDS:
                rows = await asyncio.to_thread(stage.postgres.sql, query)
                at = time.monotonic()
                for [number] in rows:
                    seen.setdefault(int(number), at)
                await asyncio.sleep(0.05)

        watching = asyncio.ensure_future(watch())
        calls = []
        start = time.monotonic()
        for index in range(PER_SECOND * SECONDS):
            await asyncio.sleep(max(0, start + index / PER_SECOND - time.monotonic()))
            calls.append(asyncio.ensure_future(call(100_000 + index)))
        await asyncio.gather(*calls)
        await asyncio.wait_for(watching, 60)
    delays = [seen[number] - ended[number] for number in ended]
    half, most = percentile(delays, 0.5), percentile(delays, 0.99)
    print(f"a row after its answer, at {PER_SECOND}/s: p50 {half:.2f} s, p99 {most:.2f} s")


def main() -> None:
    """Starts the chain, and measures."""
    with tempfile.TemporaryDirectory() as directory:
        stage = Stage(Path(directory), Path(os.environ["TEST_CLUSTER"]), Path(os.environ["TEST_PROGRAMS"]))
        try:
            user = stage.make_user()
            stage.postgres.sql(
                "INSERT INTO metering.user_limits (user_id, period, requests, tokens) "
                f"SELECT {user}, p, 1000000, 1000000000000 FROM unnest('{{daily,monthly}}'::text[]) p"
            )
            overhead(stage, stage.keys[user])
            asyncio.run(visibility(stage, user))
        finally:
            stage.close()


if __name__ == "__main__":
    main()
