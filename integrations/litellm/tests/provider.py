"""A provider of models, as LiteLLM's OpenAI client sees one: it counts its calls and keeps what it was sent."""

import json
import secrets
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Provider:
    """Serves on a free port of the loopback; the number that a prompt ends with becomes its count of tokens."""

    def __init__(self) -> None:
        self.served: Counter[int] = Counter()
        """How often each prompt's number was answered."""
        self.traffic: list[bytes] = []
        """Headers and bodies of every request."""
        self.delay = 0.0
        """Seconds until every answer, or within every stream."""
        self.repeats_ids = True
        """Whether every answer has the same id, as some providers' have."""
        self.spread = 0.0
        """Seconds over which the answers to calls made at once are spread, besides."""
        self._lock = threading.Lock()
        provider = self

        class Handler(_Handler):
            owner = provider

        self._server = _Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """The base URL for LiteLLM."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def calls(self) -> int:
        """All calls that were answered."""
        return self.served.total()

    def note(self, number: int, traffic: bytes) -> None:
        """Counts a call."""
        with self._lock:
            self.served[number] += 1
            self.traffic.append(traffic)

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: whoever calls may be killed meanwhile."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    owner: Provider

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""

    def do_POST(self) -> None:
        """Answers one call."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        request = json.loads(body)
        number = _number(request)
        self.owner.note(number, str(self.headers).encode() + body)
        time.sleep(self.owner.delay + self.owner.spread * (number % 50) / 50)
        usage = {"prompt_tokens": number, "completion_tokens": 5, "total_tokens": number + 5}
        model = request.get("model", "")
        if "failing" in model:
            self._answer({"error": {"message": "the provider is out of order", "type": "server_error"}}, status=500)
        elif self.path.endswith("/embeddings"):
            data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
            usage = {"prompt_tokens": number, "total_tokens": number}
            self._answer({"object": "list", "model": model, "data": data, "usage": usage})
        elif self.path.endswith("/images/generations"):
            self._answer({"created": 1, "data": [{"url": "http://127.0.0.1/image.png"}]})
        elif self.path.endswith("/responses"):
            self._answer(_response(model, number, self._name()))
        elif request.get("stream"):
            self._stream(model, usage)
        else:
            message: dict[str, Any] = {"role": "assistant", "content": "answer"}
            if request.get("tools"):
                call = {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
                message = {"role": "assistant", "content": None, "tool_calls": [call]}
            choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
            self._answer({**self._head("chat.completion", model), "choices": choices, "usage": usage})

    def _name(self) -> str:
        return "the-same-for-all" if self.owner.repeats_ids else secrets.token_hex(8)

    def _head(self, kind: str, model: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{self._name()}", "object": kind, "created": 1, "model": model}

    def _answer(self, value: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, model: str, usage: dict[str, int]) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        head = self._head("chat.completion.chunk", model)
        chunks: list[dict[str, Any]] = [
            {"choices": [{"index": 0, "delta": {"role": "assistant", "content": f"word {n} "}}]} for n in range(20)
        ]
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        chunks.append({"choices": [], "usage": usage})
        try:
            for chunk in chunks:
                self.wfile.write(b"data: " + json.dumps({**head, **chunk}).encode() + b"\n\n")
                time.sleep(self.owner.delay / len(chunks))
            self.wfile.write(b"data: [DONE]\n\n")
        except OSError:
            # The reader hung up.
            return


def _number(request: dict[str, Any]) -> int:
    prompt = request.get("input") or request.get("prompt") or request["messages"][-1]["content"]
    while isinstance(prompt, list):
        prompt = prompt[-1]
        if isinstance(prompt, dict):
            prompt = prompt.get("text") or prompt.get("content")
    return int(str(prompt).rsplit(" ", 1)[-1])


def _response(model: str, number: int, name: str) -> dict[str, Any]:
    text = {"type": "output_text", "text": "answer", "annotations": []}
    message = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [text]}
    usage = {
        **{"input_tokens": number, "output_tokens": 5, "total_tokens": number + 5},
        **{"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}},
    }
    return {
        **{"id": f"resp_{name}", "object": "response", "created_at": 1, "status": "completed", "model": model},
        **{"output": [message], "usage": usage, "parallel_tool_calls": True, "tool_choice": "auto", "tools": []},
    }
