"""The body of a request: its JSON, and the fields that reach LiteLLM.

A customer shapes the answer, and never the route, the price or the metering.

Each route has the fields of its provider's public API, as LiteLLM documents them. A field that steers LiteLLM is
refused by name. Any other field is unknown: it is dropped, or refused where the operator wants that. The nested places
that name stored objects, or tools that the operator runs, are checked too.
"""

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import orjson

from codexflow_litellm.gate.content import check_content, check_depth, check_schemas, check_texts_to_embed, check_tool
from codexflow_litellm.gate.refusal import Refusal, Refused, refuse
from codexflow_litellm.gate.sizes import BUDGETS, LIMITS


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_SAMPLING = _words(
    """
    frequency_penalty logit_bias presence_penalty seed stop temperature top_p user
    """
)
_CHAT = _SAMPLING | _words(
    """
    audio enable_thinking function_call functions logprobs max_completion_tokens max_tokens messages metadata
    min_p modalities model n parallel_tool_calls prediction prompt_cache_key prompt_cache_options
    prompt_cache_retention reasoning reasoning_effort repetition_penalty response_format safety_identifier
    service_tier store stream stream_options thinking tool_choice tools top_k top_logprobs verbosity
    web_search_options
    """
)
_COMPLETIONS = _SAMPLING | _words(
    """
    best_of echo logprobs max_tokens metadata model n prompt stream stream_options suffix
    """
)
_EMBEDDINGS = _words(
    """
    dimensions encoding_format input input_type metadata model user
    """
)
_IMAGES = _words(
    """
    background metadata model moderation n output_compression output_format prompt quality response_format size
    style user
    """
)
_MESSAGES = _words(
    """
    cache_control context_management max_tokens messages metadata model output_config output_format service_tier
    stop_sequences stream system temperature thinking tool_choice tools top_k top_p
    """
)
_RESPONSES = _words(
    """
    background context_management include input instructions max_output_tokens max_tool_calls metadata model
    parallel_tool_calls previous_response_id prompt_cache_key prompt_cache_options prompt_cache_retention reasoning
    safety_identifier service_tier store stream stream_options temperature text tool_choice tools top_logprobs top_p
    truncation user verbosity
    """
)

ALLOWED: Mapping[str, frozenset[str]] = {
    "chat/completions": _CHAT,
    "completions": _COMPLETIONS,
    "embeddings": _EMBEDDINGS,
    "images/generations": _IMAGES,
    "messages": _MESSAGES,
    "responses": _RESPONSES,
}
"""What a body of each route may hold."""

_NOT_SERVED: Mapping[str, frozenset[str]] = {
    "chat/completions": frozenset(["moderation"]),
    "images/generations": frozenset(["partial_images", "stream"]),
    "responses": frozenset(["moderation", "prompt"]),
}
"""Public fields that call another model, name an object in the provider's account, or want what LiteLLM cannot do."""

# Kinds of names, beside those that LiteLLM lists as its own. So a new name of the next version is refused as well.
_STEERING = re.compile(
    r"""_.*|.*fallback.*|.*timeout.*|.*retr(y|ies).*|.*_cost(_.*)?|cost_.*|.*pric(e|ing).*|.*api_(key|base|version)
    |.*cach(e|ing).*|.*callback.*|.*credential.*|.*headers?|.*_(host|endpoint|base_url)|base_url|deployment.*|router.*
    |.*rout(er|ing)(_.*)?|litellm.*|proxy.*|mock.*|no[-_]log.*|.*guardrail.*|extra_(body|query)|allowed_openai_params
    |azure.*|aws_.*|vertex_.*|gcs_.*|s3_.*|langfuse.*|langsmith.*|custom_llm_provider|custom_.*|drop_params
    |additional_drop_params|model_(list|info|id|group|config)|user_(config|model|api.*)|tags?|cooldown.*|budget.*
    |max_budget|logger.*|logging.*|trace.*|specific_deployment|organization|conversation|mcp_servers|container
    |inference_geo|speed|prompt_(id|variables|version|label)|provider|models?|route|transforms|plugins|secret.*""",
    re.VERBOSE | re.DOTALL,
)
_LONGEST_NAME = 100
_MOST_FIELDS = 200

_RESPONSE_ID = re.compile(r"resp_[A-Za-z0-9_=-]{1,4000}")
_SCHEMAS = ("tools", "functions", "response_format", "output_config", "output_format", "text")
_MOST_ADDRESSES = 20
"""In one body: LiteLLM downloads the content of each."""
_LARGEST_COUNT = 128
_LARGEST_TOKENS = 10_000_000


@dataclass(frozen=True)
class Fields:
    """What an operator adds to the table, and whether unknown fields are refused."""

    added: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Fields of each route; those under ``*`` are allowed on all."""
    refuses_unknown: bool = False

    @classmethod
    def read(cls, text: str, unknown: str) -> "Fields":
        """The fields of a setting such as ``top_a,chat/completions:foo``; raises ``ValueError`` for anything else."""
        if unknown not in ("drop", "refuse"):
            raise ValueError("CODEXFLOW_UNKNOWN_FIELDS: is neither drop nor refuse")
        added: dict[str, set[str]] = {}
        for item in filter(None, (item.strip() for item in text.split(","))):
            route, name = item.rsplit(":", 1) if ":" in item else ("*", item)
            if route not in (*ALLOWED, "*") or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
                raise ValueError(f"CODEXFLOW_FIELDS: '{item[:60]}' is neither a field nor route:field")
            added.setdefault(route, set()).add(name)
        return cls({route: frozenset(names) for route, names in added.items()}, unknown == "refuse")

    def steering(self) -> list[str]:
        """The added fields by which a client can steer the route, the price or the metering."""
        names = frozenset().union(*self.added.values()) if self.added else frozenset()
        return sorted(name for name in names if steers(name))

    def clean(self, route: str, body: Any, model: str | None) -> dict[str, Any]:
        """The part of a body that LiteLLM may see; raises ``Refused`` and names the field where none may pass."""
        if not isinstance(body, dict):
            refuse(None, "The body is not a JSON object.")
        if len(body) > _MOST_FIELDS or any(len(name) > _LONGEST_NAME for name in body):
            # Before any pattern is tried: patterns take time.
            refuse(
                None,
                f"The body has more than {_MOST_FIELDS} fields, or one with a name of over {_LONGEST_NAME} letters.",
            )
        added = self.added.get(route, frozenset()) | self.added.get("*", frozenset())
        cleaned: dict[str, Any] = {}
        for name, value in body.items():
            if name in ALLOWED[route] or name in added:
                cleaned[name] = value
            elif value not in (None, False) and name in _NOT_SERVED.get(route, ()):
                refuse(name, f"The field '{name}' is not served on this route. Leave it out.")
            elif value is not None and steers(name):
                refuse(name, f"The field '{name[:60]}' is set by the operator of this proxy. Leave it out.")
            elif self.refuses_unknown:
                refuse(name, f"The field '{name[:60]}' is not known on this route. Leave it out.")
        if model is not None:
            cleaned["model"] = model
        _check(route, cleaned)
        return cleaned


@cache
def _own_names() -> frozenset[str]:
    """What the installed LiteLLM takes from a body as a setting of its own."""
    from litellm.types import router
    from litellm.types.utils import all_litellm_params

    models = (
        getattr(router, name, None)
        for name in ("GenericLiteLLMParams", "UpdateRouterConfig", "MockRouterTestingParams")
    )
    fields: Iterable[str] = (name for model in models for name in getattr(model, "model_fields", ()))
    return frozenset(all_litellm_params) | frozenset(fields)


def steers(name: str) -> bool:
    """Whether a field can steer LiteLLM's route, credentials, retries, deadlines, prices, caches or logging."""
    return name in _own_names() or _STEERING.fullmatch(name.lower()) is not None


def _check(route: str, body: dict[str, Any]) -> None:
    """Refuses values that steer, and brings numbers into one spelling."""
    check_depth(body)
    model = body.get("model")
    if not isinstance(model, str) or not re.fullmatch(r"[^\s,\x00-\x1f\x7f]{1,255}", model):
        refuse("model", "The field 'model' is not the name of one model.")
    for name in ("stream", "store"):
        if name in body and not isinstance(body[name], (bool, type(None))):
            refuse(name, f"The field '{name}' is neither true nor false.")
    for name in LIMITS:
        if body.get(name) is not None:
            body[name] = _whole(name, body[name], 1, _LARGEST_TOKENS)
    for name in ("n", "best_of"):
        if body.get(name) is not None:
            body[name] = _whole(name, body[name], 1, _LARGEST_COUNT)
    if route == "responses" and body.get("background") not in (None, False):
        refuse("background", "A call in the background is not served: its usage is not known when it is answered.")
    if body.get("service_tier") not in (None, "auto", "default", "standard_only"):
        refuse("service_tier", "Only the service tiers 'auto' and 'default' are served.")
    if not isinstance(body.get("user"), (str, type(None))):
        refuse("user", "The field 'user' is not a text.")
    _check_metadata(route, body)
    for name, part in BUDGETS:
        value = body.get(name)
        if isinstance(value, dict) and value.get(part) is not None:
            body[name] = {**value, part: _whole(f"{name}.{part}", value[part], 1, _LARGEST_TOKENS)}
    previous = body.get("previous_response_id")
    if previous is not None and not (isinstance(previous, str) and _RESPONSE_ID.fullmatch(previous)):
        # LiteLLM trusts any text that begins like its own unencrypted form of an id.
        refuse("previous_response_id", "The field 'previous_response_id' is not the id of a response of yours.")
    for tool in _list(body, "tools"):
        check_tool(tool)
    check_schemas({name: body[name] for name in _SCHEMAS if name in body})
    for item in body["input"] if isinstance(body.get("input"), list) else ():
        if isinstance(item, dict) and "id" in item and not ("type" in item or "role" in item):
            refuse("input", "An item in 'input' names a stored object. Send the content itself.")
    parts = {name: value for name, value in body.items() if name not in ("tools", "functions")}
    if sum(check_content(name, value) for name, value in parts.items()) > _MOST_ADDRESSES:
        refuse("messages", f"The body has more than {_MOST_ADDRESSES} addresses. Send the content itself.")
    if route == "embeddings":
        check_texts_to_embed("input", body.get("input"))


def _whole(name: str, value: Any, least: int, most: int) -> int:
    number = int(value) if isinstance(value, float) and value.is_integer() else value
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
        refuse(name, f"The field '{name}' is not a whole number from {least} to {most}.")
    return number


def _list(body: Mapping[str, Any], name: str) -> list[Any]:
    value = body.get(name)
    if value is not None and not isinstance(value, list):
        refuse(name, f"The field '{name}' is not a list.")
    return value or []


def _check_metadata(route: str, body: dict[str, Any]) -> None:
    """Keeps only what the provider's API takes, because LiteLLM reads settings of its own from metadata."""
    metadata = body.pop("metadata", None)
    if metadata is None:
        return
    if not isinstance(metadata, dict):
        refuse("metadata", "The field 'metadata' is not an object.")
    if route == "messages" and isinstance(metadata.get("user_id"), str):
        body["metadata"] = {"user_id": metadata["user_id"][:256]}


_LONE = re.compile("[\ud800-\udfff]")
_LARGEST_REPAIRED = 1 << 20
_MOST_VALUES = 250_000
"""In one body, because values take time. A large body may still be a long text or an image."""


def parsed(text: bytes) -> Any:
    """The value of a body's JSON, without lone surrogates, which no provider takes."""
    if sum(map(text.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        message = f"The body has more than {_MOST_VALUES} values. Send several smaller requests."
        raise Refused(Refusal(413, "invalid_request_error", message))
    with suppress(orjson.JSONDecodeError):
        return orjson.loads(text)
    if len(text) > _LARGEST_REPAIRED:
        # The repair below takes long.
        raise Refused(Refusal(400, "invalid_request_error", "The body is not JSON in UTF-8 without lone surrogates."))
    try:
        value = json.loads(text.decode(), parse_constant=_no_number, parse_int=_short_integer)
        return orjson.loads(_LONE.sub("", json.dumps(value, ensure_ascii=False)).encode())
    except (ValueError, RecursionError):
        message = "The body is not JSON. Send a JSON object."
        raise Refused(Refusal(400, "invalid_request_error", message)) from None


def _no_number(name: str) -> None:
    raise ValueError(name)


def _short_integer(digits: str) -> int:
    if len(digits) > 20:
        raise ValueError("an integer beyond 64 bits")
    return int(digits)


def tags_of(body: Any) -> tuple[str, ...]:
    """The tags in the body's metadata: at most 20 texts of 100 characters."""
    metadata = body.get("metadata") if isinstance(body, dict) else None
    tags = metadata.get("tags") if isinstance(metadata, dict) else None
    return tuple(tag[:100] for tag in tags if isinstance(tag, str))[:20] if isinstance(tags, list) else ()
