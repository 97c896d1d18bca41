"""The routes that a customer's key opens. Everything else is refused before any other work.

LiteLLM has hundreds of routes, several spellings for most, and routes that pass a request on to a provider with the
operator's own key. So a request is matched here by its exact text, and reaches LiteLLM under the one spelling in this
table. ``CodexFlow.authenticate`` then checks the route template that LiteLLM itself has matched.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

INFERENCE = ("chat/completions", "completions", "embeddings", "images/generations", "messages", "responses")
"""The last parts of the routes that call a model, each a POST."""

TEMPLATES = frozenset([*(f"/v1/{name}" for name in INFERENCE), "/v1/models", "/v1/models/{model_id}"])
"""The route templates of LiteLLM's that serve this table."""

# Letters of a path that mean the same in every parser: no percent sign, backslash, semicolon or blank.
_PLAIN = re.compile(rb"(/[A-Za-z0-9._~:@+-]+)+")
_DOTS = re.compile(rb"(^|/)\.+(/|$)")
_CALL = re.compile(
    r"(?:/v1)?/(chat/completions|completions|embeddings|images/generations|messages|responses)"
    r"|/(?:openai/deployments|engines)/([^/]+)/(chat/completions|completions|embeddings|images/generations)"
)
_MODELS = re.compile(r"(?:/v1)?/models(?:/(.+))?")


@dataclass(frozen=True)
class Match:
    """A request's place in the table."""

    name: str
    """``chat/completions`` and so on, or ``models``."""
    path: str
    """Its path as LiteLLM gets it."""
    model: str | None = None
    """The model in the path, which takes precedence over that of the body."""

    @property
    def is_inference(self) -> bool:
        """Whether the request calls a model."""
        return self.name != "models"

    @property
    def is_anthropic(self) -> bool:
        """Whether the client expects Anthropic's form of an error."""
        return self.name == "messages"


def match(scope: Mapping[str, Any]) -> Match | None:
    """The place of an HTTP request in the table, or ``None`` where it has none."""
    path = route_of(scope)
    if path is None:
        return None
    if scope["method"] == "POST" and (call := _CALL.fullmatch(path)) is not None:
        name = call[1] or call[3]
        return Match(name, f"/v1/{name}", call[2])
    if scope["method"] == "GET" and (models := _MODELS.fullmatch(path)) is not None:
        return Match("models", "/v1/models" + (f"/{models[1]}" if models[1] else ""), models[1])
    return None


def route_of(scope: Mapping[str, Any]) -> str | None:
    """The path of a request without the server's root path, or ``None`` where a parser could read it in two ways."""
    path: str = scope.get("path") or ""
    raw = scope.get("raw_path")
    written = path.encode() if raw is None else raw.split(b"?", 1)[0]
    if written != path.encode() or not _PLAIN.fullmatch(written) or _DOTS.search(written):
        return None
    root = (scope.get("root_path") or "").rstrip("/")
    return path[len(root) :] if root and path.startswith(root + "/") else path
