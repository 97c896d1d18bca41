"""What a hostile customer tries with bodies, headers and keys, through the real proxy with a provider that counts."""

import http.client
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from stage import Stage, eventually
from test_calls import MESSAGES, ask, chat, rows

PATHS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "gpt-4o", "messages": MESSAGES},
    "/v1/completions": {"model": "gpt-4o", "prompt": "count 70"},
    "/v1/embeddings": {"model": "embedding", "input": "count 70"},
    "/v1/images/generations": {"model": "gpt-4o-mini", "prompt": "count 70"},
    "/v1/messages": {"model": "gpt-4o", "messages": MESSAGES, "max_tokens": 9},
    "/v1/responses": {"model": "gpt-4o", "input": "count 70"},
}
STEERING: dict[str, Any] = {
    "router_settings_override": {"fallbacks": [{"gpt-4o": ["gpt-4o-mini"]}]},
    "fallbacks": ["gpt-4o-mini"],
    "context_window_fallbacks": [{"gpt-4o": ["gpt-4o-mini"]}],
    "custom_llm_provider": "azure",
    "deployment_id": "x",
    "azure": True,
    "api_key": "sk-mine",
    "api_base": "http://127.0.0.1:1",
    "extra_headers": {"Authorization": "Bearer mine"},
    "num_retries": 100,
    "max_retries": 100,
    "timeout": 0.001,
    "total_timeout": 0.001,
    "cache": {"use-cache": True},
    "no-log": True,
    "mock_response": "free",
    "input_cost_per_token": 0,
    "litellm_metadata": {"user_api_key_user_id": "1"},
    "guardrails": ["none"],
}


@pytest.mark.parametrize("path", PATHS)
def test_a_field_that_steers_costs_no_call(stage: Stage, path: str) -> None:
    key = stage.keys[stage.make_user()]
    before = stage.provider.calls
    for name, value in STEERING.items():
        answer = ask(stage, key, path, **{**PATHS[path], name: value})
        assert answer.status_code == 400, (name, answer.text)
        error = answer.json()["error"]
        assert f"'{name}'" in error["message"]
        assert path == "/v1/messages" or error["param"] == name
    assert stage.provider.calls == before


def test_headers_and_query_steer_nothing(stage: Stage) -> None:
    user = stage.make_user()
    headers = {
        **{"Authorization": f"Bearer {stage.keys[user]}", "x-litellm-num-retries": "9", "X-LiteLLM-Timeout": "0.001"},
        **{"x-litellm-total-timeout": "0.001", "x-litellm-stream-timeout": "0.001", "x-litellm-call-id": "mine"},
        **{"x-litellm-tags": "mine", "x-litellm-model": "gpt-4o-mini", "x-litellm-spend-logs-metadata": '{"a": 1}'},
        **{"cache-control": "no-store", "x-litellm-disable-callbacks": "codexflow", "cookie": "token=x"},
    }
    before = stage.provider.calls
    body = {"model": "failing-alone", "messages": MESSAGES}
    url = stage.url + "/v1/chat/completions?model=gpt-4o-mini&num_retries=9&timeout=0.001"
    assert httpx.post(url, json=body, headers=headers, timeout=60).status_code == 500
    # Once, and once more as the operator's router_settings say.
    assert stage.provider.calls == before + 2
    answer = httpx.post(url, json={"model": "gpt-4o", "messages": MESSAGES}, headers=headers, timeout=60)
    assert answer.status_code == 200
    assert [row[0] for row in rows(stage, user)][-1] == "success"
    assert b"mine" not in stage.provider.traffic[-1] and b"cf_" not in stage.provider.traffic[-1]
    tags = f"SELECT count(*) FROM metering.events WHERE user_id = {user} AND 'mine' = ANY (tags)"
    assert stage.postgres.number(tags) == 0


def test_a_clients_tags_are_labels_of_the_event(stage: Stage) -> None:
    user = stage.make_user()
    metadata = {"tags": ["blue"], "user_api_key_user_id": "1", "model_group": "x"}
    assert chat(stage, stage.keys[user], 74, metadata=metadata).status_code == 200
    assert [row[:3] for row in rows(stage, user)] == [["success", "74", "5"]]
    tags = f"SELECT count(*) FROM metering.events WHERE user_id = {user} AND 'blue' = ANY (tags)"
    assert stage.postgres.number(tags) == 1


def test_an_operators_fallback_to_a_model_that_is_not_theirs_is_no_call(stage: Stage) -> None:
    user = stage.make_user()
    stage.postgres.sql(f"INSERT INTO metering.user_models VALUES ({user}, '{{failing}}')")
    eventually("the list is known", lambda: chat(stage, stage.keys[user], 75).status_code == 403)
    before = stage.provider.calls
    answer = chat(stage, stage.keys[user], 75, model="failing")
    assert answer.status_code in (403, 500), answer.text
    # The provider was asked for the allowed model alone, and served nothing.
    asked = [json.loads(part[part.rindex(b"\n") + 1 :])["model"] for part in stage.provider.traffic[before:]]
    assert set(asked) == {"failing"}
    assert {row[0] for row in rows(stage, user)} == {"error"}


def test_the_model_of_a_path_is_the_model_that_is_checked(stage: Stage) -> None:
    user = stage.make_user()
    stage.postgres.sql(f"INSERT INTO metering.user_models VALUES ({user}, '{{gpt-4o-mini}}')")
    path = "/openai/deployments/gpt-4o/chat/completions"
    eventually(
        "the list is known",
        lambda: ask(stage, stage.keys[user], path, model="gpt-4o-mini", messages=MESSAGES).status_code == 403,
    )
    assert ask(stage, stage.keys[user], path, model="gpt-4o,gpt-4o-mini", messages=MESSAGES).status_code == 403
    for model in ("gpt-4o,gpt-4o-mini", ["gpt-4o"], "openai/gpt-4o"):
        answer = ask(stage, stage.keys[user], "/v1/chat/completions", model=model, messages=MESSAGES)
        assert answer.status_code in (400, 403), answer.text
    headers = {"Authorization": f"Bearer {stage.keys[user]}"}
    assert httpx.get(stage.url + "/v1/models/gpt-4o", headers=headers).status_code == 404
    assert httpx.get(stage.url + "/v1/models/gpt-4o-mini", headers=headers).status_code == 200


def test_of_several_keys_one_counts_and_none_is_the_operators(stage: Stage) -> None:
    user, other = stage.make_user(), stage.make_user()
    for header in ("x-api-key", "api-key", "x-litellm-api-key"):
        headers = {header: stage.keys[user]}
        body = {"model": "gpt-4o", "messages": MESSAGES}
        answer = httpx.post(stage.url + "/v1/chat/completions", json=body, headers=headers, timeout=60)
        assert answer.status_code == 200
    headers = {"Authorization": f"Bearer {stage.keys[user]}", "x-api-key": stage.keys[other]}
    answer = httpx.post(stage.url + "/v1/chat/completions", json=body, headers=headers, timeout=60)
    assert answer.status_code == 200
    assert len(rows(stage, user)) == 4 and rows(stage, other) == []


@pytest.mark.parametrize("received", [0, 1, 40, 2_000])
def test_a_client_that_leaves_pays_what_the_provider_reported(stage: Stage, received: int) -> None:
    user = stage.make_user()
    stage.provider.delay = 1
    try:
        connection = http.client.HTTPConnection("127.0.0.1", int(stage.url.rsplit(":", 1)[1]))
        body = json.dumps({"model": "gpt-4o", "messages": MESSAGES, "stream": True})
        headers = {"Authorization": f"Bearer {stage.keys[user]}", "Content-Type": "application/json"}
        before = stage.provider.calls
        connection.request("POST", "/v1/chat/completions", body, headers)
        eventually("the provider is asked", lambda: stage.provider.calls > before)
        if received:
            assert connection.getresponse().read(received)
        connection.close()
    finally:
        stage.provider.delay = 0
    eventually("the call's row", lambda: rows(stage, user))
    assert [row[:4] for row in rows(stage, user)] == [["success", "70", "5", "t"]]


def test_a_rotated_key_stays_refused_while_webhook_api_is_away(stage: Stage) -> None:
    rotated, kept = stage.make_user(), stage.make_user()
    for user in (rotated, kept):
        assert chat(stage, stage.keys[user], 76).status_code == 200
    stage.postgres.sql(f"UPDATE users SET api_key = 'cf_another_{rotated}' WHERE id = {rotated}")
    eventually("it is refused", lambda: chat(stage, stage.keys[rotated], 76).status_code == 401, within=90)
    stage.webhook.kill()
    try:
        for _ in range(2):
            assert chat(stage, stage.keys[rotated], 76).status_code == 401
            assert chat(stage, stage.keys[kept], 76).status_code == 200
            stage.proxy.stop()
            stage.proxy.start()
    finally:
        stage.webhook.start()
    stage.drain()


def test_a_call_that_ends_before_a_provider_releases_its_reservation(stage: Stage) -> None:
    user = stage.make_user()
    stage.postgres.sql(f"INSERT INTO metering.user_limits (user_id, period, requests) VALUES ({user}, 'daily', 5)")
    assert chat(stage, stage.keys[user], 77).status_code == 200
    stage.drain()
    for _ in range(10):
        # LiteLLM refuses these after the pre-call hook.
        assert chat(stage, stage.keys[user], 77, model="no-such-model").status_code >= 400
        assert ask(stage, stage.keys[user], "/v1/embeddings", model="embedding").status_code >= 400
    stage.drain()
    for _ in range(4):
        assert chat(stage, stage.keys[user], 77).status_code == 200
    assert chat(stage, stage.keys[user], 77).status_code == 429


def test_a_burst_takes_no_more_than_the_budget_that_it_reserves(stage: Stage) -> None:
    user = stage.make_user()
    stage.postgres.sql(f"INSERT INTO metering.user_limits (user_id, period, budget) VALUES ({user}, 'daily', 0.05)")
    before = stage.provider.calls
    stage.provider.delay = 1
    try:
        with ThreadPoolExecutor(20) as pool:
            # Each may take 0.02 USD, the price of 2,000 tokens of gpt-4o's answer.
            answers = list(
                pool.map(lambda number: chat(stage, stage.keys[user], 2000 + number, max_tokens=2_000), range(20))
            )
    finally:
        stage.provider.delay = 0
    assert {answer.status_code for answer in answers} == {200, 429}
    assert stage.provider.calls - before <= 3


def test_a_model_without_a_price_is_not_for_a_budget(stage: Stage) -> None:
    user = stage.make_user()
    answers = [chat(stage, stage.keys[user], 78, model="unpriced").status_code]
    stage.postgres.sql(f"INSERT INTO metering.user_limits (user_id, period, budget) VALUES ({user}, 'daily', 5)")
    eventually("the budget is known", lambda: chat(stage, stage.keys[user], 78, model="unpriced").status_code == 403)
    before = stage.provider.calls
    refused = chat(stage, stage.keys[user], 78, model="unpriced")
    assert refused.json()["error"]["type"] == "model_not_priced"
    assert stage.provider.calls == before
    answers += [chat(stage, stage.keys[user], 78, model=model).status_code for model in ("gpt-4o", "mock")]
    assert answers == [200, 200, 200]


def test_an_answer_states_nothing_about_the_operators_system(stage: Stage) -> None:
    user = stage.make_user()
    headers = {"Authorization": f"Bearer {stage.keys[user]}", "Accept-Encoding": "gzip"}
    url = stage.url + "/v1/chat/completions"
    for model, status in (("gpt-4o", 200), ("failing-alone", 500)):
        body = {"model": model, "messages": [{"role": "user", "content": "my secret words, count 70"}]}
        answer = httpx.post(url, json=body, headers=headers, timeout=60)
        assert answer.status_code == status
        own = {name for name in answer.headers if name.startswith(("x-", "llm"))}
        assert own <= {"x-litellm-call-id", "x-litellm-response-cost"}
        assert "Traceback" not in answer.text and "127.0.0.1" not in answer.text and ".py" not in answer.text
    odd = {"model": "gpt-4o", "messages": [{"role": "user", "content": [{"type": "secret words", "x": [1]}]}]}
    assert "Traceback" not in httpx.post(url, json=odd, headers=headers, timeout=60).text
    assert rows(stage, user)
    kept = f"SELECT count(*) FROM api_logs WHERE user_id = {user} AND error_message ~ 'secret words|Traceback'"
    assert stage.postgres.number(kept) == 0


def test_slow_and_large_bodies_are_bounded(stage: Stage) -> None:
    key = stage.keys[stage.make_user()]
    headers = {"Authorization": f"Bearer {key}"}
    before = stage.provider.calls
    large = b'{"model": "gpt-4o", "messages": "' + b"x" * (33 << 20) + b'"}'
    assert httpx.post(stage.url + "/v1/chat/completions", content=large, headers=headers).status_code == 413
    deep = b'{"model": "gpt-4o", "messages": ' + b"[" * 900 + b"]" * 900 + b"}"
    assert httpx.post(stage.url + "/v1/chat/completions", content=deep, headers=headers).status_code == 400
    began = time.monotonic()
    unknown = httpx.post(stage.url + "/v1/chat/completions", content=large, headers={"Authorization": "Bearer x"})
    assert unknown.status_code == 401 and time.monotonic() - began < 30
    assert stage.provider.calls == before
