"""Why a request is not let through, in the terms of the API that the client speaks."""

import json
import re
import time
from dataclasses import dataclass
from typing import Any, NoReturn

_ANTHROPIC = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
}
"""The types of Anthropic's errors, by status."""


@dataclass(frozen=True)
class Refusal:
    """Why a request is not let through, in OpenAI's terms."""

    status: int
    kind: str
    message: str
    resets_at: float | None = None
    """Epoch seconds after which the same request may pass."""
    field: str | None = None
    """The field of the body that the client has to change."""

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the answer, in lower case."""
        if self.resets_at is not None:
            return {"retry-after": str(max(1, int(self.resets_at - time.time())))}
        return {"retry-after": "1"} if self.status == 503 else {}

    def body(self, is_anthropic: bool) -> bytes:
        """The answer's JSON, as OpenAI's or Anthropic's clients read it."""
        error: dict[str, Any] = {"type": self.kind, "message": self.message, "param": self.field}
        if is_anthropic:
            kind = _ANTHROPIC.get(self.status, "api_error")
            return json.dumps({"type": "error", "error": {"type": kind, "message": self.message}}).encode()
        return json.dumps({"error": {**error, "code": str(self.status)}}).encode()


class Refused(Exception):
    """A request ends with a refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


def refuse(name: str | None, message: str) -> NoReturn:
    """Ends a request whose body the client has to change."""
    raise Refused(Refusal(400, "invalid_request_error", message, field=name))


_INSIDE = re.compile(r"\n|Traceback|Received Messages|messages=|Received=|\bFile \"/", re.IGNORECASE)
_QUOTED = re.compile(r"(['\"`])(?:(?!\1).){20,}(\1|$)")
_LONGEST_ERROR = 300


def first_words(text: str) -> str:
    """The beginning of an error's text, before any prompt or traceback."""
    return _INSIDE.split(text.strip(), maxsplit=1)[0].strip()[:_LONGEST_ERROR]


def kept_words(text: str) -> str:
    """The beginning of an error's text without its quotations, for an event."""
    return _QUOTED.sub(r"\1…\1", first_words(text))


def tidied(body: bytes) -> bytes:
    """The body of an error of LiteLLM, without what it states about the operator's system."""
    try:
        value = json.loads(body)
        error = value["error"]
        error["message"] = first_words(str(error["message"]))
        error.pop("provider_specific_fields", None)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Refusal(500, "api_error", "The call failed.").body(is_anthropic=False)
    return json.dumps(value).encode()


def tidied_stream(part: bytes) -> bytes:
    """A part of a stream with an error, without what it states about the operator's system."""
    data = b"data: "
    lines = part.split(b"\n")
    return b"\n".join(data + tidied(line[len(data) :]) if line.startswith(data + b"{") else line for line in lines)
