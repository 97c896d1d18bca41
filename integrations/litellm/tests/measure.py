"""What the module costs a call, and how soon a call is in the dashboards; `scripts/test-litellm measure` prints it."""

import asyncio
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import httpx
from stage import Service, Stage

WARM = 50
CALLS = 300
PER_SECOND = 50
SECONDS = 20


def percentile(values: list[float], share: float) -> float:
    """The smallest value that this share of them does not pass."""
    return sorted(values)[min(len(values) - 1, int(share * len(values)))]


def processor_seconds(service: Service) -> float:
    """What the service's process has used of a processor by now."""
    assert service.process is not None
    fields = Path(f"/proc/{service.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def overhead(stage: Stage, key: str) -> None:
    """Calls one after the other, each to the next of several proxies, so that all meet the same machine."""
    idle = Path(__file__).with_name("idle_hooks.py")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        plain = stage.make_proxy("plain", module=None)
        services = {
            "without the module": (plain, stage.master_key),
            "with hooks that do nothing": (stage.make_proxy("idle", module=idle), key),
            "with the module, without fsync": (stage.make_proxy("memory", spools=Path(memory)), key),
            "with the module": (stage.proxy, key),
        }
        others = [service for service, _ in services.values() if service is not stage.proxy]
        try:
            for service in others:
                service.start()
            times = call_times(services)
        finally:
            for service in others:
                service.stop()
    [(_, (base, _)), *_] = times.items()
    for name, (values, seconds) in times.items():
        half, most = percentile(values, 0.5), percentile(values, 0.99)
        added = (
            "" if values is base else f" ({half - percentile(base, 0.5):+.2f}, {most - percentile(base, 0.99):+.2f})"
        )
        print(f"{name}: p50 {half:.2f} ms, p99 {most:.2f} ms{added}; processor {seconds / CALLS * 1000:.2f} ms a call")


def call_times(services: dict[str, tuple[Service, str]]) -> dict[str, tuple[list[float], float]]:
    """Milliseconds of each service's calls, and the seconds of processor that they took."""
    times: dict[str, list[float]] = {name: [] for name in services}
    began: dict[str, float] = {}
    with ExitStack() as stack:
        clients = {
            name: stack.enter_context(
                httpx.Client(base_url=service.health.removesuffix("/health/liveliness"), timeout=60)
            )
            for name, (service, _) in services.items()
        }
        for number in range(-WARM, CALLS):
            body = {"model": "gpt-4o", "messages": [{"role": "user", "content": f"count {abs(number)}"}]}
            for name, (service, key) in services.items():
                if number == 0:
                    began[name] = processor_seconds(service)
                start = time.perf_counter()
                answer = clients[name].post(
                    "/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {key}"}
                )
                if number >= 0:
                    times[name].append((time.perf_counter() - start) * 1000)
                assert answer.status_code == 200, answer.text
    return {name: (times[name], processor_seconds(service) - began[name]) for name, (service, _) in services.items()}


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
