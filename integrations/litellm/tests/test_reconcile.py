"""LiteLLM's own record of calls beside ours, in a table of its own schema, with the rows that its own code makes."""

import json
from pathlib import Path
from typing import Any

import litellm_proxy_extras
import pytest
from stage import Service, Stage, eventually
from test_calls import KINDS, ask, chat

HERE = Path(__file__).parent
FACTS = (
    "event_key, input_tokens, output_tokens, cached_tokens, cost, model_group, model, provider, call_type, is_stream, "
    "is_cache_hit, status, end_user, tags, key_hash, billable_digest, occurred_at"
)


@pytest.fixture(scope="module")
def spending(stage: Stage) -> Service:
    """A proxy that keeps what it would write into its database; the spools are those of the stage."""
    settings = {"CODEXFLOW_FIELDS": "chat/completions:cache"}
    proxy = stage.make_proxy("spending", beside=HERE / "spend_writer.py", settings=settings)
    stage.others.append(proxy)
    proxy.start()
    return proxy


class Database:
    """LiteLLM's, made by its own migrations, and read by a role that may read one table of it."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.name = f"{stage.postgres.name}_own_{len(stage.postgres.others)}"
        stage.postgres.others.append(self.name)
        stage.postgres.sql(f"CREATE DATABASE {self.name}", database="postgres")
        migrations = Path(litellm_proxy_extras.__file__).parent / "migrations"
        script = "\n".join(path.read_text() for path in sorted(migrations.glob("*/migration.sql")))
        stage.postgres.run_script(script, self.name)
        role = f"reader_of_{self.name}"
        stage.postgres.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'reader'", database=self.name)
        stage.postgres.sql(f'GRANT SELECT ON "LiteLLM_SpendLogs" TO {role}', database=self.name)
        url = stage.postgres.url(role, "reader")
        self.url = url.replace(f"/{stage.postgres.name}", f"/{self.name}") + "?schema=public&connection_limit=5"
        assert self.name in self.url

    def take(self, proxy: Service) -> int:
        """Writes what the proxy kept, and returns how many rows there are now."""
        rows: list[dict[str, Any]] = [
            json.loads(line) for line in (proxy.directory / "spend.jsonl").read_text().splitlines()
        ]
        for row in rows:
            names = ", ".join(f'"{name}"' for name in row)
            text = json.dumps(row).replace("'", "''")
            table = '"LiteLLM_SpendLogs"'
            self._stage.postgres.run_script(
                f"INSERT INTO {table} ({names}) SELECT {names} FROM json_populate_record(null::{table}, '{text}') "
                "ON CONFLICT DO NOTHING",
                self.name,
            )
        return int(self._stage.postgres.sql('SELECT count(*) FROM "LiteLLM_SpendLogs"', database=self.name)[0][0])


def call_every_kind(stage: Stage, proxy: Service, key: str) -> int:
    """Served calls of all kinds, a cache hit among them; how many."""
    stage.proxy, original = proxy, stage.proxy
    try:
        for path, body, _ in KINDS.values():
            assert ask(stage, key, path, **body, user="customer-1").status_code == 200
        for _ in range(2):
            assert chat(stage, key, 81, cache={"use-cache": True}).status_code == 200
    finally:
        stage.proxy = original
    stage.drain()
    return len(KINDS) + 2


def test_what_is_missing_is_found_taken_and_known_again(stage: Stage, spending: Service) -> None:
    user = stage.make_user()
    # Of calls whose answers have one id LiteLLM keeps the first.
    stage.provider.repeats_ids = False
    served = call_every_kind(stage, spending, stage.keys[user])
    database = Database(stage)
    assert database.take(spending) == served
    code, report = stage.reconcile(database.url)
    assert (code, report["calls"], report["differences"]) == (0, served, [])

    # As a restore to an earlier moment leaves our database.
    facts = f"SELECT {FACTS} FROM metering.events WHERE user_id = {user} ORDER BY event_key"
    before = stage.postgres.sql(facts)
    assert len(before) == served
    for table in ("metering.events", "api_logs"):
        stage.postgres.sql(f"DELETE FROM {table} WHERE user_id = {user}")
    code, report = stage.reconcile(database.url)
    assert code == 2
    assert sum(hour["missing"] for hour in report["differences"]) == served
    code, report = stage.reconcile(database.url, "--take")
    assert (code, report["taken"], report["differences"]) == (0, {"stored": served}, [])
    assert stage.postgres.sql(facts) == before
    assert stage.reconcile(database.url, "--take")[1]["taken"] == {}

    # The module sends them too: the same calls, and no second row of any.
    stage.postgres.sql("UPDATE metering.spools SET highest = 0, gaps = '{}'")
    stage.proxy, original = spending, stage.proxy
    try:
        assert chat(stage, stage.keys[user], 82).status_code == 200
    finally:
        stage.proxy = original
    eventually("no gap", lambda: stage.postgres.number("SELECT count(*) FROM metering.spools WHERE gaps <> '{}'") == 0)
    stage.drain()
    assert len(stage.postgres.sql(facts)) == served + 1
    assert stage.postgres.number("SELECT count(*) FROM metering.quarantine WHERE reason = 'conflict'") == 0


def test_calls_without_an_id_of_the_module_are_recognized_by_their_values(stage: Stage, spending: Service) -> None:
    user = stage.make_user()
    key_hash = stage.key_hash(user)
    database = Database(stage)
    # Twins in one millisecond, of which one is here, and one alone.
    for number, milliseconds in enumerate([0, 0, 500]):
        stage.postgres.run_script(
            'INSERT INTO "LiteLLM_SpendLogs" (request_id, call_type, api_key, spend, prompt_tokens, completion_tokens, '
            '"startTime", "endTime", model_group, cache_hit, status) '
            f"VALUES ('r{number}', 'acompletion', '{key_hash}', 5e-07, 7, 3, "
            f"date_trunc('hour', now() AT TIME ZONE 'UTC') - interval '2 hours' + {milliseconds} * interval '1 ms', "
            "date_trunc('hour', now() AT TIME ZONE 'UTC') - interval '1 hour', 'gpt-4o', 'None', 'success')",
            database.name,
        )
    [[start]] = stage.postgres.sql(
        "SELECT extract(epoch FROM date_trunc('hour', now()) - interval '2 hours') + 0.000321"
    )
    event = {
        **{"id": "of the provider", "litellm_call_id": "c", "call_type": "acompletion", "status": "success"},
        **{"startTime": float(start), "endTime": float(start) + 1, "response_cost": 5e-07, "model_group": "gpt-4o"},
        **{"prompt_tokens": 7, "completion_tokens": 3, "metadata": {"user_api_key_hash": key_hash}},
    }
    stage.deliver(event)
    code, report = stage.reconcile(database.url)
    # The other test's calls are not in this database of LiteLLM's.
    [hour] = [hour for hour in report["differences"] if hour["key_hash"] == key_hash]
    assert (code, hour["litellm"]["calls"], hour["here"]["calls"], hour["missing"]) == (2, 3, 1, 2)
    report = stage.reconcile(database.url, "--take")[1]
    assert report["taken"] == {"stored": 2}
    assert key_hash not in {hour["key_hash"] for hour in report["differences"]}
    assert stage.postgres.number(f"SELECT count(*) FROM api_logs WHERE user_id = {user}") == 3


def test_it_says_what_it_needs(stage: Stage) -> None:
    assert "LITELLM_DATABASE_URL" in stage.codexflow(["litellm", "reconcile"], {})[1]
    code, text = stage.codexflow(["litellm", "reconcile"], {"LITELLM_DATABASE_URL": stage.postgres.url()})
    # Our own database has no such table.
    assert code == 1 and "LiteLLM_SpendLogs" in text
