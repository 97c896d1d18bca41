"""Why a request is not let through, in the terms of the API that the client speaks."""

import json
import time
from dataclasses import dataclass
from typing import Any


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
        error: dict[str, Any] = {"type": self.kind, "message": self.message}
        if is_anthropic:
            return json.dumps({"type": "error", "error": error}).encode()
        return json.dumps({"error": {**error, "param": self.field, "code": str(self.status)}}).encode()


class Refused(Exception):
    """Raised where a request ends with a refusal."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal
