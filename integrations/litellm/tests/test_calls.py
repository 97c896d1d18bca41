"""Calls of every kind through the real proxy: each becomes one row, and what is refused costs no provider a call."""

import http.client
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from provider import Fault
from stage import Stage, eventually


def ask(stage: Stage, key: str, path: str, **body: Any) -> httpx.Response:
    """Posts a call; a stream is read to its end."""
    return httpx.post(stage.url + path, json=body, headers={"Authorization": f"Bearer {key}"}, timeout=60)


def chat(stage: Stage, key: str, number: int, **body: Any) -> httpx.Response:
    """A chat whose prompt has ``number`` tokens."""
    messages = [{"role": "user", "content": f"count {number}"}]
    return ask(stage, key, "/v1/chat/completions", **{"model": "gpt-4o", "messages": messages, **body})


def rows(stage: Stage, user: int) -> list[list[str]]:
    """Status, input and output tokens, and the flag of a stream, of every row of a user."""
    stage.drain()
    return stage.postgres.sql(
        "SELECT l.status, l.input_tokens, l.output_tokens, e.is_stream, e.call_type, e.model_group "
        f"FROM api_logs l JOIN metering.events e ON e.api_log_id = l.id WHERE l.user_id = {user} ORDER BY l.id"
    )


MESSAGES = [{"role": "user", "content": "count 70"}]
KINDS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "chat": ("/v1/chat/completions", {"model": "gpt-4o", "messages": MESSAGES}, ["70", "5", "f"]),
    "stream": ("/v1/chat/completions", {"model": "gpt-4o", "messages": MESSAGES, "stream": True}, ["70", "5", "t"]),
    "tools": (
        "/v1/chat/completions",
        {"model": "gpt-4o", "messages": MESSAGES, "tools": [{"type": "function", "function": {"name": "weather"}}]},
        ["70", "5", "f"],
    ),
    "embedding": ("/v1/embeddings", {"model": "embedding", "input": "count 70"}, ["70", "0", "f"]),
    "image": ("/v1/images/generations", {"model": "gpt-4o-mini", "prompt": "count 70"}, ["70", "5", "f"]),
    "responses": ("/v1/responses", {"model": "gpt-4o", "input": "count 70"}, ["70", "5", "f"]),
    "messages": ("/v1/messages", {"model": "gpt-4o", "messages": MESSAGES, "max_tokens": 9}, ["70", "5", "f"]),
    "mock": ("/v1/chat/completions", {"model": "mock", "messages": MESSAGES}, ["10", "20", "f"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_of_any_kind_is_one_row(stage: Stage, kind: str) -> None:
    path, body, expected = KINDS[kind]
    user = stage.make_user()
    answer = ask(stage, stage.keys[user], path, **body)
    assert answer.status_code == 200, answer.text
    assert [row[:4] for row in rows(stage, user)] == [["success", *expected]]


def test_the_row_is_in_the_spool_before_the_answer_ends(stage: Stage) -> None:
    user = stage.make_user()
    stage.webhook.kill()
    try:
        for number in range(100, 103):
            # This key is not known yet, so webhook-api must be back for the first call.
            assert chat(stage, stage.keys[user], number).status_code == 503
    finally:
        stage.webhook.start()
    eventually("the key is known", lambda: chat(stage, stage.keys[user], 103).status_code == 200)
    stage.webhook.kill()
    try:
        for number in range(104, 108):
            assert chat(stage, stage.keys[user], number, stream=number % 2 == 0).status_code == 200
        stage.proxy.kill()
    finally:
        stage.webhook.start()
        stage.proxy.start()
    stored = [int(row[1]) for row in rows(stage, user) if row[0] == "success"]
    assert sorted(stored) == [103, 104, 105, 106, 107]


def test_a_fallback_is_a_failure_and_a_success(stage: Stage) -> None:
    user = stage.make_user()
    assert chat(stage, stage.keys[user], 71, model="failing").status_code == 200
    found = rows(stage, user)
    assert found[-1][:3] == ["success", "71", "5"]
    assert {row[0] for row in found[:-1]} == {"error"}
    counted = f"SELECT requests FROM metering.quota_usage WHERE user_id = {user} AND period = 'daily'"
    assert stage.postgres.number(counted) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_fails_counts_as_nothing(stage: Stage, stream: bool) -> None:
    user = stage.make_user()
    assert chat(stage, stage.keys[user], 72, model="failing-alone", stream=stream).status_code == 500
    assert {row[0] for row in rows(stage, user)} == {"error"}
    assert stage.postgres.number(f"SELECT count(*) FROM metering.quota_usage WHERE user_id = {user}") == 0


def test_a_stream_that_breaks_is_a_failure_with_what_was_served(stage: Stage) -> None:
    user = stage.make_user()
    stage.provider.plans[74] = (Fault(status=503), Fault(break_after=1_500))
    # LiteLLM retries the first attempt, and reports only one of a call's failed attempts by itself.
    answer = chat(stage, stage.keys[user], 74, stream=True)
    assert answer.status_code == 200 and "word 3" in answer.text and '"error"' in answer.text
    refused, broken = rows(stage, user)
    assert refused[:3] == ["error", "0", "0"]
    assert broken[0] == "error" and int(broken[1]) > 0 and int(broken[2]) > 5
    counted = f"SELECT requests, tokens FROM metering.quota_usage WHERE user_id = {user} AND period = 'daily'"
    assert stage.postgres.sql(counted) == [["1", str(int(broken[1]) + int(broken[2]))]]


def test_a_cache_hit_is_a_request_without_tokens(stage: Stage) -> None:
    user = stage.make_user()
    # A cache is the operator's to offer: customers share it.
    proxy = stage.make_proxy("caching", settings={"CODEXFLOW_FIELDS": "chat/completions:cache"})
    stage.others.append(proxy)
    proxy.start()
    assert "CODEXFLOW_FIELDS lets customers steer LiteLLM by cache" in proxy.log.read_text()
    url = proxy.health.removesuffix("/health/liveliness") + "/v1/chat/completions"
    body = {"model": "gpt-4o", "messages": MESSAGES, "cache": {"use-cache": True}}
    before = stage.provider.calls
    for _ in range(2):
        headers = {"Authorization": f"Bearer {stage.keys[user]}"}
        assert httpx.post(url, json=body, headers=headers, timeout=60).status_code == 200
    proxy.stop()
    assert stage.provider.calls == before + 1
    assert [row[:3] for row in rows(stage, user)] == [["success", "70", "5"]] * 2
    counted = f"SELECT requests, tokens FROM metering.quota_usage WHERE user_id = {user} AND period = 'daily'"
    assert stage.postgres.sql(counted) == [["2", "75"]]


def test_a_client_that_hangs_up_is_billed_for_what_was_sent(stage: Stage) -> None:
    user = stage.make_user()
    stage.provider.delay = 3
    try:
        connection = http.client.HTTPConnection("127.0.0.1", int(stage.url.rsplit(":", 1)[1]))
        body = json.dumps({"model": "gpt-4o", "messages": MESSAGES, "stream": True})
        headers = {"Authorization": f"Bearer {stage.keys[user]}", "Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", body, headers)
        assert connection.getresponse().read(40)
        connection.close()
    finally:
        stage.provider.delay = 0
    eventually("the call's row", lambda: rows(stage, user))
    [[status, _, _, stream, *_]] = rows(stage, user)
    assert (status, stream) == ("success", "t")


def test_who_may_not_call_costs_nothing(stage: Stage) -> None:
    user, suspended, poor = stage.make_user(), stage.make_user(status="suspended"), stage.make_user()
    stage.postgres.sql(f"INSERT INTO metering.user_models VALUES ({user}, '{{gpt-4o-mini}}')")
    stage.postgres.sql(f"INSERT INTO metering.user_limits (user_id, period, budget) VALUES ({poor}, 'monthly', 0.001)")
    assert chat(stage, stage.keys[poor], 1000).status_code == 200
    stage.drain()
    before = stage.provider.calls
    for key, status, kind in [
        ("cf_a_key_without_any_account", 401, "invalid_api_key"),
        ("sk-not-a-key-of-this-proxy", 401, "invalid_api_key"),
        (stage.keys[suspended], 403, "account_suspended"),
        (stage.keys[user], 403, "model_not_allowed"),
        (stage.keys[poor], 429, "insufficient_quota"),
    ]:
        answer = chat(stage, key, 9)
        assert (answer.status_code, answer.json()["error"]["type"]) == (status, kind), answer.text
    assert chat(stage, stage.keys[user], 9, model="gpt-4o-mini", fallbacks=["gpt-4o"]).status_code == 400
    assert ask(stage, stage.keys[user], "/key/generate").status_code == 403
    assert stage.provider.calls == before
    assert chat(stage, stage.keys[user], 9, model="gpt-4o-mini").status_code == 200
    models = httpx.get(stage.url + "/v1/models", headers={"Authorization": f"Bearer {stage.keys[user]}"}).json()
    assert [model["id"] for model in models["data"]] == ["gpt-4o-mini"]


def test_the_operators_check_follows_a_call_to_its_row(stage: Stage) -> None:
    user = stage.make_user()
    printed = stage.check(stage.keys[user])
    assert "refuses a key that no user has" in printed
    assert f"is a log of user {user}" in printed
    assert "0 failures" in printed
    refused = stage.check("cf_nobody")
    assert "is answered 401" in refused and "cf_nobody" not in refused


def test_a_burst_stops_at_the_limit(stage: Stage) -> None:
    user = stage.make_user()
    stage.postgres.sql(f"INSERT INTO metering.user_limits (user_id, period, requests) VALUES ({user}, 'daily', 50)")
    before = stage.provider.calls
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda number: chat(stage, stage.keys[user], 2000 + number), range(200)))
    assert {answer.status_code for answer in answers} == {200, 429}
    served = sum(answer.status_code == 200 for answer in answers)
    # A call that is stored while the module asks counts twice until it asks again, and never not at all.
    assert 40 <= served <= 50
    assert stage.provider.calls - before == served
    for _ in range(served, 50):
        eventually("what is left", lambda: chat(stage, stage.keys[user], 2500).status_code == 200)
    assert chat(stage, stage.keys[user], 2500).status_code == 429
    assert stage.provider.calls - before == 50
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert "It resets at 20" in refused.json()["error"]["message"]
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    stage.drain()
    used = f"SELECT requests FROM metering.quota_usage WHERE user_id = {user} AND period = 'daily'"
    assert stage.postgres.number(used) == 50
    # Also by what the database says, when the module has forgotten what it let through.
    stage.proxy.kill()
    stage.proxy.start()
    assert chat(stage, stage.keys[user], 2999).status_code == 429
    stage.postgres.sql(f"UPDATE metering.user_limits SET requests = 51 WHERE user_id = {user}")
    eventually("the new limit", lambda: chat(stage, stage.keys[user], 2999).status_code == 200)
    assert chat(stage, stage.keys[user], 2999).status_code == 429


def test_what_a_restore_forgot_is_sent_again(stage: Stage) -> None:
    user = stage.make_user()
    for number in range(3000, 3010):
        assert chat(stage, stage.keys[user], number).status_code == 200
    assert len(rows(stage, user)) == 10
    # As a restore to an earlier moment leaves the database.
    for table in ("metering.events", "api_logs"):
        stage.postgres.sql(f"DELETE FROM {table} WHERE user_id = {user}")
    stage.postgres.sql("UPDATE metering.spools SET highest = highest - 10")
    assert chat(stage, stage.keys[user], 3010).status_code == 200
    eventually("the rows are back", lambda: len(rows(stage, user)) == 11)
    eventually("no gap", lambda: stage.postgres.number("SELECT count(*) FROM metering.spools WHERE gaps <> '{}'") == 0)


def test_a_gap_is_seen_until_the_module_has_closed_it(stage: Stage) -> None:
    user = stage.make_user()
    for number in range(3020, 3022):
        assert chat(stage, stage.keys[user], number).status_code == 200
    assert len(rows(stage, user)) == 2
    assert stage.metric("litellm_spool_missing_events") == 0
    # As after a restore; nothing has been delivered since.
    stage.postgres.sql(
        "UPDATE metering.spools SET gaps = int8multirange(int8range(highest - 1, highest + 1)), "
        "gap_since = now() - interval '10 minutes' WHERE highest = (SELECT max(highest) FROM metering.spools)"
    )
    [[first, last]] = stage.postgres.sql("SELECT max(highest) - 1, max(highest) + 1 FROM metering.spools")
    eventually("the metric", lambda: stage.metric("litellm_spool_missing_events") == 2)
    assert f"lacks {{[{first},{last})}} since" in stage.codexflow(["doctor"], {})[1]
    assert chat(stage, stage.keys[user], 3022).status_code == 200
    eventually("no gap", lambda: stage.metric("litellm_spool_missing_events") == 0)
    assert "lacks" not in stage.codexflow(["doctor"], {})[1]
    assert len(rows(stage, user)) == 3
