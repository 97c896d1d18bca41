"""Random calls: what is asked, how the provider fails, how the client behaves; seed and number make one again."""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from provider import Fault

FIRST = 5_000_000
"""The first call's number, above all tokens."""
GROUPS: Mapping[str, tuple[str, ...]] = {
    "gpt-4o": ("openai/gpt-4o", "openai/gpt-4o-2024-11-20"),
    "gpt-4o-mini": ("openai/gpt-4o-mini",),
    "primary": ("openai/gpt-4.1",),
    "backup": ("openai/gpt-4.1-mini",),
    "claude": ("anthropic/claude-sonnet-4-5",),
    "embedding": ("openai/text-embedding-3-small",),
    "image": ("openai/gpt-image-1",),
}
"""What customers ask for, and the deployments of each; `primary` falls back to `backup`."""
CHAT_MODELS = ("gpt-4o", "gpt-4o", "gpt-4o-mini", "primary", "claude")
FALLBACKS: Mapping[str, str] = {"primary": "backup"}
ALLOWED: tuple[tuple[str, ...] | None, ...] = (
    None,
    None,
    None,
    ("gpt-4o", "gpt-4o-mini", "embedding", "image", "primary", "backup", "claude"),
    ("gpt-4o", "primary", "claude"),
    ("gpt-4o-mini", "embedding"),
)
"""The models that each customer may use; the fifth may not use what `primary` falls back to."""
INPUT_PRICE, OUTPUT_PRICE = 0.000001, 0.000002


@dataclass(frozen=True)
class Client:
    """How the client behaves; by default it reads the answer to its end."""

    cut_after: int | None = None
    """Bytes of the answer after which it leaves."""
    leaves_after: float | None = None
    """Seconds after which the client leaves, even in the middle of the answer."""
    sends: float = 1.0
    """The part of the request that it sends before it leaves."""
    resets: bool = False

    @property
    def is_steady(self) -> bool:
        """Whether it waits for the whole answer."""
        return self == Client()


@dataclass(frozen=True)
class StormCall:
    """A call of the storm."""

    number: int
    user: int
    """Its customer's place in the list of them."""
    kind: str
    model: str
    path: str
    body: Mapping[str, Any]
    headers: Mapping[str, str]
    faults: tuple[Fault, ...]
    client: Client
    hostile: tuple[str, ...]
    """The fields and headers that are not a customer's to send."""

    @property
    def mark(self) -> str:
        """What the call names as its end user."""
        return f"storm-{self.number}"

    @property
    def is_stream(self) -> bool:
        """Whether it asks for a stream."""
        return self.body.get("stream") is True

    def __str__(self) -> str:
        """For a failing test."""
        headers = f" {dict(self.headers)}" if self.headers else ""
        body = json.dumps(self.body).replace("many words many words ", "")
        client = "" if self.client.is_steady else f"; {self.client}"
        return f"call {self.number} of user {self.user}: POST {self.path} {body}{headers}{client}"


@dataclass(frozen=True)
class Weather:
    """How much of what there is; each is a share of the calls."""

    streams: float = 0.45
    faults: float = 0.0
    cuts: float = 0.0
    hostile: float = 0.0
    slow: float = 0.3
    """Of the answers without a fault."""


PATHS: Mapping[str, str] = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "responses": "/v1/responses",
    "messages": "/v1/messages",
    "images": "/v1/images/generations",
}
KINDS = ("chat",) * 5 + ("responses",) * 2 + ("messages",) * 3 + ("completions", "embeddings", "images")


def storm_call(seed: int, number: int, weather: Weather) -> StormCall:
    """The call with a number; the same again for the same seed and weather."""
    dice = random.Random(f"{seed} {number}")
    kind = dice.choice(KINDS)
    model = {"embeddings": "embedding", "images": "image"}.get(kind) or dice.choice(CHAT_MODELS)
    if kind == "completions" and model == "claude":
        model = "gpt-4o"
    users = [n for n, allowed in enumerate(ALLOWED) if allowed is None or model in allowed]
    body = _body(dice, kind, model, number)
    if kind not in ("embeddings", "images") and dice.random() < weather.streams:
        body["stream"] = True
        if kind in ("chat", "completions") and dice.random() < 0.4:
            body["stream_options"] = {"include_usage": dice.random() < 0.5}
    headers: dict[str, str] = {}
    hostile: list[str] = []
    if dice.random() < weather.hostile:
        for _ in range(dice.choice((1, 1, 2, 3))):
            name, value = dice.choice(_HOSTILE)
            made = value(dice) if callable(value) else value
            if name.startswith("x-litellm-") or name in _HEADERS:
                headers[name] = str(made)
            else:
                body[name] = made
            hostile.append(name)
    return StormCall(
        number=number,
        user=dice.choice(users),
        kind=kind,
        model=model,
        path=PATHS[kind],
        body=body,
        headers=headers,
        faults=_faults(dice, body.get("stream") is True, weather),
        client=_client(dice) if dice.random() < weather.cuts else Client(),
        hostile=tuple(hostile),
    )


def _body(dice: random.Random, kind: str, model: str, number: int) -> dict[str, Any]:
    prompt = f"{'many words ' * dice.randrange(30)}count {number}"
    body: dict[str, Any] = {"model": model}
    if kind == "chat":
        body["messages"] = [{"role": "user", "content": prompt}]
    elif kind == "messages":
        content: Any = prompt if dice.random() < 0.5 else [{"type": "text", "text": prompt}]
        body |= {"messages": [{"role": "user", "content": content}], "max_tokens": dice.randrange(100, 4000)}
    elif kind in ("responses", "embeddings"):
        body["input"] = prompt
    else:
        body["prompt"] = prompt
    if kind == "messages":
        body["metadata"] = {"user_id": f"storm-{number}"}
    else:
        body["user"] = f"storm-{number}"
    for name, value in _HARMLESS.get(kind, {}).items():
        if dice.random() < 0.2:
            body[name] = value
    return body


_SAMPLING: dict[str, Any] = {"temperature": 0.5, "top_p": 0.9}
_TOOLS = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}]
_HARMLESS: Mapping[str, Mapping[str, Any]] = {
    "chat": {**_SAMPLING, "max_tokens": 500, "n": 2, "seed": 7, "stop": ["\n\n\n"], "tools": _TOOLS},
    "completions": {**_SAMPLING, "max_tokens": 300},
    "responses": {**_SAMPLING, "max_output_tokens": 800, "store": False, "instructions": "be brief"},
    "messages": {**_SAMPLING, "system": "be brief", "stop_sequences": ["never"]},
    "embeddings": {"encoding_format": "float"},
    "images": {"size": "1024x1024", "quality": "low"},
}


# How the provider fails


def _faults(dice: random.Random, is_stream: bool, weather: Weather) -> tuple[Fault, ...]:
    if dice.random() >= weather.faults:
        slow = Fault(delay=dice.uniform(0, 1.5), pace=dice.choice((0, dice.uniform(0, 2))))
        return (slow,) if dice.random() < weather.slow else ()
    return tuple(_fault(dice, is_stream) for _ in range(dice.choice((1, 1, 1, 2, 3, 12))))


def _fault(dice: random.Random, is_stream: bool) -> Fault:
    choices: list[Callable[[], Fault]] = [
        lambda: Fault(status=429, message="slow down"),
        lambda: Fault(status=dice.choice((500, 502, 503, 529))),
        lambda: Fault(status=dice.choice((400, 401, 403, 404, 422)), message="this cannot be done"),
        lambda: Fault(status=400, message="This model's maximum context length is 10 tokens. context_length_exceeded"),
        lambda: Fault(delay=OPERATORS_TIMEOUT + 2),
        lambda: Fault(break_after=-1, resets=dice.random() < 0.5),
        lambda: Fault(break_after=dice.randrange(0, 300), resets=dice.random() < 0.5),
        lambda: Fault(garbles=True),
        lambda: Fault(states_usage=False),
    ]
    if is_stream:
        broken = [
            lambda: Fault(break_after=dice.randrange(0, 6000), is_chunked=dice.random() < 0.7),
            lambda: Fault(break_after=dice.randrange(0, 6000), resets=True),
            lambda: Fault(stall_after=dice.randrange(0, 24), stall=dice.choice((1.0, OPERATORS_TIMEOUT + 2))),
        ]
        choices += broken * 2
    return dice.choice(choices)()


OPERATORS_TIMEOUT = 5
"""Seconds after which LiteLLM gives an attempt up, by the operator's configuration."""


# How the client behaves


def _client(dice: random.Random) -> Client:
    resets = dice.random() < 0.5
    choices: list[Callable[[], Client]] = [
        lambda: Client(cut_after=0, resets=resets),
        lambda: Client(cut_after=dice.choice((1, dice.randrange(2, 1500))), resets=resets),
        lambda: Client(cut_after=dice.randrange(1000, 9000), resets=resets),
        lambda: Client(leaves_after=dice.uniform(0, 0.2), resets=resets),
        lambda: Client(leaves_after=dice.uniform(0, 2.0), resets=resets),
        lambda: Client(sends=dice.random(), resets=resets),
    ]
    return dice.choice(choices)()


# What is not a customer's to send

_OTHER = "http://127.0.0.1:9/v1"
_HEADERS = ("timeout", "idempotency-key", "x-stainless-retry-count", "baggage", "traceparent")
_HOSTILE: list[tuple[str, Any]] = [
    ("router_settings_override", {"fallbacks": [{"gpt-4o": ["primary"]}], "num_retries": 5}),
    ("router_settings_override", {"num_retries": 6, "timeout": 0.3}),
    ("fallbacks", ["backup"]),
    ("fallbacks", [{"model": "claude"}]),
    ("context_window_fallbacks", [{"gpt-4o": ["backup"]}]),
    ("content_policy_fallbacks", [{"gpt-4o": ["backup"]}]),
    ("custom_llm_provider", lambda dice: dice.choice(("openai", "azure", "anthropic", "hosted_vllm"))),
    ("deployment_id", "gpt-4o"),
    ("specific_deployment", True),
    ("azure", True),
    ("api_key", "sk-of-the-customer"),
    ("api_base", _OTHER),
    ("base_url", _OTHER),
    ("api_version", "2024-01-01"),
    ("organization", "org-1"),
    ("extra_headers", {"Authorization": "Bearer of-the-customer"}),
    ("headers", {"Authorization": "Bearer of-the-customer"}),
    ("extra_body", {"usage": None, "stream_options": {"include_usage": False}}),
    ("extra_query", {"a": "b"}),
    ("num_retries", lambda dice: dice.choice((0, 3, 8, "5"))),
    ("max_retries", lambda dice: dice.choice((0, 3, 8, "5"))),
    ("timeout", lambda dice: dice.choice((0.01, 0.3, 1, "0.5", 600))),
    ("stream_timeout", lambda dice: dice.choice((0.01, 0.3, 1))),
    ("request_timeout", lambda dice: dice.choice((0.01, 0.3, 1))),
    ("total_timeout", lambda dice: dice.choice((0.01, 0.3, 1, "0.5"))),
    ("background", True),
    ("store", True),
    ("n", lambda dice: dice.choice((5, 100, "3", 2.0))),
    ("max_tokens", lambda dice: dice.choice((9000.0, "9000", 1e9, -1))),
    ("mock_response", "free of charge"),
    ("mock_timeout", True),
    ("mock_testing_fallbacks", True),
    ("mock_tool_calls", []),
    ("cache", {"use-cache": True}),
    ("cache", {"no-store": True, "ttl": 5}),
    ("caching", True),
    ("ttl", 60),
    ("no-log", True),
    ("no_log", True),
    ("metadata", {"user_api_key_hash": "0" * 64, "codexflow_call": "mine", "tags": ["a"], "model_group": "free"}),
    ("litellm_metadata", {"user_api_key_user_id": "1", "codexflow_call": "mine", "model_group": "free"}),
    ("metadata", "text"),
    ("litellm_metadata", [1]),
    ("tags", ["free"]),
    ("proxy_server_request", {"headers": {}, "body": {}}),
    ("model_info", {"id": "other", "input_cost_per_token": 0}),
    ("input_cost_per_token", 0),
    ("output_cost_per_token", 0),
    ("base_model", "free"),
    ("callbacks", []),
    ("success_callback", []),
    ("failure_callback", []),
    ("guardrails", ["none"]),
    ("litellm_call_id", "the-same"),
    ("litellm_trace_id", "the-same"),
    ("litellm_session_id", "the-same"),
    ("litellm_logging_obj", None),
    ("litellm_params", {"custom_llm_provider": "openai"}),
    ("mock_delay", 2),
    ("drop_params", True),
    ("additional_drop_params", ["stream_options"]),
    ("allowed_openai_params", ["timeout"]),
    ("stream_options", {"include_usage": None}),
    ("stream_options", None),
    ("stream", lambda dice: dice.choice(("true", 1, None))),
    ("use_chat_completions_api", True),
    ("priority", 1),
    ("prompt_id", "other"),
    ("acompletion", False),
    ("client", None),
    ("rpm", 1),
    ("model_list", [{"model_name": "gpt-4o", "litellm_params": {"model": "openai/free"}}]),
    ("order", 1),
    ("x-litellm-num-retries", lambda dice: dice.choice((0, 3, 8))),
    ("x-litellm-timeout", lambda dice: dice.choice((0.01, 0.3, 1))),
    ("x-litellm-stream-timeout", lambda dice: dice.choice((0.01, 0.3, 1))),
    ("x-litellm-total-timeout", lambda dice: dice.choice((0.01, 0.3, 1))),
    ("x-litellm-call-id", "the-same"),
    ("x-litellm-trace-id", "the-same"),
    ("x-litellm-session-id", "the-same"),
    ("x-litellm-tags", "free,of,charge"),
    ("x-litellm-enable-message-redaction", "true"),
    ("x-litellm-api-key", "sk-unknown"),
    ("x-litellm-disable-callbacks", "codexflow"),
    ("x-litellm-spend-logs-metadata", '{"codexflow_call": "mine"}'),
    ("x-litellm-customer-id", "somewhere"),
    ("x-litellm-end-user-id", "somewhere"),
    ("x-litellm-agent-id", "somewhere"),
    ("x-litellm-include-cost-in-streaming-usage", "true"),
    ("x-stainless-retry-count", "3"),
    ("timeout", "0.3"),
]

ORDINARY = Weather()
"""Nothing goes wrong."""
