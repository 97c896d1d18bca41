"""The gate's tables without a proxy: which bodies pass, what is left of them, and how a request's path is read."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from codexflow_litellm.gate import routes
from codexflow_litellm.gate.application import Gate, Limits
from codexflow_litellm.gate.exchange import Client, Exchange, Message, Receive, Send, letters
from codexflow_litellm.gate.fields import ALLOWED, Fields, _own_names, parsed, steers
from codexflow_litellm.gate.refusal import Refused, kept_words, tidied, tidied_stream
from codexflow_litellm.gate.sizes import answers, longest_answer, size_of

CHAT = "chat/completions"
TEXT = [{"role": "user", "content": "Hello"}]
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def clean(route: str, body: dict[str, Any], fields: Fields | None = None) -> dict[str, Any]:
    """What is left of a body."""
    return (fields or Fields()).clean(route, {"model": "gpt", **body}, None)


def refused_field(route: str, body: dict[str, Any], fields: Fields | None = None) -> str | None:
    """The field that a refusal names."""
    with pytest.raises(Refused) as caught:
        clean(route, body, fields)
    assert caught.value.refusal.status == 400
    return caught.value.refusal.field


@pytest.mark.parametrize("route", ALLOWED)
def test_what_litellm_takes_for_a_setting_is_refused_by_name(route: str) -> None:
    names = _own_names() - ALLOWED[route]
    assert len(names) > 400
    assert {name: refused_field(route, {name: 1}) for name in names} == {name: name for name in names}


STEERING = """
    router_settings_override fallbacks context_window_fallbacks content_policy_fallbacks custom_llm_provider
    deployment_id azure api_key api_base base_url extra_headers headers num_retries max_retries timeout total_timeout
    stream_timeout request_timeout mock_response mock_testing_fallbacks cache no-log no_log litellm_metadata tags
    input_cost_per_token model_info callbacks success_callback guardrails ttl s-maxage-cache user_config model_list
    specific_deployment extra_body extra_query proxy_server_request secret_fields conversation mcp_servers container
    allowed_openai_params drop_params additional_drop_params litellm_session_id langfuse_host vertex_credentials
    aws_access_key_id organization prompt_id models provider route speed inference_geo _litellm_anything
    a_fallback_of_next_year retry_next_year NUM_RETRIES
"""


@pytest.mark.parametrize("name", STEERING.split())
def test_a_field_that_steers_is_refused_on_every_route(name: str) -> None:
    assert {refused_field(route, {name: "x"}) for route in ALLOWED} == {name}


def test_an_unknown_field_is_dropped_or_refused() -> None:
    assert clean(CHAT, {"messages": TEXT, "foo": 1}) == {"model": "gpt", "messages": TEXT}
    assert refused_field(CHAT, {"foo": 1}, Fields.read("", "refuse")) == "foo"
    assert clean(CHAT, {"num_retries": None}) == {"model": "gpt"}


def test_the_operator_adds_fields_and_hears_which_steer() -> None:
    fields = Fields.read("top_a, chat/completions:fallbacks", "refuse")
    assert fields.steering() == ["fallbacks"]
    assert clean(CHAT, {"top_a": 1, "fallbacks": ["x"]}, fields)["fallbacks"] == ["x"]
    assert refused_field("responses", {"fallbacks": ["x"]}, fields) == "fallbacks"


@pytest.mark.parametrize(
    ("route", "body", "field"),
    [
        (CHAT, {"model": "gpt-4o,gpt-4"}, "model"),
        (CHAT, {"model": ["gpt-4o"]}, "model"),
        (CHAT, {"model": ""}, "model"),
        (CHAT, {"model": "a\nb"}, "model"),
        (CHAT, {"n": 129}, "n"),
        (CHAT, {"n": "2"}, "n"),
        (CHAT, {"n": True}, "n"),
        (CHAT, {"max_tokens": "9000"}, "max_tokens"),
        (CHAT, {"max_tokens": 1.5}, "max_tokens"),
        (CHAT, {"max_tokens": -1}, "max_tokens"),
        (CHAT, {"max_completion_tokens": 1e300}, "max_completion_tokens"),
        (CHAT, {"stream": "true"}, "stream"),
        (CHAT, {"service_tier": "priority"}, "service_tier"),
        (CHAT, {"metadata": "x"}, "metadata"),
        (CHAT, {"user": {"id": 1}}, "user"),
        (CHAT, {"tools": {"type": "function"}}, "tools"),
        (CHAT, {"tools": [{"type": "mcp", "server_url": "litellm_proxy"}]}, "tools"),
        (CHAT, {"thinking": {"type": "enabled", "budget_tokens": "9"}}, "thinking.budget_tokens"),
        ("responses", {"background": True}, "background"),
        ("responses", {"background": "yes"}, "background"),
        ("responses", {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]}, "tools"),
        ("responses", {"tools": [{"type": "code_interpreter", "container": "cntr_1"}]}, "tools"),
        ("responses", {"tools": [{"type": "web_search", "connector_id": "x"}]}, "tools"),
        ("responses", {"prompt": {"id": "pmpt_1"}}, "prompt"),
        ("responses", {"input": [{"type": "item_reference", "id": "msg_1"}]}, "input"),
        ("responses", {"input": [{"id": "msg_1"}]}, "input"),
        ("responses", {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}, "input"),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}, "messages"),
        ("messages", {"messages": [{"role": "user", "content": [{"source": {"file_id": "f"}}]}]}, "messages"),
        ("messages", {"system": [{"type": "container_upload", "file_id": "f"}]}, "system"),
    ],
)
def test_a_value_that_steers_is_refused(route: str, body: dict[str, Any], field: str) -> None:
    assert refused_field(route, body) == field


ADDRESSES = """
    http://example.com/x.png file:///etc/passwd https://127.0.0.1/x https://169.254.169.254/ https://localhost/x
    https://[::1]/x https://2130706433/x https://metadata.google.internal/x https://10.0.0.1/ gs://bucket/x
    //example.com/x https://0x7f.1/ https://db.local/x HTTPS://example.com/x https://example.com@10.0.0.1/x
"""


@pytest.mark.parametrize("url", ADDRESSES.split())
def test_an_address_of_the_operators_network_is_refused(url: str) -> None:
    part = {"type": "image_url", "image_url": {"url": url}}
    assert refused_field(CHAT, {"messages": [{"role": "user", "content": [part]}]}) == "messages"
    # Pages that a search has found may be anywhere; nothing else in their place may.
    found = {"type": "web_search_result", "url": url, "title": "x"}
    search = {"type": "web_search_tool_result", "tool_use_id": "s1", "content": [found]}
    for hidden in (part, {"type": "image", "source": {"type": "url", "url": url}}, {**found, "image_url": url}):
        for place in ({**search, "content": [hidden]}, {**search, "type": "tool_result"}, {"annotations": [part]}):
            assert refused_field("messages", {"messages": [{"role": "user", "content": [place]}]}) == "messages"
    cited = {"type": "text", "text": "x", "citations": [{"type": "web_search_result_location", "url": url}]}
    body = {"messages": [{"role": "assistant", "content": [search, cited]}]}
    assert clean("messages", body)["messages"] == body["messages"]


def schema_bomb(depth: int) -> dict[str, Any]:
    """A small schema that doubles with each definition."""
    definitions: dict[str, Any] = {f"a{depth}": {"type": "string"}}
    for number in range(depth):
        reference = {"$ref": f"#/$defs/a{number + 1}"}
        definitions[f"a{number}"] = {"type": "object", "properties": {"p": reference, "q": reference}}
    return {"type": "object", "$defs": definitions, "properties": {"x": {"$ref": "#/$defs/a0"}}}


def circle(references: int) -> dict[str, Any]:
    """A schema that refers to itself."""
    properties = {f"p{number}": {"$ref": "#/$defs/tree"} for number in range(references)}
    return {"$defs": {"tree": {"type": "object", "properties": properties}}, "$ref": "#/$defs/tree"}


def two_scopes(depth: int) -> dict[str, Any]:
    """A bomb of which each scope has a half: some readers merge the scopes."""
    definitions = schema_bomb(depth)["$defs"]
    even = {name: value for name, value in definitions.items() if int(name[1:]) % 2 == 0}
    odd = {name: value for name, value in definitions.items() if int(name[1:]) % 2 == 1}
    return {"$defs": odd, "properties": {"x": {"$defs": even, "$ref": "#/$defs/a0"}}}


@pytest.mark.parametrize("schema", [schema_bomb(30), circle(30), schema_bomb(400), two_scopes(30)])
def test_a_schema_that_expands_without_end_is_refused(schema: dict[str, Any]) -> None:
    function = {"type": "function", "function": {"name": "f", "parameters": schema}}
    assert refused_field(CHAT, {"tools": [function]}) == "tools"
    assert refused_field(CHAT, {"functions": [function["function"]]}) == "functions"
    assert refused_field("messages", {"tools": [{"name": "f", "input_schema": schema}]}) == "tools"
    assert refused_field("responses", {"tools": [{"type": "function", "name": "f", "parameters": schema}]}) == "tools"
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    assert refused_field(CHAT, {"response_format": form}) == "response_format"
    assert refused_field("responses", {"text": {"format": {"type": "json_schema", "schema": schema}}}) == "text"


def test_many_schemas_count_together() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": schema_bomb(11)}}] * 12
    assert refused_field(CHAT, {"tools": tools}) == "tools"
    assert refused_field("responses", {"tools": [{"type": "namespace", "name": "n", "tools": tools}]}) == "tools"


def test_many_addresses_are_refused() -> None:
    parts = [{"image_url": {"url": "https://example.com/x.png"}}] * 21
    assert refused_field(CHAT, {"messages": [{"content": parts}]}) == "messages"


@pytest.mark.parametrize("schema", [schema_bomb(8), circle(5)])
def test_an_ordinary_schema_with_references_passes(schema: dict[str, Any]) -> None:
    body = {"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}] * 5}
    assert clean(CHAT, body) == {"model": "gpt", **body}


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("responses", {"previous_response_id": "resp_litellm_proxy:response_id:x;user_id:1;team_id:"}),
        ("responses", {"previous_response_id": ["resp_1"]}),
        ("responses", {"input": [{"content": [{"type": "input_file", "file_data": "gs://bucket/x.pdf"}]}]}),
        (CHAT, {"messages": [{"content": [{"type": "file", "file": {"file_data": "gs://bucket/x.pdf"}}]}]}),
        (CHAT, {"messages": [{"content": [{"type": "file", "file": {"file_data": "files/abc"}}]}]}),
        (CHAT, {"messages": [{"content": [{"input_audio": {"data": "https://example.com/x.wav"}}]}]}),
        (CHAT, {"messages": [{"content": [{"image_url": {"url": "files/abc"}}]}]}),
        (CHAT, {"messages": [{"content": [{"image_url": "data:image/png;base64,gs://bucket/x"}]}]}),
        (CHAT, {"messages": [{"content": [{"any_field_of_next_year": "S3://bucket/x"}]}]}),
        (
            CHAT,
            {"messages": [{"content": [{"image_url": "https://generativelanguage.googleapis.com/v1beta/files/x"}]}]},
        ),
        ("messages", {"messages": [{"content": [{"source": {"type": "base64", "data": "gs://bucket/x.pdf"}}]}]}),
        ("messages", {"messages": [{"content": [{"source": {"url": "https://api.anthropic.com/v1/files/x"}}]}]}),
        ("embeddings", {"input": ["text", "gs://bucket/x.png"]}),
        (CHAT, {"prompt_cache_options": {"comparison_response_id": "resp_1"}}),
        ("embeddings", {"input": "files/abc123"}),
    ],
)
def test_nothing_that_the_operators_credentials_open_can_be_named(route: str, body: dict[str, Any]) -> None:
    assert refused_field(route, body) in ("previous_response_id", "input", "messages", "prompt_cache_options")


def test_a_body_that_is_nested_too_deeply_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(200):
        deep = [deep]
    assert refused_field(CHAT, {"messages": deep}) is None


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("embeddings", {"input": ["see gs://bucket/x or files/abc", "https://example.com/page", "word"]}),
        (
            CHAT,
            {"messages": [{"content": "gs://bucket/x"}, {"content": [{"type": "text", "text": "http://10.0.0.1/"}]}]},
        ),
        ("messages", {"messages": [{"content": [{"source": {"media_type": "image/png", "data": "iVBORw0KGgo="}}]}]}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, IMAGE]}]}),
        (CHAT, {"messages": [{"role": "user", "content": [{"image_url": {"url": "https://example.com/x.png"}}]}]}),
        (CHAT, {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"file_id": "string"}}}]}),
        (CHAT, {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": '{"file_id": 1}'}}]}]}),
        (
            "messages",
            {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "input": {"file_id": "x"}}]}]},
        ),
        (
            "messages",
            {"tools": [{"name": "f", "input_schema": {"type": "object"}}, {"type": "bash_20250124", "name": "bash"}]},
        ),
        ("messages", {"thinking": {"type": "enabled", "budget_tokens": 1024}, "metadata": {"user_id": "u"}}),
        (
            "responses",
            {"input": [{"role": "user", "content": "x"}, {"type": "reasoning", "id": "rs_1", "summary": []}]},
        ),
        ("responses", {"background": False, "tools": [{"type": "web_search"}], "previous_response_id": "resp_1"}),
        ("images/generations", {"prompt": "x", "background": "transparent", "n": 1}),
    ],
)
def test_ordinary_values_pass_unchanged(route: str, body: dict[str, Any]) -> None:
    assert clean(route, body) == {"model": "gpt", **body}


def test_numbers_have_one_spelling_and_metadata_stays_outside() -> None:
    body = {"max_tokens": 9000.0, "n": 2.0, "metadata": {"tags": ["a"], "guardrails": ["off"]}}
    assert clean(CHAT, body) == {"model": "gpt", "max_tokens": 9000, "n": 2}


@pytest.mark.parametrize(
    ("route", "body", "least", "most"),
    [
        (CHAT, {"messages": "x y " * 100, "max_tokens": 50}, 150, 250),
        (CHAT, {"messages": "x y " * 100, "max_tokens": 50, "n": 4}, 300, 400),
        (CHAT, {"messages": "x y " * 100, "max_completion_tokens": 50, "max_tokens": 10}, 150, 250),
        (CHAT, {"messages": "x", "max_tokens": 50, "thinking": {"budget_tokens": 500}}, 500, 600),
        (CHAT, {"messages": "x", "max_tokens": 50, "reasoning": {"max_tokens": 700}}, 700, 800),
        (CHAT, {"messages": "x"}, 4_000, 4_100),
        (CHAT, {"messages": "漢" * 1_000_000, "max_tokens": 1}, 1_000_000, 3_000_000),
        (CHAT, {"messages": "🧿" * 1_000, "max_tokens": 1}, 3_000, 4_000),
        (CHAT, {"messages": "1,2," * 750_000, "max_tokens": 1}, 3_000_000, 3_100_000),
        (
            CHAT,
            {"tools": [{"name": "f", "properties": {f"{number:0250}": 1 for number in range(100)}}]},
            12_000,
            40_000,
        ),
        (CHAT, {"response_format": {"schema": {"enum": ["word " * 1_000] * 10}}}, 12_000, 40_000),
        (CHAT, {"messages": [{"image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}]}, 4_000, 20_000),
        ("messages", {"messages": [{"type": "text", "data": "A" * 90_000}], "max_tokens": 1}, 30_000, 40_000),
        ("messages", {"messages": [{"source": {"type": "base64", "data": "A" * 90_000}}], "max_tokens": 1}, 500, 2_000),
        ("messages", {"messages": [{"type": "tool_use", "input": {"data": "A" * 90_000}}]}, 30_000, 40_000),
        (
            "messages",
            {"messages": [{"type": "mcp_tool_use", "input": {"source": {"data": "A" * 90_000}}}]},
            30_000,
            40_000,
        ),
        (CHAT, {"tools": [{"parameters": {"url": "A" * 90_000}}]}, 30_000, 40_000),
        ("completions", {"prompt": ["x" * 200, "y" * 200], "max_tokens": 50, "best_of": 3}, 400, 500),
        ("completions", {"prompt": [[1, 2], [3, 4]], "max_tokens": 50}, 100, 150),
        ("responses", {"input": "x y " * 100, "max_output_tokens": 50, "instructions": "y" * 40}, 150, 250),
        ("embeddings", {"input": ["word " * 100] * 10}, 1_000, 2_000),
    ],
)
def test_a_reservation_covers_all_that_a_body_asks_for(route: str, body: dict[str, Any], least: int, most: int) -> None:
    size = size_of(route, body, orjson.dumps(body), unstated_answer=4_000)
    assert least <= size.prompt_tokens + size.answer_tokens <= most


def test_images_are_reserved_by_their_number() -> None:
    assert size_of("images/generations", {"n": 10}, b"{}", 4_000).images == 10


def test_a_count_of_answers_has_no_gap() -> None:
    assert (answers({}), answers({"n": 3}), answers({"best_of": 4, "n": 2})) == (1, 3, 4)
    assert longest_answer({"max_tokens": 5, "max_output_tokens": 7}, 1) == 7


def test_ordinary_fields_do_not_steer() -> None:
    assert {name for names in ALLOWED.values() for name in names if steers(name)} <= {
        *(
            "metadata",
            "prompt_cache_key",
            "prompt_cache_options",
            "prompt_cache_retention",
            "cache_control",
            "reasoning_effort",
        ),
        *("user", "model", "service_tier", "prediction", "store", "enable_thinking"),
    }


def path_of(method: str, raw: bytes, root: str = "") -> str | None:
    """The path that LiteLLM gets for a request line's target."""
    scope = {"method": method, "path": raw.decode("latin-1"), "raw_path": raw, "root_path": root}
    found = routes.match(scope)
    return None if found is None else found.path


def test_a_path_is_one_of_the_table_or_none() -> None:
    assert path_of("POST", b"/chat/completions") == "/v1/chat/completions"
    assert path_of("POST", b"/openai/deployments/gpt-4o/embeddings") == "/v1/embeddings"
    assert path_of("POST", b"/llm/v1/messages", root="/llm") == "/v1/messages"
    assert path_of("GET", b"/models/openai/gpt-4o") == "/v1/models/openai/gpt-4o"
    for raw in (b"/v1/chat/completions/", b"/v1/./chat/completions", b"/v1/chat\\completions", b"/v1/models/../x", b""):
        assert path_of("POST", raw) is None and path_of("GET", raw) is None


async def refusal_of(body: bytes) -> Refused:
    """How the gate refuses a body before it looks at any field."""
    with pytest.raises(Refused) as caught:
        parsed(body)
    return caught.value


@pytest.mark.parametrize("body", [b"", b"{", b"NaN", b'{"a": NaN}', b"[" * 100_000, b"\xff\xfe", b"a=1"])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    assert asyncio.run(refusal_of(body)).refusal.status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"[" + b"[]," * 300_000 + b"[]]",
        b'{"a": "\\ud83d", "b": [' + b",".join([b"1" * 4_000] * 1_000) + b"]}",
    ],
)
def test_a_body_that_takes_long_is_refused_at_once(body: bytes) -> None:
    assert asyncio.run(refusal_of(body)).refusal.status in (400, 413)


def test_a_name_that_takes_long_is_refused_before_any_pattern() -> None:
    assert refused_field(CHAT, {"_router" * 8_000 + "\n": 1}) is None
    assert refused_field(CHAT, {f"x{number}": 1 for number in range(300)}) is None
    assert steers("_router" * 9 + "\n")


def test_a_large_body_with_lone_surrogates_is_refused_at_once() -> None:
    body = b'{"messages": "' + b"x" * (2 << 20) + b'\\ud83d"}'
    assert asyncio.run(refusal_of(body)).refusal.status == 400


def test_the_last_of_two_members_counts_for_all() -> None:
    body = parsed(b'{"model": "a", "model": "b", "text": "\\ud83d x"}')
    assert body == {"model": "b", "text": " x"} and orjson.dumps(body)


PAGE = Path(__file__).resolve().parents[3] / "docs/litellm-gate.md"


def test_the_page_lists_the_fields_of_every_route() -> None:
    rows = [
        f"| `/v1/{route}` | {', '.join(f'`{name}`' for name in sorted(names))} |" for route, names in ALLOWED.items()
    ]
    table = "\n".join(["| route | fields |", "|---|---|", *rows])
    assert table in PAGE.read_text(), table


def test_only_errors_lose_what_they_state_about_the_operators_system() -> None:
    trace = "Traceback (most recent call last): boom."
    error = {"error": {"message": f"no such part\n{trace}", "code": "500"}}
    assert orjson.loads(tidied(orjson.dumps(error)))["error"]["message"] == "no such part"
    assert trace.encode() not in tidied_stream(b"data: " + orjson.dumps(error) + b"\n\ndata: [DONE]\n\n")
    assert b"no prompt" not in tidied(b"no prompt\n" * 9)
    assert kept_words("bad value 'a long secret of the customer' in 'x'") == "bad value '…' in 'x'"


class Door:
    """A keeper of one key."""

    async def admit(self, key: str) -> tuple[str, Any]:
        return "a" * 64, None

    def is_master(self, key: str) -> bool:
        return False

    def owns_responses(self) -> bool:
        return True

    async def finish(self, exchange: Exchange) -> None:
        return None


async def passed_on(parts: list[bytes], status: int = 200) -> bytes:
    """What a customer gets of an answer of LiteLLM's."""

    async def litellm(scope: Any, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": status, "headers": []})
        for part in parts:
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Message:
        return {"type": "http.request", "body": b'{"model": "gpt"}'}

    got: list[bytes] = []

    async def send(message: Message) -> None:
        got.append(message.get("body", b""))

    path = "/v1/chat/completions"
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "headers": []}
    await Gate(litellm, Door(), Fields(), Limits())(scope, receive, send)
    return b"".join(got)


def test_an_answer_about_tracebacks_arrives_whole() -> None:
    words = b'{"content": "Traceback (most recent call last): boom. Keep this.", "error": "x"}'
    assert asyncio.run(passed_on([words])) == words
    streamed = [b"data: " + words + b"\n\n", b"data: [DONE]\n\n"]
    assert asyncio.run(passed_on(streamed)) == b"".join(streamed)
    failed = b'data: {"error": {"message": "gone\\nTraceback (most recent call last)", "code": "500"}}\n\n'
    assert b"Traceback" not in asyncio.run(passed_on([streamed[0], failed]))[len(streamed[0]) :]
    assert b"Traceback" not in asyncio.run(passed_on([failed[6:]], status=500))


def test_letters_of_a_text_that_looks_like_an_event_count() -> None:
    text = "a" * 1_000 + ' {"type": "response.created"} "response.'
    assert letters(orjson.dumps({"choices": [{"message": {"content": text}}]})) > 1_000


def test_one_key_fills_a_part_of_the_memory_alone() -> None:
    async def main() -> None:
        async def litellm(scope: Any, receive: Receive, send: Send) -> None:
            raise AssertionError("not reached")

        async def receive() -> Message:
            return {"type": "http.request", "body": b"x" * 200, "more_body": True}

        got: list[int] = []

        async def send(message: Message) -> None:
            got.append(message.get("status", 0))

        door = Gate(litellm, Door(), Fields(), Limits(held_bytes=1_600, largest_body=10_000))
        path = "/v1/chat/completions"
        scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "headers": []}
        await door(scope, receive, send)
        assert got[0] == 503 and door._held == 0 and not door._held_of

    asyncio.run(main())


def test_an_operator_who_leaves_in_the_middle_of_a_body_ends_the_request() -> None:
    async def main() -> None:
        messages: list[Message] = [
            {"type": "http.request", "body": b"{", "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive() -> Message:
            return messages.pop(0)

        async def send(message: Message) -> None:
            return None

        client = Client(Exchange(is_operator=True), receive, send, 60)
        assert [(await client.receive())["type"] for _ in range(2)] == ["http.request", "http.disconnect"]

    asyncio.run(main())
