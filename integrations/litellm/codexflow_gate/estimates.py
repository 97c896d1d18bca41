"""Usage that no provider reported: LiteLLM's estimates, found and flagged, and our own where LiteLLM counts nothing."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import litellm

_FLAG = "codexflow_estimated"
"""Added to LiteLLM's usage object where a part of it was counted and not reported."""
_LONGEST_COUNTED = 200_000
"""Letters."""


def watch() -> None:
    """Makes LiteLLM flag the usage of a stream that its own tokenizer has counted."""
    from litellm.litellm_core_utils.streaming_chunk_builder_utils import ChunkProcessor

    calculate = ChunkProcessor.calculate_usage
    if getattr(calculate, _FLAG, False):
        return

    def calculate_usage(self: Any, chunks: Any, *arguments: Any, **named: Any) -> Any:
        usage = calculate(self, chunks, *arguments, **named)
        reported = self._calculate_usage_per_chunk(chunks=chunks)
        if reported["prompt_tokens"] is None or reported["completion_tokens"] is None:
            setattr(usage, _FLAG, True)
        return usage

    setattr(calculate_usage, _FLAG, True)
    ChunkProcessor.calculate_usage = calculate_usage  # type: ignore[method-assign]


def is_estimated(payload: Mapping[str, Any]) -> bool:
    """Whether an event's tokens were counted on our side of the provider."""
    usage = (payload.get("metadata") or {}).get("usage_object") or {}
    # A failed attempt has no usage of its provider's, at most that of a stream's beginning.
    return bool(usage.get(_FLAG)) or (payload.get("status") == "failure" and bool(payload.get("total_tokens")))


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
        "response_cost": _cost(payload, sent, received),
        "metadata": {**(payload.get("metadata") or {}), "usage_object": {_FLAG: True}},
    }


def _count(model: str, text: str) -> int:
    """Tokens of a text; a long one is not worth the time of the tokenizer."""
    if len(text) <= _LONGEST_COUNTED:
        with suppress(Exception):
            return int(litellm.token_counter(model=model, text=text))
    return len(text) // 4


def _cost(payload: Mapping[str, Any], sent: int, received: int) -> float | None:
    """USD by LiteLLM's prices, those of the deployment first; ``None`` where nobody knows them."""
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
    """The texts of a prompt or an answer, whatever its form."""
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
