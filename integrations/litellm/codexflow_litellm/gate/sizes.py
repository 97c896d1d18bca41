"""What a call may take at the most, by its body. It is reserved before the call and replaced by what the call took."""

import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from codexflow_litellm.gate.content import BULK, is_use_of_tool

LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
"""The names of the longest answer."""
BUDGETS = (("thinking", "budget_tokens"), ("reasoning", "max_tokens"))
"""The fields, and their members, that bound an answer's reasoning."""

_LETTERS = (string.ascii_letters + " ").encode()
_ASCII = bytes(range(128))
_BASE64 = frozenset(string.ascii_letters + string.digits + "+/=_-")
_SMALLEST_BULK = 4_000


@dataclass(frozen=True)
class Size:
    """Tokens and images of one call."""

    prompt_tokens: int = 0
    answer_tokens: int = 0
    images: int = 0


def size_of(route: str, body: Mapping[str, Any], text: bytes, unstated_answer: int) -> Size:
    """The size of a cleaned body; ``text`` is its JSON."""
    if route == "images/generations":
        return Size(_tokens(text), 0, answers(body))
    answer_tokens = 0 if route == "embeddings" else answers(body) * longest_answer(body, unstated_answer)
    bulk = _bulk(body)
    # Images and files: some thousand tokens for some hundred thousand bytes.
    return Size(_tokens(text) - bulk // 3 + bulk // 150, answer_tokens)


def _tokens(text: bytes) -> int:
    """At least half of the tokens by any tokenizer. Letters share tokens; digits, signs and other scripts hardly do."""
    without_letters = text.translate(None, delete=_LETTERS)
    beyond_ascii = len(without_letters.translate(None, delete=_ASCII))
    signs = len(without_letters) - beyond_ascii
    return (len(text) - len(without_letters)) // 3 + signs + beyond_ascii * 3 // 4


_MEDIA = (
    *("document", "file", "image", "image_url", "input_audio", "input_file", "input_image", "media", "source"),
    "video_url",
)
"""Content parts, and members of them, that hold images and files."""


def _bulk(body: Mapping[str, Any]) -> int:
    """The bytes of images and files in the content of a body."""
    total = 0
    waiting: list[tuple[str, Any]] = [(name, body.get(name)) for name in ("messages", "input", "system")]
    while waiting:
        place, item = waiting.pop()
        if isinstance(item, list):
            waiting.extend((place, part) for part in item if isinstance(part, (dict, list)))
        elif isinstance(item, dict):
            # A document of plain text has the same member as one in base64.
            is_media = (place in _MEDIA or item.get("type") in _MEDIA) and item.get("type") != "text"
            for name, member in item.items():
                if isinstance(member, (dict, list)) and not (name == "input" and is_use_of_tool(item)):
                    waiting.append((name, member))
                elif isinstance(member, str) and is_media and name in BULK and len(member) > _SMALLEST_BULK:
                    is_data = _BASE64.issuperset(member[member.find(",") + 1 :][:_SMALLEST_BULK])
                    total += len(member) if is_data else 0
    return total


def answers(body: Mapping[str, Any]) -> int:
    """How many answers a cleaned body asks for."""
    prompts = body.get("prompt")
    several = len(prompts) if isinstance(prompts, list) and prompts and isinstance(prompts[0], (str, list)) else 1
    return max(cast(int, body.get("n") or 1), cast(int, body.get("best_of") or 1)) * several


def longest_answer(body: Mapping[str, Any], unstated: int) -> int:
    """The most tokens that one answer of a cleaned body may have, its reasoning included."""
    stated = [cast(int, body[name]) for name in LIMITS if body.get(name) is not None]
    for name, part in BUDGETS:
        value = body.get(name)
        if isinstance(value, dict) and value.get(part) is not None:
            stated.append(value[part])
    return max(stated, default=unstated)
