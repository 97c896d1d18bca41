"""OpenAI and Anthropic on the loopback, as LiteLLM knows them: no two calls take the same tokens."""

import base64
import itertools
import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TEXT = '{"city": "Paris"}'
"""Every answer, so that a client that wants JSON can read it too."""
CACHED, WRITTEN, REASONING = 21, 11, 13
"""Tokens of a prompt that were in the provider's cache and that went to it, and tokens of thought."""
ERRORS = {"bad": 400, "unpermitted": 403, "missing": 404, "limited": 429, "broken": 500}
"""Models that only fail, and how."""
Event = tuple[str, dict[str, Any]]


@dataclass
class Call:
    """One request, and the tokens that its answer reported."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    tokens: tuple[int, int] | None = None
    """Input and output; ``None`` where the answer was an error."""
    cached: int = 0
    """How many of the input tokens came from the provider's cache."""


@dataclass
class RecordingProvider:
    """Serves on a free port; the n-th call takes 1000 + n input tokens and 100 + n output tokens."""

    calls: list[Call] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        provider = self

        class Handler(_Handler):
            owner = provider

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Its address, without the version."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def models(self, providers: dict[str, str]) -> list[dict[str, Any]]:
        """LiteLLM's configuration of models that are served here: their names, each with LiteLLM's own."""
        return [
            {
                "model_name": name,
                "litellm_params": {
                    "model": target,
                    "api_key": "of-the-provider",
                    "api_base": self.url if target.startswith("anthropic/") else self.url + "/v1",
                },
            }
            for name, target in providers.items()
        ]

    def next_number(self) -> int:
        """The number of a call."""
        return next(self._numbers)

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: RecordingProvider

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_POST(self) -> None:
        """Answers one call."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self.path.partition("?")[0].removeprefix("/v1/")
        call = Call(path, {name.lower(): value for name, value in self.headers.items()}, body)
        self.owner.calls.append(call)
        number = self.owner.next_number()
        status = ERRORS.get(str(body["model"]).removeprefix("claude-"))
        if status is not None:
            error = {"type": "invalid_request_error", "message": f"The provider says {status}."}
            is_anthropic = path == "messages"
            self._answer({"type": "error", "error": error} if is_anthropic else {"error": error}, status)
            return
        call.tokens = (1000 + number, 0 if path == "embeddings" else 100 + number)
        answer = _ANSWERS[path](body, *call.tokens)
        if path in ("chat/completions", "responses") or (path == "messages" and _has(body, "cache_control")):
            call.cached = CACHED
        if body.get("stream"):
            self._stream(_STREAMS[path](body, answer), is_named=path in ("messages", "responses"))
        else:
            self._answer(answer, 200)

    def _answer(self, value: dict[str, Any], status: int) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, events: Iterable[Event], is_named: bool) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for name, value in events:
            head = f"event: {name}\n" if is_named else ""
            self.wfile.write(f"{head}data: {json.dumps(value)}\n\n".encode())
        if not is_named:
            self.wfile.write(b"data: [DONE]\n\n")


def _has(value: Any, name: str) -> bool:
    """Whether a field of this name is anywhere in a value."""
    if isinstance(value, dict):
        return name in value or any(_has(item, name) for item in value.values())
    return isinstance(value, list) and any(_has(item, name) for item in value)


def _wanted_tools(body: dict[str, Any]) -> list[str]:
    """The names of the functions to call: none where results are there already, or where none may be called."""
    done = _has(body, "tool_call_id") or _has(body, "tool_use_id") or _has(body, "call_id")
    if done or body.get("tool_choice") in ("none", {"type": "none"}):
        return []
    names = [tool.get("function", tool).get("name") for tool in body.get("tools") or ()]
    return ["weather", "weather"] if "weather" in names else []


ARGUMENTS = [{"city": "Paris"}, {"city": "Rome"}]
"""What the two calls of a function are given."""


# --- OpenAI -----------------------------------------------------------------------------------------------------------


def _chat(body: dict[str, Any], tokens: int, answered: int) -> dict[str, Any]:
    calls = [
        {"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": json.dumps(ARGUMENTS[n])}}
        for n, name in enumerate(_wanted_tools(body))
    ]
    message: dict[str, Any] = {"role": "assistant", "content": None if calls else TEXT, "refusal": None}
    if calls:
        message["tool_calls"] = calls
    token = {"token": "{", "logprob": -0.1, "bytes": [123]}
    choice = {
        "message": {**message, "annotations": []},
        "finish_reason": "tool_calls" if calls else "stop",
        "logprobs": {"content": [{**token, "top_logprobs": [token]}], "refusal": None}
        if body.get("logprobs")
        else None,
    }
    return {
        **{"id": f"chatcmpl-{tokens}", "object": "chat.completion", "created": 1, "model": body["model"]},
        "choices": [{"index": n, **choice} for n in range(body.get("n") or 1)],
        "usage": {
            **{"prompt_tokens": tokens, "completion_tokens": answered, "total_tokens": tokens + answered},
            "prompt_tokens_details": {"cached_tokens": CACHED, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": REASONING, "audio_tokens": 0},
        },
        **{"system_fingerprint": "fp_1", "service_tier": "default"},
    }


def _chat_stream(body: dict[str, Any], answer: dict[str, Any]) -> Iterator[Event]:
    """OpenAI reports the usage only where it is asked to."""
    head = {**answer, "object": "chat.completion.chunk", "choices": []}
    usage = head.pop("usage")
    wants_usage = (body.get("stream_options") or {}).get("include_usage")
    if wants_usage:
        head["usage"] = None

    def chunk(index: int, delta: dict[str, Any], **rest: Any) -> Event:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": None, **rest}
        return "", {**head, "choices": [choice]}

    for choice in answer["choices"]:
        index, message = choice["index"], choice["message"]
        yield chunk(
            index, {"role": "assistant", "content": None if message["content"] is None else "", "refusal": None}
        )
        for part in (message["content"] or "")[:8], (message["content"] or "")[8:]:
            if part:
                yield chunk(index, {"content": part}, logprobs=choice["logprobs"])
        for n, call in enumerate(message.get("tool_calls", ())):
            yield chunk(
                index, {"tool_calls": [{"index": n, **call, "function": {**call["function"], "arguments": ""}}]}
            )
            part = {"index": n, "function": {"arguments": call["function"]["arguments"]}}
            yield chunk(index, {"tool_calls": [part]})
        yield chunk(index, {}, finish_reason=choice["finish_reason"])
    if wants_usage:
        yield "", {**head, "usage": usage}


def _completion(body: dict[str, Any], tokens: int, answered: int) -> dict[str, Any]:
    return {
        **{"id": f"cmpl-{tokens}", "object": "text_completion", "created": 1, "model": body["model"]},
        "choices": [{"index": 0, "text": TEXT, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": tokens, "completion_tokens": answered, "total_tokens": tokens + answered},
    }


def _completion_stream(body: dict[str, Any], answer: dict[str, Any]) -> Iterator[Event]:
    usage = answer.pop("usage")
    yield "", answer
    if (body.get("stream_options") or {}).get("include_usage"):
        yield "", {**answer, "choices": [], "usage": usage}


def _embeddings(body: dict[str, Any], tokens: int, _: int) -> dict[str, Any]:
    values: Any = [0.5, 0.25]
    if body.get("encoding_format") == "base64":
        # Two floats of 32 bits.
        values = base64.b64encode(b"\x00\x00\x00\x3f\x00\x00\x80\x3e").decode()
    count = len(body["input"]) if isinstance(body["input"], list) else 1
    return {
        **{"object": "list", "model": body["model"]},
        "data": [{"object": "embedding", "index": n, "embedding": values} for n in range(count)],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _images(body: dict[str, Any], tokens: int, answered: int) -> dict[str, Any]:
    return {
        **{"created": 1, "background": "opaque", "output_format": "png", "quality": "low", "size": "1024x1024"},
        "data": [{"b64_json": base64.b64encode(b"image").decode()} for _ in range(body.get("n") or 1)],
        "usage": {
            **{"input_tokens": tokens, "output_tokens": answered, "total_tokens": tokens + answered},
            "input_tokens_details": {"text_tokens": tokens, "image_tokens": 0},
        },
    }


def _response(body: dict[str, Any], tokens: int, answered: int) -> dict[str, Any]:
    output: list[dict[str, Any]] = []
    if body.get("reasoning"):
        output.append({"id": f"rs_{tokens}", "type": "reasoning", "summary": [], "encrypted_content": "c2VjcmV0"})
    for n, name in enumerate(_wanted_tools(body)):
        call = {"id": f"fc_{n}", "call_id": f"call_{n}", "name": name, "arguments": json.dumps(ARGUMENTS[n])}
        output.append({**call, "type": "function_call", "status": "completed"})
    if not _wanted_tools(body):
        text = {"type": "output_text", "text": TEXT, "annotations": [], "logprobs": []}
        message = {"id": f"msg_{tokens}", "type": "message", "role": "assistant", "status": "completed"}
        output.append({**message, "content": [text]})
    return {
        **{"id": f"resp_{tokens}", "object": "response", "created_at": 1, "status": "completed", "output": output},
        **{name: body.get(name) for name in ("model", "instructions", "previous_response_id", "temperature", "top_p")},
        **{"tools": body.get("tools") or [], "tool_choice": body.get("tool_choice") or "auto", "error": None},
        **{"text": body.get("text") or {"format": {"type": "text"}}, "metadata": body.get("metadata") or {}},
        **{"parallel_tool_calls": True, "incomplete_details": None, "truncation": "disabled", "store": True},
        "usage": {
            **{"input_tokens": tokens, "output_tokens": answered, "total_tokens": tokens + answered},
            "input_tokens_details": {"cached_tokens": CACHED},
            "output_tokens_details": {"reasoning_tokens": REASONING},
        },
    }


def _response_stream(_: dict[str, Any], answer: dict[str, Any]) -> Iterator[Event]:
    sequence = itertools.count()

    def event(name: str, **rest: Any) -> Event:
        return name, {"type": name, "sequence_number": next(sequence), **rest}

    begun = {**answer, "status": "in_progress", "output": [], "usage": None}
    yield event("response.created", response=begun)
    yield event("response.in_progress", response=begun)
    for n, item in enumerate(answer["output"]):
        place = {"output_index": n, "item_id": item["id"]}
        empty = {name: type(value)() for name, value in item.items() if name in ("arguments", "content")}
        yield event("response.output_item.added", output_index=n, item={**item, **empty, "status": "in_progress"})
        if item["type"] == "function_call":
            yield event("response.function_call_arguments.delta", **place, delta=item["arguments"])
            yield event("response.function_call_arguments.done", **place, arguments=item["arguments"])
        for part in item.get("content", ()):
            inner = {**place, "content_index": 0}
            yield event("response.content_part.added", **inner, part={**part, "text": ""})
            yield event("response.output_text.delta", **inner, delta=part["text"], logprobs=[])
            yield event("response.output_text.done", **inner, text=part["text"], logprobs=[])
            yield event("response.content_part.done", **inner, part=part)
        yield event("response.output_item.done", output_index=n, item=item)
    yield event("response.completed", response=answer)


# --- Anthropic --------------------------------------------------------------------------------------------------------


def _message(body: dict[str, Any], tokens: int, answered: int) -> dict[str, Any]:
    """``input_tokens`` leaves out what the cache had and got."""
    content: list[dict[str, Any]] = []
    if (body.get("thinking") or {}).get("type") not in (None, "disabled"):
        content.append({"type": "thinking", "thinking": "Well.", "signature": "c2lnbmVk"})
    tools = _wanted_tools(body)
    content += [
        {"type": "tool_use", "id": f"toolu_{n}", "name": name, "input": ARGUMENTS[n]} for n, name in enumerate(tools)
    ]
    if not tools:
        content.append({"type": "text", "text": TEXT})
    is_cached = _has(body, "cache_control")
    return {
        **{"id": f"msg_{tokens}", "type": "message", "role": "assistant", "model": body["model"], "content": content},
        **{"stop_reason": "tool_use" if tools else "end_turn", "stop_sequence": None},
        "usage": {
            "input_tokens": tokens - (CACHED + WRITTEN if is_cached else 0),
            "cache_read_input_tokens": CACHED if is_cached else 0,
            "cache_creation_input_tokens": WRITTEN if is_cached else 0,
            **{"output_tokens": answered, "service_tier": "standard"},
        },
    }


def _message_stream(_: dict[str, Any], answer: dict[str, Any]) -> Iterator[Event]:
    def event(name: str, **rest: Any) -> Event:
        return name, {"type": name, **rest}

    begun = {**answer, "content": [], "stop_reason": None, "usage": {**answer["usage"], "output_tokens": 1}}
    yield event("message_start", message=begun)
    yield event("ping")
    for n, block in enumerate(answer["content"]):
        empty: dict[str, Any]
        deltas: list[dict[str, Any]]
        if block["type"] == "tool_use":
            empty = {**block, "input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
        elif block["type"] == "thinking":
            empty = {"type": "thinking", "thinking": "", "signature": ""}
            deltas = [{"type": "thinking_delta", "thinking": block["thinking"]}]
            deltas.append({"type": "signature_delta", "signature": block["signature"]})
        else:
            empty = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": part} for part in (block["text"][:8], block["text"][8:])]
        yield event("content_block_start", index=n, content_block=empty)
        for delta in deltas:
            yield event("content_block_delta", index=n, delta=delta)
        yield event("content_block_stop", index=n)
    end = {"stop_reason": answer["stop_reason"], "stop_sequence": None}
    yield event("message_delta", delta=end, usage={"output_tokens": answer["usage"]["output_tokens"]})
    yield event("message_stop")


_ANSWERS = {
    "chat/completions": _chat,
    "completions": _completion,
    "embeddings": _embeddings,
    "images/generations": _images,
    "responses": _response,
    "messages": _message,
}
_STREAMS = {
    "chat/completions": _chat_stream,
    "completions": _completion_stream,
    "responses": _response_stream,
    "messages": _message_stream,
}
