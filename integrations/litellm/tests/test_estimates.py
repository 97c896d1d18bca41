"""Tokens that no provider has stated: which get a flag, which are estimated, and how letters are counted."""

import asyncio
import json
from typing import Any

import pytest
from litellm.litellm_core_utils.streaming_chunk_builder_utils import ChunkProcessor
from litellm.types.utils import ModelResponseStream, StreamingChoices, Usage

from codexflow_litellm import estimates
from codexflow_litellm.calls import OpenCall
from codexflow_litellm.events import Intent
from codexflow_litellm.gate.exchange import Exchange, enter, leave, letters


def chat(word: str) -> bytes:
    """An event of a stream of chat."""
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": word}}]}).encode() + b"\n\n"


@pytest.mark.parametrize(
    ("part", "count"),
    [
        (chat("four"), 4),
        (chat("four") + chat("more"), 8),
        (chat('a "quoted" word'), 17),
        (b'data: {"choices":[{"index":0,"text":"four"}]}\n\n', 4),
        (b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"four"}}\n\n', 4),
        (b'data: {"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{}"}}\n\n', 2),
        (b'data: {"type":"response.output_text.delta","delta":"four"}\n\n', 4),
        (b'data: {"type":"response.output_text.done","text":"four four four"}\n\n', 0),
        (b'data: {"error":{"message":"out of order","type":"server_error"}}\n\n', 0),
        (b'{"choices":[{"message":{"role":"assistant","content":"four"}}],"usage":{"prompt_tokens":1}}', 4),
        (b'{"choices":[{"message":{"content":null,"tool_calls":[{"function":{"arguments":"{}"}}]}}]}', 2),
        (b'{"data":[{"embedding":[0.5]}]}', 0),
        (b"data: [DONE]\n\n", 0),
        (b"", 0),
    ],
)
def test_the_letters_of_an_answer_and_not_its_form(part: bytes, count: int) -> None:
    assert letters(part) == count


def counted(*usages: Usage | None, finish: str | None = "stop") -> tuple[Exchange, Usage]:
    """The exchange in whose context LiteLLM counts a stream with these usages, and what it counts."""
    estimates.watch()
    exchange = Exchange()
    chunks = [ModelResponseStream(usage=usage) if usage is not None else ModelResponseStream() for usage in usages]
    chunks.append(ModelResponseStream(choices=[StreamingChoices(finish_reason=finish)]))

    async def count() -> Usage:
        token = enter(exchange, {})
        try:
            processor: Any = ChunkProcessor(chunks, [])
            usage: Usage = processor.calculate_usage(chunks=chunks, model="gpt-4o", completion_output="one two three")
            return usage
        finally:
            leave(token)

    return exchange, asyncio.run(count())


def payload(usage: Usage, status: str) -> dict[str, Any]:
    """An event with this usage."""
    amounts = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
    return {**amounts, "total_tokens": usage.total_tokens, "status": status}


def test_what_a_provider_has_stated_has_no_flag() -> None:
    exchange, usage = counted(None, Usage(prompt_tokens=12, completion_tokens=7, total_tokens=19))
    assert (usage.prompt_tokens, usage.completion_tokens) == (12, 7)
    for status in ("success", "failure"):
        assert estimates.FLAG not in estimates.flagged(payload(usage, status), exchange)


def test_what_is_stated_before_the_answer_has_a_flag() -> None:
    exchange, usage = counted(Usage(prompt_tokens=12, completion_tokens=1, total_tokens=13), None, finish=None)
    assert estimates.flagged(payload(usage, "failure"), exchange)[estimates.FLAG] is True


def test_what_litellm_has_counted_has_a_flag() -> None:
    exchange, usage = counted(None, None)
    assert usage.completion_tokens > 0
    for status in ("success", "failure"):
        assert estimates.flagged(payload(usage, status), exchange)[estimates.FLAG] is True
    cached = {**payload(usage, "success"), "cache_hit": True}
    assert estimates.FLAG not in estimates.flagged(cached, exchange)


def test_a_failed_attempt_that_litellm_has_not_counted_here_has_a_flag() -> None:
    failed = payload(Usage(prompt_tokens=12, completion_tokens=1, total_tokens=13), "failure")
    assert estimates.flagged(failed, Exchange())[estimates.FLAG] is True
    assert estimates.FLAG not in estimates.flagged({**failed, "total_tokens": 0}, Exchange())


def test_an_attempt_fails_once_and_again_only_with_more() -> None:
    loop = asyncio.new_event_loop()
    call = OpenCall(Intent("c", 0, None, 7, "gpt-4o", "acompletion"), None, loop.create_future())
    loop.close()
    assert [call.takes_failure("first", 0), call.takes_failure("first", 0)] == [True, False]
    assert [call.takes_failure("first", 30), call.takes_failure("first", 30)] == [True, False]
    assert call.takes_failure("second", 30)
