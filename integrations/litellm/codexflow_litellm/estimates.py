"""Usage that no provider reported: LiteLLM's estimates, which get a flag, and our own where LiteLLM counts nothing."""

import functools
import importlib
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import litellm

from codexflow_litellm.gate.exchange import Exchange, current

log = logging.getLogger("codexflow")

FLAG = "codexflow_usage_estimated"
"""The field of an event whose tokens no provider has stated."""
_LONGEST_COUNTED = 200_000
"""Letters of the longest text that the tokenizer counts."""


def watch() -> None:
    """Wraps LiteLLM's counting functions; warns where an installed LiteLLM has others.

    LiteLLM calls them while it reads an answer, in the context of its request. Their results are noted in its exchange.
    """
    for module, holder, name, note in _COUNTING:
        try:
            place: Any = importlib.import_module(module)
            _wrap(getattr(place, holder) if holder else place, name, note)
        except (ImportError, AttributeError) as error:
            log.warning("this LiteLLM has another way to count tokens; some estimates have no flag: %s", error)


def _wrap(holder: Any, name: str, note: Callable[[tuple[Any, ...], Any], None]) -> None:
    original = getattr(holder, name)
    if getattr(original, "is_codexflow", False):
        return

    @functools.wraps(original)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        result = original(*arguments, **named)
        # A missing flag must not fail a call: another version of LiteLLM may return another shape.
        with suppress(Exception):
            note(arguments, result)
        return result

    wrapped.is_codexflow = True  # type: ignore[attr-defined]
    setattr(holder, name, wrapped)


def _note_reported(arguments: tuple[Any, ...], usage: Any) -> None:
    # A count that no chunk has stated is None. Anthropic states one token of the answer before its first word.
    stated = None not in (usage["prompt_tokens"], usage["completion_tokens"])
    arguments[0].codexflow_is_whole = stated and any(map(_finishes, arguments[0].chunks))


def _finishes(chunk: Any) -> bool:
    """Whether a part of a stream states why the answer ends."""
    read: Any = chunk.get if isinstance(chunk, dict) else functools.partial(getattr, chunk)
    for choice in read("choices", None) or ():
        reason = choice.get("finish_reason") if isinstance(choice, dict) else getattr(choice, "finish_reason", None)
        if reason:
            return True
    return False


def _note_calculated(arguments: tuple[Any, ...], usage: Any) -> None:
    exchange = current()
    if exchange is not None and getattr(arguments[0], "codexflow_is_whole", False):
        exchange.reported.add((usage.prompt_tokens, usage.completion_tokens))
    else:
        _note(usage.prompt_tokens, usage.completion_tokens)


def _note_estimated(_: tuple[Any, ...], usage: Any) -> None:
    _note(usage.input_tokens, usage.output_tokens)


def _note_recovered(_: tuple[Any, ...], usage: Any) -> None:
    if usage is not None:
        _note(usage.prompt_tokens, usage.completion_tokens)


def _note(prompt: int, completion: int) -> None:
    exchange = current()
    if exchange is not None:
        exchange.estimates.add((prompt, completion))


_CHUNKS = "litellm.litellm_core_utils.streaming_chunk_builder_utils"
_COUNTING: tuple[tuple[str, str, str, Callable[[tuple[Any, ...], Any], None]], ...] = (
    (_CHUNKS, "ChunkProcessor", "_calculate_usage_per_chunk", _note_reported),
    (_CHUNKS, "ChunkProcessor", "calculate_usage", _note_calculated),
    ("litellm.responses.streaming_iterator", "", "_estimate_usage_from_text", _note_estimated),
    (
        "litellm.proxy.pass_through_endpoints.llm_provider_handlers.anthropic_passthrough_logging_handler",
        "AnthropicPassthroughLoggingHandler",
        "_recover_interrupted_stream_output_tokens",
        _note_recovered,
    ),
)
"""Where LiteLLM counts: module, class, function, and how its result is noted."""


def flagged(payload: Mapping[str, Any], exchange: Exchange | None) -> Mapping[str, Any]:
    """The event with a flag where its tokens are not those that a provider has stated."""
    amounts = (payload.get("prompt_tokens"), payload.get("completion_tokens"))
    if not payload.get("total_tokens") or payload.get("cache_hit") is True:
        return payload
    if payload.get("status") == "failure":
        # Most streams broke before their provider stated the usage, and some right after.
        is_estimate = exchange is None or amounts not in exchange.reported
    else:
        is_estimate = exchange is not None and amounts in exchange.estimates
    return {**payload, FLAG: True} if is_estimate else payload


def with_usage(payload: Mapping[str, Any], prompt: Any, response: Any) -> Mapping[str, Any]:
    """The event with an estimate, where a provider served an answer of text and reported no usage."""
    if payload.get("cache_hit") is True or payload.get("total_tokens") or "image" in str(payload.get("call_type")):
        return payload
    is_embedding = "embedding" in str(payload.get("call_type"))
    answer = "" if is_embedding else _text(response)
    if not answer and not is_embedding:
        return payload
    model = str(payload.get("model") or "")
    sent, received = _count(model, _text(prompt)), _count(model, answer)
    return {
        **payload,
        "prompt_tokens": sent,
        "completion_tokens": received,
        "total_tokens": sent + received,
        "response_cost": cost(payload, sent, received),
        FLAG: True,
    }


def _count(model: str, text: str) -> int:
    """Tokens of a text. The tokenizer takes too long for a long one, which counts as a quarter of its letters."""
    if len(text) <= _LONGEST_COUNTED:
        with suppress(Exception):
            return int(litellm.token_counter(model=model, text=text))
    return len(text) // 4


def cost(payload: Mapping[str, Any], sent: int, received: int) -> float | None:
    """USD by LiteLLM's prices, those of the deployment first; ``None`` where LiteLLM has none."""
    for model, provider in (
        (payload.get("model_id"), None),
        (payload.get("model"), payload.get("custom_llm_provider")),
    ):
        try:
            costs = litellm.cost_per_token(
                model=str(model or ""), prompt_tokens=sent, completion_tokens=received, custom_llm_provider=provider
            )
        except Exception:
            continue
        if sum(costs) > 0:
            return float(sum(costs))
    return None


_TEXTS = ("content", "text", "arguments", "reasoning_content", "thinking", "output_text", "refusal")


def _text(value: Any) -> str:
    """The texts of a prompt or an answer in any form."""
    parts: list[str] = []
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if hasattr(item, "model_dump"):
            item = item.model_dump()
        if isinstance(item, str):
            parts.append(item)
        elif isinstance(item, dict):
            for name, member in item.items():
                if isinstance(member, (dict, list)) or hasattr(member, "model_dump") or name in _TEXTS:
                    waiting.append(member)
        elif isinstance(item, (list, tuple)):
            waiting.extend(item)
    return " ".join(parts)


_PROMPTS = ("messages", "input", "prompt", "instructions", "system", "tools", "functions")


def prompt_tokens(data: Mapping[str, Any]) -> int:
    """An estimate of the tokens of a body's prompt: a quarter of its letters."""
    return sum(_letters(data.get(name)) for name in _PROMPTS) // 4


def _letters(value: Any) -> int:
    """The letters of all texts in a value; an image counts as 4,000."""
    total, waiting = 0, [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            total += min(len(item), 4_000) if len(item) > 4_000 and " " not in item[:1_000] else len(item)
        elif isinstance(item, dict):
            waiting.extend(item.values())
        elif isinstance(item, (list, tuple)):
            waiting.extend(item)
        elif isinstance(item, int):
            # A prompt of token numbers.
            total += 4
    return total
