"""Events: what LiteLLM computed about one attempt, without texts and keys, and events of calls without a report."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from codexflow_litellm import estimates
from codexflow_litellm.gate.refusal import kept_words


@dataclass(frozen=True)
class Intent:
    """A call that is about to be made."""

    call: str
    """The id of the call."""
    started: float
    """Epoch seconds."""
    key_hash: str | None
    user_id: int | None
    model: str
    call_type: str

    def unknown_outcome(self) -> str:
        """The event of a call whose outcome no process reports any more."""
        return self._failure("outcome_unknown", "LiteLLM ended before it knew how this call went.")

    def failure(self, status: int) -> str:
        """The event of a call that LiteLLM answered with an error and did not report."""
        return self._failure(str(status), "LiteLLM reported nothing of this failed call.")

    def estimate(self, usage: Mapping[str, Any]) -> str:
        """The event of a call that LiteLLM answered and did not report."""
        return json.dumps({**self._event(), "status": "success", **usage, estimates.FLAG: True})

    def _failure(self, code: str, message: str) -> str:
        return json.dumps({**self._event(), "error_information": {"error_code": code, "error_message": message}})

    def _event(self) -> dict[str, Any]:
        """A failed call without usage."""
        return {
            "id": self.call,
            "litellm_call_id": self.call,
            "call_type": self.call_type,
            "status": "failure",
            "startTime": self.started,
            "model_group": self.model,
            "response_cost": 0,
            "prompt_tokens": 0,
            "completion_tokens": 0,
            "metadata": {
                "user_api_key_hash": self.key_hash,
                "user_api_key_user_id": None if self.user_id is None else str(self.user_id),
                "user_api_key_auth_metadata": {} if self.user_id is None else {"laravel_user_id": self.user_id},
            },
        }


_KEPT = (
    *("id", "litellm_call_id", "call_type", "stream", "status", "startTime", "endTime", "completionStartTime"),
    *("response_cost", "prompt_tokens", "completion_tokens", "total_tokens", "cache_hit"),
    *("model", "model_group", "model_id", "custom_llm_provider", "end_user", "request_tags", "error_str"),
    estimates.FLAG,
)
_KEPT_OF_METADATA = ("user_api_key_hash", "user_api_key_user_id", "usage_object")
_KEPT_OF_ERROR = ("error_code", "error_class", "error_message")
_CACHE_HIT = re.compile(r"_cache_hit[0-9.]+$")
_KEY = re.compile(r"\b(cf_|sk-)[A-Za-z0-9_-]{6,}")
_HASH = re.compile(r"[0-9a-f]{64}|litellm_proxy_master_key")
_LONGEST_TEXT = 8_192


def trimmed(payload: Mapping[str, Any], intent: Intent | None = None, tags: Sequence[str] = ()) -> str:
    """The JSON of an event that LiteLLM reports, without prompts, answers, model prices and keys.

    The event of a call with an intent has the call's id. If tokens were served, it also has the id and the start that
    LiteLLM's own database keeps. By these, ``codexflow litellm reconcile`` recognizes the event.
    """
    event = {name: payload[name] for name in _KEPT if payload.get(name) is not None}
    if tags:
        event["request_tags"] = [*tags, *(event.get("request_tags") or ())]
    if intent is not None:
        event["litellm_call_id"] = intent.call
        if payload.get("status") == "success" or payload.get("total_tokens"):
            _name_as_in_spend_logs(event, intent)
    metadata = payload.get("metadata") or {}
    kept = {name: metadata[name] for name in _KEPT_OF_METADATA if metadata.get(name) is not None}
    presented = kept.get("user_api_key_hash")
    if presented is not None and not _HASH.fullmatch(str(presented)):
        # An unknown key reaches the event as it was sent. It may be the key of another service.
        kept["user_api_key_hash"] = hashlib.sha256(str(presented).encode(errors="replace")).hexdigest()
    laravel_id = (metadata.get("user_api_key_auth_metadata") or {}).get("laravel_user_id")
    if laravel_id is not None:
        kept["user_api_key_auth_metadata"] = {"laravel_user_id": laravel_id}
    event["metadata"] = kept
    error = payload.get("error_information") or {}
    event["error_information"] = {name: error[name] for name in _KEPT_OF_ERROR if error.get(name)}
    # A provider's error can repeat the prompt.
    for holder, name in ((event["error_information"], "error_message"), (event, "error_str")):
        if isinstance(holder.get(name), str):
            holder[name] = kept_words(holder[name])
    text = json.dumps(_shortened(event), default=str)
    return _KEY.sub(r"\1***", text)


def _name_as_in_spend_logs(event: dict[str, Any], intent: Intent) -> None:
    # On a cache hit LiteLLM adds the time to the id, and another time in its database.
    event["id"] = _CACHE_HIT.sub("", str(event.get("id") or ""))
    with suppress(KeyError, TypeError, ValueError):
        event["response_cost"] = float(event["response_cost"])
    start = event.get("startTime")
    if isinstance(start, (int, float)):
        # The durations stay those of LiteLLM.
        for name in ("endTime", "completionStartTime"):
            if isinstance(event.get(name), (int, float)):
                event[name] = round(intent.started + event[name] - start, 6)
    event["startTime"] = intent.started


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        return value[:_LONGEST_TEXT]
    if isinstance(value, dict):
        return {name: _shortened(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shortened(item) for item in value[:100]]
    # NaN and the infinities are not JSON.
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return None
    return value
