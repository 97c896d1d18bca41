"""OpenAI's and Anthropic's own Python clients through the real proxy: what people ordinarily send arrives unchanged.

Every call that the provider served is one row in the end, with the tokens that the provider reported.
"""

import asyncio
import json
from collections.abc import Iterator, Set
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast, get_args

import anthropic
import openai
import pytest
from anthropic.types.shared import ErrorType
from client_requests import BETAS, CHATS, MESSAGES, MODELS, QUESTION, REFUSED, RESPONSES, UNKNOWN
from pydantic import BaseModel
from recording_provider import CACHED, ERRORS, REASONING, TEXT, WRITTEN, Call, RecordingProvider
from stage import Stage


@pytest.fixture(scope="module")
def provider() -> Iterator[RecordingProvider]:
    """What all models of this file are served by."""
    provider = RecordingProvider()
    yield provider
    provider.close()


@pytest.fixture(scope="module")
def models(provider: RecordingProvider) -> list[dict[str, Any]]:
    """LiteLLM's configuration of them."""
    return provider.models(MODELS)


@pytest.fixture(scope="module")
def user(stage: Stage) -> int:
    """The customer who makes all calls that are served."""
    return stage.make_user()


@pytest.fixture(scope="module")
def client(stage: Stage, user: int) -> openai.OpenAI:
    """OpenAI's client as its documentation makes it."""
    return openai.OpenAI(api_key=stage.keys[user], base_url=stage.url + "/v1", timeout=60, max_retries=2)


@pytest.fixture(scope="module")
def claude(stage: Stage, user: int) -> anthropic.Anthropic:
    """Anthropic's client as its documentation makes it: it sends the key as ``x-api-key``."""
    return anthropic.Anthropic(api_key=stage.keys[user], base_url=stage.url, timeout=60, max_retries=2)


QUESTIONS: Any = QUESTION


class City(BaseModel):
    """What every answer of the provider is."""

    city: str


NOT_PASSED_ON = {"betas", "extra_body", "extra_headers", "model", "timeout"}
"""Arguments that are not in the body, or are replaced in it."""
ADDED = {"model", "stream", "stream_options"}


def check(call: Call, sent: dict[str, Any], besides: Set[str] = frozenset()) -> None:
    """Every field of a request arrived as it was sent, and nothing was added."""
    kept = {name: value for name, value in sent.items() if name not in NOT_PASSED_ON}
    if call.path != "messages":
        # LiteLLM has settings of its own in it.
        kept.pop("metadata", None)
    kept |= {name: value for name, value in sent.get("extra_body", {}).items() if name != UNKNOWN}
    assert {name: call.body.get(name) for name in kept} == kept
    assert set(call.body) - set(kept) <= ADDED | besides
    assert call.headers["authorization" if "authorization" in call.headers else "x-api-key"].endswith("of-the-provider")


def last(provider: RecordingProvider, before: int) -> Call:
    """The one call that the provider got since."""
    [call] = provider.calls[before:]
    return call


@pytest.mark.parametrize("mode", ["whole", "stream", "stream with usage"])
@pytest.mark.parametrize("name", CHATS)
def test_chat(client: openai.OpenAI, provider: RecordingProvider, name: str, mode: str) -> None:
    sent = {"model": "chat", "messages": QUESTION, **CHATS[name]}
    before, count = len(provider.calls), sent.get("n", 1)
    if mode == "whole":
        answer = client.chat.completions.create(**sent)
        reported = [answer.usage]
        texts = [choice.message.content for choice in answer.choices]
        called = len(answer.choices[0].message.tool_calls or ())
    else:
        options: dict[str, Any] = {"stream_options": {"include_usage": True}} if mode == "stream with usage" else {}
        chunks = list(client.chat.completions.create(**sent, stream=True, **options))
        reported = [chunk.usage for chunk in chunks if chunk.usage]
        parts = [choice for chunk in chunks for choice in chunk.choices]
        texts = ["".join(part.delta.content or "" for part in parts if part.index == n) for n in range(count)]
        called = len({call.index for part in parts for call in part.delta.tool_calls or ()})
    call = last(provider, before)
    check(call, sent)
    expected = [] if mode == "stream" else [call.tokens]
    assert [(usage.prompt_tokens, usage.completion_tokens) for usage in reported] == expected
    assert called == (2 if "weather" in name else 0)
    assert called or texts == [TEXT] * count


# --- OpenAI: responses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["whole", "stream"])
@pytest.mark.parametrize("name", RESPONSES)
def test_response(client: openai.OpenAI, provider: RecordingProvider, name: str, mode: str) -> None:
    sent = {"model": "chat", "input": "Which city?", **RESPONSES[name]}
    before = len(provider.calls)
    if mode == "whole":
        answer = client.responses.create(**sent)
    else:
        events = list(client.responses.create(**sent, stream=True))
        assert events[0].type == "response.created"
        assert events[-1].type == "response.completed"
        answer = events[-1].response
    call = last(provider, before)
    check(call, sent)
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == call.tokens
    kinds = [item.type for item in answer.output]
    assert kinds.count("function_call") == (2 if "weather" in name else 0)
    assert "function_call" in kinds or answer.output_text == TEXT


# --- Anthropic --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["whole", "stream", "helper"])
@pytest.mark.parametrize("name", [*MESSAGES, *BETAS])
def test_message(claude: anthropic.Anthropic, provider: RecordingProvider, name: str, mode: str) -> None:
    sent = {"model": "claude", "max_tokens": 1000, "messages": QUESTION, **(MESSAGES | BETAS)[name]}
    before = len(provider.calls)
    api: Any = claude.beta.messages if name in BETAS else claude.messages
    if mode == "whole":
        answer = api.create(**sent)
        content, usage = answer.content, answer.usage
    elif mode == "helper":
        with api.stream(**sent) as stream:
            answer = stream.get_final_message()
        content, usage = answer.content, answer.usage
    else:
        events = list(api.create(**sent, stream=True))
        assert (events[0].type, events[-1].type) == ("message_start", "message_stop")
        content = [event.content_block for event in events if event.type == "content_block_start"]
        [usage] = [event.message.usage for event in events if event.type == "message_start"]
        [usage.output_tokens] = [event.usage.output_tokens for event in events if event.type == "message_delta"]
    call = last(provider, before)
    check(call, sent)
    for beta in sent.get("betas", ()):
        assert beta in call.headers["anthropic-beta"]
    cached = (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)
    assert cached == (CACHED + WRITTEN if "cache_control" in json.dumps(sent) else 0)
    assert (usage.input_tokens + cached, usage.output_tokens) == call.tokens
    kinds = [block.type for block in content]
    assert ("thinking" in kinds) == ("thinking" in sent)
    assert kinds.count("tool_use") == (2 if "weather" in name else 0)


# --- The other calls, helpers and clients -----------------------------------------------------------------------------


def test_structured_answers(client: openai.OpenAI, claude: anthropic.Anthropic, provider: RecordingProvider) -> None:
    """The helpers that make a schema of a class, and an object of the answer."""
    paris = City(city="Paris")
    for completions in (client.chat.completions, client.beta.chat.completions):
        parsed = completions.parse(model="chat", messages=QUESTIONS, response_format=City)
        assert parsed.choices[0].message.parsed == paris
        with completions.stream(model="chat", messages=QUESTIONS, response_format=City) as stream:
            assert stream.get_final_completion().choices[0].message.parsed == paris
        assert provider.calls[-1].body["response_format"]["json_schema"]["schema"]["required"] == ["city"]
    assert client.responses.parse(model="chat", input="Which city?", text_format=City).output_parsed == paris
    with client.responses.stream(model="chat", input="Which city?", text_format=City) as events:
        assert events.get_final_response().output_parsed == paris
    assert provider.calls[-1].body["text"]["format"]["schema"]["required"] == ["city"]
    for messages in (claude.messages, claude.beta.messages):
        answer = messages.parse(model="claude", max_tokens=100, messages=QUESTIONS, output_format=City)
        assert answer.parsed_output == paris
        assert "required" in json.dumps(provider.calls[-1].body)


def test_the_other_routes(client: openai.OpenAI, provider: RecordingProvider) -> None:
    vectors = client.embeddings.create(model="vectors", input=["one", "two"], user="end-user-1", dimensions=2)
    assert [item.embedding for item in vectors.data] == [[0.5, 0.25]] * 2
    check(provider.calls[-1], {"input": ["one", "two"], "dimensions": 2, "encoding_format": "base64"}, {"user"})
    client.embeddings.create(model="vectors", input=[1, 2, 3], encoding_format="float")
    check(provider.calls[-1], {"input": [1, 2, 3], "encoding_format": "float"})
    text = client.completions.create(model="instruct", prompt="Which?", max_tokens=9, stop="END", suffix="!", seed=1)
    assert text.choices[0].text == TEXT
    check(provider.calls[-1], {"prompt": "Which?", "max_tokens": 9, "stop": "END", "suffix": "!", "seed": 1})
    pieces = client.completions.create(model="instruct", prompt="Which?", stream=True)
    assert "".join(choice.text or "" for piece in pieces for choice in piece.choices) == TEXT
    wish: dict[str, Any] = {"prompt": "A dot", "n": 2, "quality": "low", "size": "1024x1024", "background": "opaque"}
    assert len(client.images.generate(model="painter", **wish).data or ()) == 2
    check(provider.calls[-1], wish)


def test_models(stage: Stage, client: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    assert {"chat", "claude"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("chat").id == "chat"
    assert claude.models.list().data
    poor = stage.make_user()
    stage.postgres.sql(f"INSERT INTO metering.user_models VALUES ({poor}, '{{chat}}')")
    their = client.with_options(api_key=stage.keys[poor])
    assert [model.id for model in their.models.list()] == ["chat"]
    with pytest.raises(openai.NotFoundError, match="no such model"):
        their.models.retrieve("vectors")


def test_azures_client(stage: Stage, user: int, provider: RecordingProvider) -> None:
    azure = openai.AzureOpenAI(azure_endpoint=stage.url, api_key=stage.keys[user], api_version="2024-10-21")
    assert azure.chat.completions.create(model="chat", messages=QUESTIONS).choices[0].message.content == TEXT
    assert list(azure.chat.completions.create(model="chat", messages=QUESTIONS, stream=True))
    assert azure.embeddings.create(model="vectors", input="one").data[0].embedding == [0.5, 0.25]
    assert azure.images.generate(model="painter", prompt="A dot").data
    fixed = openai.AzureOpenAI(
        azure_endpoint=stage.url, azure_deployment="chat", api_key=stage.keys[user], api_version="2024-10-21"
    )
    assert fixed.chat.completions.create(model="vectors", messages=QUESTIONS).choices[0].message.content == TEXT
    assert provider.calls[-1].body["model"] == "gpt-4.1"


def test_the_other_providers_models(
    client: openai.OpenAI, claude: anthropic.Anthropic, provider: RecordingProvider
) -> None:
    """OpenAI's client with a model of Anthropic's, and the other way round: LiteLLM translates."""
    content = [{"type": "text", "text": "A long text.", "cache_control": {"type": "ephemeral"}}]
    messages: Any = [{"role": "system", "content": content}, *QUESTION]
    answer = client.chat.completions.create(
        model="claude", messages=messages, extra_body={"thinking": {"type": "enabled", "budget_tokens": 1500}}
    )
    call = provider.calls[-1]
    assert (call.path, call.body["system"], call.body["thinking"]["budget_tokens"]) == ("messages", content, 1500)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == call.tokens
    with claude.messages.stream(model="chat", max_tokens=100, messages=QUESTIONS) as stream:
        assert "".join(stream.text_stream) == TEXT
    assert client.responses.create(model="claude", input="Which city?").output_text == TEXT


def test_turns_by_items_and_by_name(stage: Stage, client: openai.OpenAI, provider: RecordingProvider) -> None:
    first = client.responses.create(model="reasoner", input="Which city?", reasoning={"effort": "low"})
    items: Any = [{"role": "user", "content": "Which city?"}, *first.output, {"role": "user", "content": "Sure?"}]
    assert client.responses.create(model="reasoner", input=items).output_text == TEXT
    seen = provider.calls[-1].body["input"]
    assert [item.get("type") for item in seen[1:-1]] == ["reasoning", "message"]
    assert seen[1]["encrypted_content"] == "c2VjcmV0"
    for stream in (False, True):
        sent: Any = {"model": "reasoner", "input": "Sure?", "previous_response_id": first.id, "stream": stream}
        answer = client.responses.create(**sent)
        assert not stream or list(answer)[-1].type == "response.completed"
        assert provider.calls[-1].body["previous_response_id"].startswith("resp_1")
    before = len(provider.calls)
    their = client.with_options(api_key=stage.keys[stage.make_user()])
    for name in (first.id, provider.calls[-1].body["previous_response_id"]):
        with pytest.raises(openai.PermissionDeniedError) as refused:
            their.responses.create(model="reasoner", input="Sure?", previous_response_id=name)
        assert "orbidden" in str(refused.value)
    assert len(provider.calls) == before


def test_the_client_runs_its_tools(claude: anthropic.Anthropic, provider: RecordingProvider) -> None:
    asked = []

    @anthropic.beta_tool
    def weather(city: str) -> str:
        """Weather of a city."""
        asked.append(city)
        return "sun"

    runner = claude.beta.messages.tool_runner(model="claude", max_tokens=100, messages=QUESTIONS, tools=[weather])
    assert [block.type for block in runner.until_done().content] == ["text"]
    assert asked == ["Paris", "Rome"]
    results = provider.calls[-1].body["messages"][-1]["content"]
    assert [result["tool_use_id"] for result in results] == ["toolu_0", "toolu_1"]


def test_asynchronous_clients(stage: Stage, user: int) -> None:
    async def ask() -> None:
        async with openai.AsyncOpenAI(api_key=stage.keys[user], base_url=stage.url + "/v1") as client:
            stream = await client.chat.completions.create(model="chat", messages=QUESTIONS, stream=True)
            parts = [choice.delta.content or "" async for chunk in stream for choice in chunk.choices]
            assert "".join(parts) == TEXT
            calls = (client.responses.create(model="chat", input="Which city?") for _ in range(5))
            assert {answer.output_text for answer in await asyncio.gather(*calls)} == {TEXT}
        claude = anthropic.AsyncAnthropic(auth_token=stage.keys[user], base_url=stage.url)
        async with claude, claude.messages.stream(model="claude", max_tokens=100, messages=QUESTIONS) as messages:
            assert await messages.get_final_text() == TEXT

    asyncio.run(ask())


# --- Errors -----------------------------------------------------------------------------------------------------------

KINDS = {
    400: (openai.BadRequestError, anthropic.BadRequestError),
    401: (openai.AuthenticationError, anthropic.AuthenticationError),
    403: (openai.PermissionDeniedError, anthropic.PermissionDeniedError),
    404: (openai.NotFoundError, anthropic.NotFoundError),
    429: (openai.RateLimitError, anthropic.RateLimitError),
    500: (openai.InternalServerError, anthropic.InternalServerError),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(stage: Stage, provider: RecordingProvider, name: str) -> None:
    status, sent, field, message = REFUSED[name]
    user = stage.make_user()
    stage.postgres.sql(f"INSERT INTO metering.user_models VALUES ({user}, '{{chat,claude}}')")
    if status == 429:
        stage.postgres.sql(f"INSERT INTO metering.user_limits (user_id, period, requests) VALUES ({user}, 'daily', 0)")
    before = len(provider.calls)
    client = openai.OpenAI(api_key=stage.keys[user], base_url=stage.url + "/v1", max_retries=0)
    claude = anthropic.Anthropic(api_key=stage.keys[user], base_url=stage.url, max_retries=0)
    for stream in (False, True):
        with pytest.raises(KINDS[status][0]) as refused:
            client.chat.completions.create(**{"model": "chat", "messages": QUESTIONS, "stream": stream, **sent})
        error, body = refused.value, cast(dict[str, Any], refused.value.body)
        assert message in error.message and message in body["message"], body
        assert (error.param, error.code) == (field, str(status)) and error.type
        with pytest.raises(KINDS[status][1]) as refused_by_claude:
            claude.messages.create(
                **{"model": "claude", "max_tokens": 9, "messages": QUESTIONS, "stream": stream, **sent}
            )
        body = cast(dict[str, Any], refused_by_claude.value.body)
        assert message in body["error"]["message"], body
        assert body["type"] == "error" and refused_by_claude.value.type in get_args(ErrorType), body
        if status == 429:
            assert int(error.response.headers["retry-after"]) > 0
            assert int(refused_by_claude.value.response.headers["retry-after"]) > 0
    assert len(provider.calls) == before


def test_a_providers_errors(client: openai.OpenAI, claude: anthropic.Anthropic) -> None:
    client, claude = client.with_options(max_retries=0), claude.with_options(max_retries=0)

    def fail(name: str, stream: bool) -> None:
        status = ERRORS[name]
        with pytest.raises(KINDS[status][0], match=f"The provider says {status}"):
            client.chat.completions.create(model=name, messages=QUESTIONS, stream=stream)
        with pytest.raises(KINDS[status][0], match=f"The provider says {status}"):
            client.responses.create(model=name, input="Which city?", stream=stream)
        with pytest.raises(KINDS[status][1], match=f"The provider says {status}"):
            claude.messages.create(model=f"claude-{name}", max_tokens=9, messages=QUESTIONS, stream=stream)

    # Side by side, as LiteLLM waits before it tries again.
    with ThreadPoolExecutor(len(ERRORS) * 2) as pool:
        list(pool.map(fail, [*ERRORS, *ERRORS], [False, True] * len(ERRORS)))


def test_what_is_not_served(client: openai.OpenAI, claude: anthropic.Anthropic, provider: RecordingProvider) -> None:
    before = len(provider.calls)
    with pytest.raises(anthropic.PermissionDeniedError, match="This route is not open") as refused:
        claude.messages.count_tokens(model="claude", messages=QUESTIONS)
    assert refused.value.type == "permission_error"
    with pytest.raises(openai.PermissionDeniedError, match="This route is not open"):
        client.files.list()
    with pytest.raises(openai.BadRequestError, match="in the background is not served"):
        client.responses.create(model="chat", input="Which city?", background=True)
    with pytest.raises(openai.BadRequestError, match="'moderation'"):
        client.responses.create(model="chat", input="Which city?", moderation={"model": "omni-moderation-latest"})
    with pytest.raises(openai.BadRequestError, match="'stream'"):
        list(client.images.generate(model="painter", prompt="A dot", stream=True))
    assert len(provider.calls) == before


# --- What was stored --------------------------------------------------------------------------------------------------


def test_every_served_call_is_one_row(stage: Stage, user: int, provider: RecordingProvider) -> None:
    """The last test of the file: all calls of all tests before."""
    stage.drain()
    stored = stage.postgres.sql(
        "SELECT l.input_tokens, l.output_tokens, e.cached_tokens, e.is_stream, e.end_user, e.reasoning_tokens "
        f"FROM api_logs l JOIN metering.events e ON e.api_log_id = l.id WHERE l.user_id = {user} "
        "AND l.status = 'success' AND e.cost > 0 AND coalesce(e.flags, '{}') = '{}'"
    )
    served = [
        [*map(str, call.tokens), str(call.cached), "t" if call.body.get("stream") else "f"]
        for call in provider.calls
        if call.tokens is not None
    ]
    assert sorted(row[:4] for row in stored) == sorted(served)
    reasoning = {row[0]: row[5] for row in stored}
    for call in provider.calls:
        if call.tokens is not None and call.path in ("chat/completions", "responses"):
            assert reasoning[str(call.tokens[0])] == str(REASONING)
    end_users = {call.body.get("user") or call.body.get("metadata", {}).get("user_id", "") for call in provider.calls}
    assert end_users == {row[4] for row in stored}
    assert not [key for key in stage.keys.values() if any(key in str(call) for call in provider.calls)]
