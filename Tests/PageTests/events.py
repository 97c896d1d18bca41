"""Events as LiteLLM's proxy logs them."""

import hashlib
import random
import secrets
from dataclasses import dataclass, field
from typing import Any

Event = dict[str, Any]

DAY = 86_400


@dataclass(frozen=True)
class Call:
    """A call of a customer, and what became of it."""

    key: str
    user: int
    at: float
    model: str = "gpt-4o"
    provider: str = "openai"
    input_tokens: int = 1000
    output_tokens: int = 100
    cost: str | None = "0.0025"
    seconds: float = 1.25
    is_stream: bool = False
    error: tuple[str, str] | None = None
    """The code and the text of a failure."""
    tags: tuple[str, ...] = ()
    end_user: str | None = None
    id: str = field(default_factory=lambda: secrets.token_hex(12))

    def event(self) -> Event:
        """What LiteLLM reports of it."""
        event: Event = {
            "id": f"chatcmpl-{self.id}",
            "litellm_call_id": self.id,
            "call_type": "acompletion",
            "status": "success",
            "startTime": self.at,
            "endTime": self.at + self.seconds,
            "stream": self.is_stream,
            "completionStartTime": self.at + self.seconds / 3,
            "model": f"{self.provider}/{self.model}",
            "model_group": self.model,
            "custom_llm_provider": self.provider,
            "prompt_tokens": self.input_tokens,
            "completion_tokens": self.output_tokens,
            "response_cost": float(self.cost) if self.cost else 0,
            "request_tags": list(self.tags),
            "end_user": self.end_user,
            "metadata": {
                "user_api_key_hash": hashlib.sha256(self.key.encode()).hexdigest(),
                "user_api_key_user_id": str(self.user),
                "user_api_key_auth_metadata": {"laravel_user_id": self.user},
            },
        }
        if self.error:
            code, text = self.error
            event |= {"status": "failure", "prompt_tokens": 0, "completion_tokens": 0, "response_cost": 0}
            event["error_information"] = {"error_code": code, "error_class": "APIError", "error_message": text}
        return event


# Model, provider, and US dollars per input and output token.
MODELS = (
    ("gpt-4o", "openai", 2.5e-6, 10e-6),
    ("gpt-4o-mini", "openai", 0.15e-6, 0.6e-6),
    ("claude-sonnet-4-5", "anthropic", 3e-6, 15e-6),
    ("gemini-2.5-flash", "gemini", 0.3e-6, 2.5e-6),
    ("mistral-large", "mistral", 2e-6, 6e-6),
)


def month_of_calls(key: str, user: int, until: float, daily: int, seed: int) -> list[Call]:
    """The calls of 40 days, the same for each seed."""
    chance = random.Random(seed)
    calls = []
    for number in range(40 * daily):
        model, provider, input_price, output_price = chance.choices(MODELS, weights=(5, 8, 3, 4, 1))[0]
        sent, received = chance.randrange(200, 6000), chance.randrange(20, 1200)
        error = None
        if chance.random() < 0.04:
            error = chance.choice((("429", "Rate limit reached"), ("500", "Upstream error"), ("408", "Timed out")))
        calls.append(
            Call(
                key=key,
                user=user,
                at=until - 40 * DAY * chance.random() ** 1.2,
                model=model,
                provider=provider,
                input_tokens=sent,
                output_tokens=received,
                cost=f"{sent * input_price + received * output_price:.8f}",
                seconds=round(chance.lognormvariate(0, 0.6), 3),
                is_stream=number % 3 == 0,
                error=error,
                tags=(chance.choice(("project:tea", "project:mail", "test")),),
                end_user=f"visitor-{chance.randrange(9)}",
            )
        )
    return calls
