"""Quick attacks by a customer who has one key, the module's source and LiteLLM's source."""

import asyncio
import base64
import json
import re
import socket
import time
from collections.abc import MutableMapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from stage import Stage
from test_calls import MESSAGES, ask, rows

from codexflow_litellm.gate.exchange import Client, Exchange
from codexflow_litellm.gate.fields import Fields, parsed
from codexflow_litellm.gate.refusal import Refused, kept_words, tidied
from codexflow_litellm.gate.sizes import size_of

CHAT, PATH = "chat/completions", "/v1/chat/completions"
TEXT = [{"role": "user", "content": "Hello"}]


def schema(depth: int, scopes: int) -> dict[str, Any]:
    """A schema whose references double ``depth`` times, its definitions spread over one scope or two."""
    links = {
        f"a{n}": {"type": "object", "properties": {side: {"$ref": f"#/$defs/a{n + 1}"} for side in "lr"}}
        for n in range(depth)
    }
    links[f"a{depth}"] = {"type": "object", "properties": {}}
    inner = {name: link for name, link in links.items() if int(name[1:]) % scopes == 0}
    outer = {name: link for name, link in links.items() if name not in inner}
    start = {"type": "object", "$defs": inner, "properties": {"p": {"$ref": "#/$defs/a0"}}}
    return {"type": "object", "$defs": outer, "properties": {"x": start}}


def circle(size: int) -> dict[str, Any]:
    """A schema of definitions that all refer to all."""
    names = [f"a{n}" for n in range(size)]
    everyone = {name: {"$ref": f"#/$defs/{name}"} for name in names}
    return {"$defs": {name: {"type": "object", "properties": everyone} for name in names}, "properties": everyone}


def tool(parameters: Any) -> dict[str, Any]:
    """A function with this schema."""
    return {"messages": TEXT, "tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}]}


def part(value: Any) -> dict[str, Any]:
    """A body whose message holds one content part."""
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hello"}, value]}]}


def file_of(data: str) -> dict[str, Any]:
    """A body with a file."""
    return part({"type": "file", "file": {"file_data": data, "format": "application/pdf"}})


def document_of(data: str) -> dict[str, Any]:
    """A body with a document as Anthropic's clients send it."""
    return part({"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": data}})


def encoded(value: dict[str, Any]) -> bytes:
    """The body of a request."""
    return orjson.dumps({"model": "gpt", **value})


STALLS: dict[str, bytes] = {
    "a name on which a pattern would go back and forth": encoded({"messages": TEXT, "_router" * 100_000 + "\n": 1}),
    "many names": encoded({"messages": TEXT, **{f"x{n}": 1 for n in range(100_000)}}),
    "many values": b'{"model":"gpt","messages":[' + b"[]," * 2_000_000 + b"[]]}",
    "long integers": b'{"model":"\\ud800","x":[' + (b"9" * 4_200 + b",") * 3_000 + b"1]}",
    "a deep body": b'{"model":"gpt","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a body that is just too deep": b'{"model":"gpt","messages":' + b"[" * 200 + b"]" * 200 + b"}",
    "a schema that doubles": encoded(tool(schema(40, 1))),
    "a schema that doubles over two scopes": encoded(tool(schema(40, 2))),
    "a schema that doubles over three scopes": encoded(tool(schema(40, 3))),
    "schemas that are each small enough": encoded(
        {"messages": TEXT, "tools": tool(schema(10, 1))["tools"] * 100},
    ),
    "a circle of definitions": encoded(tool(circle(12))),
    "a schema of an answer": encoded(
        {"messages": TEXT, "response_format": {"type": "json_schema", "json_schema": {"schema": schema(40, 2)}}}
    ),
    "a host of many names": encoded(part({"type": "image_url", "image_url": "https://" + "a." * 200_000 + "1"})),
    "a kind of tool of many figures": encoded({"tools": [{"type": "bash" + "_1" * 500_000 + "x"}]}),
}


@pytest.mark.parametrize("name", STALLS)
def test_no_body_makes_the_process_stand_still(name: str) -> None:
    started = time.process_time()
    with pytest.raises(Refused) as caught:
        Fields().clean(CHAT, parsed(STALLS[name]), None)
    assert caught.value.refusal.status in (400, 413)
    assert time.process_time() - started < 1.5


FORGED = base64.b64encode(b"litellm:custom_llm_provider:openai;model_id:None;response_id:resp_another").decode()
FILES = "https://generativelanguage.googleapis.com/v1beta/files/x"
NAMED: list[tuple[str, dict[str, Any]]] = [
    *((CHAT, file_of(data)) for data in ("gs://bucket/x.pdf", "s3://bucket/x", "http://10.0.0.1/x", "files/x", FILES)),
    (CHAT, file_of("data:application/pdf;base64,gs://bucket/x.pdf")),
    ("messages", document_of("gs://bucket/x.pdf")),
    (CHAT, part({"type": "file", "file": {"file_id": "file-1"}})),
    (CHAT, part({"type": "input_audio", "input_audio": {"data": "http://10.0.0.1/x", "format": "mp3"}})),
    (CHAT, part({"type": "media", "file_uri": "gs://bucket/x"})),
    *(
        (CHAT, part({"type": "image_url", "image_url": {"url": url}}))
        for url in (
            *("http://example.com/x.png", "https://127.0.0.1/x", "https://[::1]/x", "https://0x7f000001/x", FILES),
            *("https://localhost/x", "https://metadata.google.internal/x", "https://metadata.google.internal./x"),
            *("https://api.openai.com/v1/files/x", "gs://bucket/x", "GS://bucket/x", "file:///etc/passwd", "//x.com/x"),
        )
    ),
    ("responses", {"input": [{"role": "user", "content": [{"type": "input_file", "file_data": "gs://bucket/x"}]}]}),
    ("responses", {"input": [{"type": "item_reference", "id": "msg_1"}]}),
    *(
        ("responses", {"input": "Hello", "previous_response_id": name})
        for name in (
            f"resp_litellm_proxy:responses_api:response_id:{FORGED};user_id:1;team_id:",
            "resp_litellm_proxy:response_id:another;user_id:1;team_id:",
            "xresp_litellm_proxy;user_id:1;team_id:",
            ["resp_1"],
        )
    ),
    ("responses", {"input": "Hello", "prompt_cache_options": {"comparison_response_id": "resp_another"}}),
    (CHAT, {"messages": TEXT, "prompt_cache_options": {"comparison_response_id": "resp_another"}}),
    *(("embeddings", {"input": [text]}) for text in ("gs://bucket/x.png", "files/x", "http://10.0.0.1/x", " gs://b/x")),
    ("embeddings", {"input": "gs://bucket/x.png"}),
]


@pytest.mark.parametrize("number", range(len(NAMED)))
def test_no_body_names_what_the_operators_credentials_open(number: int) -> None:
    route, body = NAMED[number]
    with pytest.raises(Refused) as caught:
        Fields().clean(route, {"model": "gpt", **body}, None)
    assert caught.value.refusal.status == 400


LETTERS = "".join(chr(97 + n * n * 7 % 26) + chr(65 + n * 11 % 26) for n in range(100_000))
DENSE: dict[str, tuple[str, dict[str, Any], int]] = {
    "another script": (CHAT, {"messages": [{"role": "user", "content": "漢" * 100_000}]}, 50_000),
    "signs": (CHAT, {"messages": [{"role": "user", "content": "1,2," * 50_000}]}, 100_000),
    "names of members": (CHAT, tool({"properties": {f"name {n} " * 9: {} for n in range(2_000)}}), 20_000),
    "a schema of the answer": (CHAT, {"messages": TEXT, "response_format": {"description": "a b " * 50_000}}, 30_000),
    "the arguments of a tool": (
        "messages",
        part({"type": "tool_use", "id": "t", "name": "f", "input": {"data": LETTERS, "url": LETTERS}}),
        60_000,
    ),
    "the arguments of a provider's tool": (
        "messages",
        part({"type": "server_tool_use", "id": "t", "name": "f", "input": {"source": {"data": LETTERS}}}),
        30_000,
    ),
}


@pytest.mark.parametrize("name", DENSE)
def test_a_dense_prompt_reserves_what_it_takes(name: str) -> None:
    route, body, least = DENSE[name]
    cleaned = Fields().clean(route, {"model": "gpt", "max_tokens": 1, **body}, None)
    assert size_of(route, cleaned, orjson.dumps(cleaned), 1).prompt_tokens >= least


@pytest.mark.parametrize("more_body", [False, True])
def test_an_answer_about_a_traceback_is_not_touched(more_body: bool) -> None:
    answer = json.dumps({"content": "See: Traceback (most recent call last):\n  File. It means X." + "\n" * 100_000})
    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def serve() -> None:
        client = Client(Exchange(), receive, send, 60)
        await client.send({"type": "http.response.start", "status": 200, "headers": []})
        await client.send({"type": "http.response.body", "body": answer.encode(), "more_body": more_body})

    started = time.process_time()
    asyncio.run(serve())
    assert b"".join(message.get("body", b"") for message in sent) == answer.encode()
    assert time.process_time() - started < 1.5


def test_an_error_repeats_no_prompt_and_no_traceback() -> None:
    inside = "\nReceived Messages=[{'role': 'user', 'content': 'my secret'}]\nTraceback (most recent call last): /x.py"
    body = json.dumps({"error": {"message": "AnthropicException - no attribute 'get'" + inside, "code": "400"}})
    assert json.loads(tidied(body.encode()))["error"]["message"] == "AnthropicException - no attribute 'get'"
    assert "secret" not in kept_words('no: {"content": "my secret words of a prompt"}' + inside)


def raw(stage: Stage, text: str, leaves: bool = False) -> list[int]:
    """The statuses of all answers to bytes that no client library would send."""
    with socket.create_connection(("127.0.0.1", int(stage.url.rsplit(":", 1)[1])), timeout=30) as connection:
        connection.sendall(text.encode("latin-1"))
        if leaves:
            connection.shutdown(socket.SHUT_WR)
        answer = connection.makefile("rb").read()
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


BODY = json.dumps({"model": "gpt-4o", "messages": MESSAGES})
LENGTH = f"Content-Length: {len(BODY)}\r\n"
CHUNKS = f"\r\n{len(BODY):x}\r\n{BODY}\r\n0\r\n\r\n"
FRAMES: dict[str, tuple[str, int]] = {
    "two lengths": (f"{LENGTH}Content-Length: 3\r\n\r\n{BODY}", 0),
    "an unknown coding": (f"Transfer-Encoding: xchunked\r\n{CHUNKS}", 0),
    "a compressed body": (f"Content-Encoding: gzip\r\n{LENGTH}\r\n{BODY}", 0),
    "a body cut short": (f"Content-Length: 5000\r\n\r\n{BODY}", 0),
    "chunks": (f"Transfer-Encoding: chunked\r\n{CHUNKS}", 1),
    "chunks and a length": (f"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n{CHUNKS}", 1),
    "another method and address in headers": (
        f"X-HTTP-Method-Override: DELETE\r\nX-Original-URL: /key/list\r\nX-Forwarded-Prefix: /x\r\n{LENGTH}\r\n{BODY}",
        1,
    ),
    "thousands of headers": ("".join(f"X-A{n}: b\r\n" for n in range(3_000)) + f"{LENGTH}\r\n{BODY}", 1),
}


def test_however_a_request_is_framed_a_call_is_one_event(stage: Stage) -> None:
    user = stage.make_user()
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {stage.keys[user]}\r\n"
    made = 0
    for name, (rest, calls) in FRAMES.items():
        before = stage.provider.calls
        statuses = raw(stage, f"{head}Connection: close\r\n{rest}", leaves=name == "a body cut short")
        assert stage.provider.calls - before == calls, name
        assert (200 in statuses) == (calls == 1), (name, statuses)
        made += calls
    before = stage.provider.calls
    call = f"{head}{LENGTH}\r\n{BODY}"
    last = call.replace(LENGTH, f"{LENGTH}Connection: close\r\n")
    assert raw(stage, call * 3 + last).count(200) == stage.provider.calls - before == 4
    # The rest of a refused request's body is no request.
    refused = call.replace(PATH, "/key/generate").replace(LENGTH, f"Content-Length: {len(call)}\r\n")
    assert raw(stage, refused.replace(BODY, call))[:1] == [403]
    assert stage.provider.calls - before == 4
    assert [row[:3] for row in rows(stage, user)] == [["success", "70", "5"]] * (made + 4)


def test_a_forged_id_of_a_response_reaches_no_provider(stage: Stage) -> None:
    user, other = stage.make_user(), stage.make_user()
    answer = ask(stage, stage.keys[other], "/v1/responses", model="gpt-4o", input="count 70")
    theirs = answer.json()["id"]
    before = stage.provider.calls
    forged = f"resp_litellm_proxy:responses_api:response_id:{FORGED};user_id:{user};team_id:"
    for name in (theirs, forged, f"resp_litellm_proxy:response_id:x;user_id:{user};team_id:", "resp_another"):
        body = {"model": "gpt-4o", "input": "count 70", "previous_response_id": name}
        assert ask(stage, stage.keys[user], "/v1/responses", **body).status_code in (400, 403)
    assert stage.provider.calls == before
    own = {"model": "gpt-4o", "input": "count 70", "previous_response_id": theirs}
    assert ask(stage, stage.keys[other], "/v1/responses", **own).status_code == 200


def test_an_answer_states_nothing_about_the_operators_system(stage: Stage) -> None:
    key = stage.keys[stage.make_user()]
    answer = ask(stage, key, PATH, model="gpt-4o", messages=MESSAGES)
    assert not [name for name in answer.headers if "api-base" in name or "model-id" in name or "key-spend" in name]
    odd = ask(stage, key, PATH, model="gpt-4o", messages=[{"role": "user", "content": [{"type": "file", "file": "x"}]}])
    assert "Traceback" not in odd.text and "site-packages" not in odd.text


def test_a_failed_stream_of_completions_ends_as_one_event(stage: Stage) -> None:
    user = stage.make_user()
    answer = ask(stage, stage.keys[user], "/v1/completions", model="failing-alone", prompt="count 70", stream=True)
    assert answer.status_code == 500
    assert [row[0] for row in rows(stage, user)] == ["error"]


def test_a_burst_of_dense_prompts_stops_at_the_limit(stage: Stage) -> None:
    user = stage.make_user()
    stage.postgres.sql(f"INSERT INTO metering.user_limits (user_id, period, tokens) VALUES ({user}, 'daily', 60000)")
    messages = [{"role": "user", "content": "漢" * 100_000 + " count 100000"}]
    body = {"model": "gpt-4o", "messages": messages, "max_tokens": 1}
    stage.provider.delay = 0.5
    try:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: ask(stage, stage.keys[user], PATH, **body).status_code, range(8)))
    finally:
        stage.provider.delay = 0
    assert sorted(answers) == [200] + [429] * 7
