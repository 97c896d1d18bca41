"""What an operator sets, in LiteLLM's environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from codexflow_litellm.gate.application import Limits
from codexflow_litellm.gate.fields import Fields


@dataclass(frozen=True)
class Settings:
    """The settings of one LiteLLM."""

    url: str
    """Where ``webhook-api`` listens."""
    webhook_key: str
    spool: Path
    """A directory on a disk that survives the container."""
    serves_when_down: bool = True
    """While ``webhook-api`` is down, known keys are served by the last known answer; else they are refused with 503."""
    answer_seconds: float = 5.0
    """How long an answer about a key is valid."""
    events_per_second: int = 2000
    """The rate at which a spool drains after an outage."""
    master_key: str | None = None
    """LiteLLM's own key, which keeps working for its operator."""
    fields: Fields = field(default_factory=Fields)
    """The fields of a body that customers may set."""
    limits: Limits = field(default_factory=Limits)
    """What one request may take."""
    serves_unpriced: bool = False
    """Whether a user with a budget may use a model without a price in LiteLLM."""

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> "Settings":
        """The settings in force; raises ``ValueError`` with the name of the one that is wrong."""
        key = environment.get("LITELLM_WEBHOOK_KEY", "")
        if len(key) < 32:
            raise ValueError("LITELLM_WEBHOOK_KEY: webhook-api's key, of at least 32 characters, is needed")
        check_master_key(environment.get("LITELLM_MASTER_KEY"), key)
        return cls(
            url=_url(environment),
            webhook_key=key,
            spool=Path(environment.get("CODEXFLOW_SPOOL") or "/var/lib/codexflow"),
            serves_when_down=_choice(environment, "CODEXFLOW_WHEN_DOWN", "open", "closed"),
            answer_seconds=_positive(environment, "CODEXFLOW_ANSWER_SECONDS", 5),
            events_per_second=int(_positive(environment, "CODEXFLOW_EVENTS_PER_SECOND", 2000)),
            master_key=environment.get("LITELLM_MASTER_KEY") or None,
            fields=Fields.read(
                environment.get("CODEXFLOW_FIELDS") or "", environment.get("CODEXFLOW_UNKNOWN_FIELDS") or "drop"
            ),
            serves_unpriced=not _choice(environment, "CODEXFLOW_UNPRICED", "refuse", "serve"),
            limits=Limits(
                open_paths=frozenset(
                    path.strip() for path in (environment.get("CODEXFLOW_OPEN_PATHS") or _PROBES).split(",")
                ),
                unstated_answer=int(_positive(environment, "CODEXFLOW_ANSWER_TOKENS", 4_000)),
                largest_body=int(_positive(environment, "CODEXFLOW_MAX_BODY_MIB", 32)) << 20,
            ),
        )


_PROBES = "/health/liveliness,/health/liveness,/health/readiness"


def check_master_key(master_key: str | None, webhook_key: str) -> None:
    """Raises ``ValueError`` where one of the two secrets contains the other."""
    if master_key and (webhook_key in master_key or master_key.removeprefix("sk-") in webhook_key):
        raise ValueError(
            "LITELLM_MASTER_KEY: contains LITELLM_WEBHOOK_KEY or is part of it, so that a sender of events administers "
            "the proxy. Choose another one, for example sk- and the output of openssl rand -hex 32"
        )


def _url(environment: Mapping[str, str]) -> str:
    url = (environment.get("CODEXFLOW_URL") or "http://webhook-api:8081").rstrip("/")
    if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
        raise ValueError("CODEXFLOW_URL: is not the http or https address of webhook-api")
    return url


def _choice(environment: Mapping[str, str], name: str, default: str, other: str) -> bool:
    """Whether a setting has its default and not the other value."""
    value = environment.get(name) or default
    if value not in (default, other):
        raise ValueError(f"{name}: is neither {default} nor {other}")
    return value == default


def _positive(environment: Mapping[str, str], name: str, default: float) -> float:
    try:
        value = float(environment.get(name) or default)
    except ValueError:
        value = 0
    if not 1 <= value <= 1_000_000:
        raise ValueError(f"{name}: is not a number from 1 to 1000000")
    return value
