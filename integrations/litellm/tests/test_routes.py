"""Every route of the installed LiteLLM, with every method and transport: what is open is one event, the rest is 403."""

import json
import os
import re
import secrets
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from stage import Stage, eventually

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD")
ODD_METHODS = ("TRACE", "CONNECT", "QUERY", "post", "Get")
OPEN_CALLS = re.compile(
    r"(/v1)?/(chat/completions|completions|embeddings|images/generations|messages|responses)"
    r"|/(openai/deployments|engines)/gpt-4o/(chat/completions|completions|embeddings|images/generations)"
)
OPEN_LISTS = re.compile(r"(/v1)?/models(/.+)?")
PROBES = ("/health/liveliness", "/health/liveness", "/health/readiness")

SPELLINGS = (
    *("/v1/chat/completions/", "//v1/chat/completions", "/v1//chat/completions", "/V1/chat/completions"),
    *("/v1/chat/completions%20", "/v1/chat%2Fcompletions", "/v1/%63hat/completions", "/v1/chat/completions;x=1"),
    *("/v1/./chat/completions", "/v1/x/../chat/completions", "/v1/chat/completions/.", "/v1/chat/completions/.."),
    *("/v1/chat\\completions", "/v1/chat/completions%00", "/v1/chat/completions%0a", "/v2/chat/completions"),
    *("/openai/deployments/x/models/../../../v1/files", "/openai/deployments/x/models/%2e%2e/v1/files"),
    *("/openai/deployments/x/models", "/openai/deployments/x/responses", "/openai/v1/files", "/openai/v1/batches"),
    *("/openai/deployments/a/b/chat/completions", "/openai/deployments/../chat/completions", "/openai/files"),
    *("/engines/..%2f..%2fv1/completions", "/anthropic/v1/messages", "/v1/messages/count_tokens", "/vertex_ai/x"),
    *("/v1beta/models/gpt-4o:countTokens", "/v1/models/gpt-4o:countTokens/x", "/models/gpt-4o:generateContent/"),
    *("/bedrock/model/x/invoke", "/gemini/v1beta/models/x:generateContent", "/v1/responses/resp_1", "/cohere/v1/chat"),
    *("/v1/responses/resp_1/cancel", "/v1/audio/speech", "/v1/realtime", "/v1/files/file-1/content", "/mcp/x"),
    *("http://127.0.0.1/v1/files", "http://127.0.0.1/v1/chat/completions/", "/v1/chat/completions#x", "/ui/", "*"),
    *("/key/generate", "/user/new", "/model/new", "/config/update", "/docs", "/openapi.json", "/metrics", "/"),
)


def routes() -> list[tuple[str, bool]]:
    """The paths of all routes, their parameters filled in, and whether each is a WebSocket's."""
    script = Path(__file__).with_name("list_routes.py")
    environment = {**os.environ, "LITELLM_DISABLE_LAZY_ROUTES": "1"}
    result = subprocess.run([sys.executable, str(script)], env=environment, check=True, stdout=subprocess.PIPE)
    found: list[tuple[str, list[str], bool]] = json.loads(result.stdout)
    return sorted({(re.sub(r"{[^}]+}", "gpt-4o", path) or "/", is_socket) for path, _, is_socket in found})


class Sender:
    """Sends requests letter by letter, as no client library does, and counts what the provider gets."""

    def __init__(self, stage: Stage, key: str) -> None:
        self._port = int(stage.url.rsplit(":", 1)[1])
        self._key = key

    def send(self, method: str, target: str, body: bytes = b"", headers: str = "") -> int:
        """The status of the answer, or 0 where the server closes without one."""
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._key}\r\nConnection: close\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        with socket.create_connection(("127.0.0.1", self._port), timeout=60) as connection:
            connection.sendall(head.encode("latin-1") + body)
            answer = connection.makefile("rb").readline()
        return int(answer.split()[1]) if answer else 0

    def open_socket(self, target: str) -> int:
        """The status of the answer to a WebSocket's handshake; 101 is an open one."""
        key = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        head = f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self._key}\r\nConnection: Upgrade\r\n"
        with socket.create_connection(("127.0.0.1", self._port), timeout=60) as connection:
            connection.sendall((head + key + "\r\n").encode())
            return int(connection.makefile("rb").readline().split()[1])


def body_of(path: str, number: int) -> dict[str, Any]:
    """A body that serves every open route; the number becomes the tokens of the prompt."""
    text = f"count {number}"
    if "embeddings" in path:
        return {"model": "embedding", "input": text}
    if "images" in path:
        return {"model": "gpt-4o-mini", "prompt": text}
    if "responses" in path:
        return {"model": "gpt-4o", "input": text}
    if path.endswith("chat/completions") or "messages" in path:
        return {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], "max_tokens": 9}
    return {"model": "gpt-4o", "prompt": text}


def test_an_open_route_is_exactly_one_event(stage: Stage) -> None:
    user = stage.make_user()
    sender = Sender(stage, stage.keys[user])
    paths = [path for path, is_socket in routes() if not is_socket and OPEN_CALLS.fullmatch(path)]
    paths += [f"/openai/deployments/gpt-4o/{name}" for name in ("chat/completions", "completions")]
    assert len(paths) > 12
    served = 0
    before = stage.provider.calls
    for number, path in enumerate(sorted(set(paths)), start=100):
        status = sender.send("POST", path, json.dumps(body_of(path, number)).encode())
        # A deployment of a name in the path is asked for another kind of answer than it gives.
        assert status == 200 or "gpt-4o/" in path, (path, status)
        served += status == 200
    stage.drain()
    stored = f"SELECT count(*) FROM api_logs WHERE user_id = {user} AND status = 'success'"
    assert served >= 12 and stage.provider.calls - before >= served
    assert stage.postgres.number(stored) == served
    stage.postgres.sql(f"INSERT INTO metering.user_limits (user_id, period, requests) VALUES ({user}, 'daily', 1)")
    eventually("the limit is known", lambda: sender.send("POST", paths[0], _bytes(paths[0])) == 429)
    before = stage.provider.calls
    # Every open route runs the pre-call hook.
    assert {sender.send("POST", path, _bytes(path)) for path in paths} == {429}
    assert stage.provider.calls == before


def _bytes(path: str) -> bytes:
    return json.dumps(body_of(path, 99)).encode()


def test_every_other_request_is_refused_before_any_work(stage: Stage) -> None:
    user = stage.make_user()
    sender = Sender(stage, stage.keys[user])
    before = stage.provider.calls
    paths = [path for path, is_socket in routes() if not is_socket]
    assert len(paths) > 500
    requests = [
        (method, path)
        for path in (*paths, *SPELLINGS)
        for method in (*METHODS, *(ODD_METHODS if path in SPELLINGS else ()))
        if not (method == "POST" and OPEN_CALLS.fullmatch(path))
        and not (method == "GET" and OPEN_LISTS.fullmatch(path))
        and not (method in ("GET", "HEAD") and path in PROBES)
    ]
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda request: sender.send(request[0], request[1], _bytes(request[1])), requests))
    # 400 is the server's own answer to bytes that are not HTTP. They reach no application.
    wrong = [(request, status) for request, status in zip(requests, statuses, strict=True) if status not in (403, 400)]
    assert wrong == []
    no_http = {method for (method, path), status in zip(requests, statuses, strict=True) if status == 400}
    assert statuses.count(403) > 4_000 and no_http <= {*ODD_METHODS}, no_http
    assert stage.provider.calls == before
    stage.drain()
    assert stage.postgres.number(f"SELECT count(*) FROM api_logs WHERE user_id = {user}") == 0


@pytest.mark.parametrize("holder", ["customer", "unknown", "operator"])
def test_no_websocket_opens(stage: Stage, holder: str) -> None:
    keys = {"customer": stage.keys[stage.make_user()], "unknown": "", "operator": stage.master_key}
    sender = Sender(stage, keys[holder])
    found = routes()
    targets = {path for path, is_socket in found if is_socket} | {
        "/v1/responses",
        "/responses",
        "/v1/realtime?model=gpt-4o",
    }
    assert len(targets) >= 10
    assert {sender.open_socket(target) for target in sorted(targets)} == {403}
    assert {sender.open_socket(path) for path, is_socket in found[::7]} == {403}


def test_a_request_without_a_key_reaches_only_the_probes(stage: Stage) -> None:
    sender = Sender(stage, secrets.token_hex(8))
    assert sender.send("GET", "/health/liveliness") == 200
    assert {sender.send("POST", path, _bytes(path)) for path in ("/v1/chat/completions", "/v1/messages")} == {401}
    closed = ("/health", "/health/services", "/metrics", "/ui", "/public/model_hub", "/sso/key/generate", "/v1/models")
    assert [sender.send("GET", path) for path in closed] == [403] * 6 + [401]


def test_the_operator_keeps_every_route(stage: Stage) -> None:
    sender = Sender(stage, stage.master_key)
    assert sender.send("GET", "/health/readiness") == 200
    assert sender.send("GET", "/v1/model/info") == 200
    assert sender.send("GET", "/v1/models") == 200
