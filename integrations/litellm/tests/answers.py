"""What a provider of models answers: the bodies and the streams of OpenAI's and Anthropic's API, piece by piece."""

import json
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Piece:
    """A part of an answer that is sent at once."""

    data: bytes
    has_usage: bool = False
    """Whether a reader of it knows all tokens of the call."""
    words: int = 0
    """How many words of the answer are in it."""


@dataclass(frozen=True)
class Answer:
    """A whole answer; a stream has many pieces."""

    pieces: tuple[Piece, ...]
    is_stream: bool = False
    status: int = 200

    @property
    def size(self) -> int:
        """The bytes of its body."""
        return sum(len(piece.data) for piece in self.pieces)


@dataclass(frozen=True)
class Call:
    """A call as an answer is made for it."""

    path: str
    request: dict[str, Any]
    name: str
    """The end of the answer's id."""
    input: int
    output: int
    words: int = 20
    always_states_usage: bool = False
    """Whether a stream ends with its usage without a request for it."""
    states_usage: bool = True

    @property
    def model(self) -> str:
        """The model as it was asked for."""
        return str(self.request.get("model", ""))

    @property
    def is_stream(self) -> bool:
        """Whether a stream was asked for."""
        return self.request.get("stream") is True

    def usage(self, *names: str) -> dict[str, Any]:
        """The tokens under a shape's names; nothing where the provider states none."""
        amounts = (self.input, self.output, self.input + self.output)
        return {"usage": dict(zip(names, amounts, strict=False))} if self.states_usage else {}


def error(status: int, message: str) -> Answer:
    """A refusal in the shape that OpenAI and Anthropic share well enough."""
    value = {"type": "error", "error": {"message": message, "type": "server_error", "code": None, "param": None}}
    return Answer((Piece(json.dumps(value).encode()),), status=status)


def answer(call: Call) -> Answer:
    """The answer to a call by its path."""
    route = call.path.split("?")[0]
    if route.endswith("/embeddings"):
        data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
        usage = {"usage": {"prompt_tokens": call.input, "total_tokens": call.input}} if call.states_usage else {}
        return _whole(call, {"object": "list", "model": call.model, "data": data, **usage})
    if route.endswith("/images/generations"):
        image = {"created": 1, "data": [{"url": "http://127.0.0.1/image.png"}]}
        return _whole(replace(call, words=0), image, "input_tokens", "output_tokens", "total_tokens")
    if route.endswith("/responses"):
        return _responses(call)
    if route.endswith("/messages"):
        return _messages(call)
    return _chat(call, is_text=not route.endswith("/chat/completions"))


def _whole(call: Call, value: dict[str, Any], *names: str) -> Answer:
    body = json.dumps({**value, **(call.usage(*names) if names else {})}).encode()
    return Answer((Piece(body, has_usage=call.states_usage, words=call.words),))


def _event(value: dict[str, Any], name: str = "", **piece: Any) -> Piece:
    head = f"event: {name}\n".encode() if name else b""
    return Piece(head + b"data: " + json.dumps(value).encode() + b"\n\n", **piece)


# Chat and text completions

_CHAT_USAGE = ("prompt_tokens", "completion_tokens", "total_tokens")


def _chat(call: Call, is_text: bool) -> Answer:
    kind = "text_completion" if is_text else "chat.completion"
    head = {"id": f"{'cmpl' if is_text else 'chatcmpl'}-{call.name}", "created": 1, "model": call.model}
    if not call.is_stream:
        choice: dict[str, Any] = {"index": 0, "finish_reason": "stop"}
        choice |= {"text": _text(call), "logprobs": None} if is_text else {"message": _message(call)}
        return _whole(call, {**head, "object": kind, "choices": [choice]}, *_CHAT_USAGE)
    head["object"] = kind if is_text else f"{kind}.chunk"

    def chunk(content: dict[str, Any], finish: str | None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "finish_reason": finish, **content}]}

    pieces = [
        _event(chunk({"text": word} if is_text else {"delta": {"role": "assistant", "content": word}}, None), words=1)
        for word in _words(call)
    ]
    pieces.append(_event(chunk({"text": ""} if is_text else {"delta": {}}, "stop")))
    options = call.request.get("stream_options")
    if call.states_usage and (call.always_states_usage or (isinstance(options, dict) and options.get("include_usage"))):
        pieces.append(_event({**head, "choices": [], **call.usage(*_CHAT_USAGE)}, has_usage=True))
    return Answer((*pieces, Piece(b"data: [DONE]\n\n")), is_stream=True)


def _message(call: Call) -> dict[str, Any]:
    if call.request.get("tools"):
        tool = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
        return {"role": "assistant", "content": None, "tool_calls": [tool]}
    return {"role": "assistant", "content": _text(call)}


def _words(call: Call) -> list[str]:
    return [f"word {number} " for number in range(call.words)]


def _text(call: Call) -> str:
    return "".join(_words(call)) or "answer"


# OpenAI's responses


def _responses(call: Call) -> Answer:
    text = {"type": "output_text", "text": _text(call), "annotations": []}
    message = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [text]}
    head = {"id": f"resp_{call.name}", "object": "response", "created_at": 1, "model": call.model}
    head |= {"parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    whole = {**head, "status": "completed", "output": [message]}
    if call.states_usage:
        details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        whole["usage"] = {**call.usage("input_tokens", "output_tokens", "total_tokens")["usage"], **details}
    if not call.is_stream:
        return Answer((Piece(json.dumps(whole).encode(), has_usage=call.states_usage, words=call.words),))
    place = {"item_id": "m1", "output_index": 0, "content_index": 0}
    empty = {**message, "status": "in_progress", "content": []}
    events: list[tuple[str, dict[str, Any], int]] = [
        ("response.created", {"response": {**head, "status": "in_progress", "output": []}}, 0),
        ("response.output_item.added", {"output_index": 0, "item": empty}, 0),
        ("response.content_part.added", {**place, "part": {**text, "text": ""}}, 0),
        *(("response.output_text.delta", {**place, "delta": word, "logprobs": []}, 1) for word in _words(call)),
        ("response.output_text.done", {**place, "text": _text(call), "logprobs": []}, 0),
        ("response.output_item.done", {"output_index": 0, "item": message}, 0),
        ("response.completed", {"response": whole}, 0),
    ]
    return Answer(
        tuple(
            _event(
                {"type": name, "sequence_number": number, **value},
                name,
                has_usage=name == "response.completed" and call.states_usage,
                words=words,
            )
            for number, (name, value, words) in enumerate(events)
        ),
        is_stream=True,
    )


# Anthropic's messages


def _messages(call: Call) -> Answer:
    head: dict[str, Any] = {"id": f"msg_{call.name}", "type": "message", "role": "assistant", "model": call.model}
    head |= {"stop_reason": None, "stop_sequence": None}
    if not call.is_stream:
        content = [{"type": "text", "text": _text(call)}]
        whole = {**head, "stop_reason": "end_turn", "content": content}
        return _whole(call, whole, "input_tokens", "output_tokens")
    first = {"usage": {"input_tokens": call.input, "output_tokens": 1}} if call.states_usage else {}
    last = {"usage": {"output_tokens": call.output}} if call.states_usage else {}
    block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    events: list[tuple[dict[str, Any], int]] = [
        ({"type": "message_start", "message": {**head, "content": [], **first}}, 0),
        (block, 0),
        *(
            ({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}, 1)
            for word in _words(call)
        ),
        ({"type": "content_block_stop", "index": 0}, 0),
        ({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, **last}, 0),
        ({"type": "message_stop"}, 0),
    ]
    return Answer(
        tuple(
            _event(
                value,
                value["type"],
                has_usage=value["type"] == "message_delta" and call.states_usage,
                words=words,
            )
            for value, words in events
        ),
        is_stream=True,
    )
