"""Prints the routes of the installed LiteLLM as JSON: a path template, its methods, and whether it is a WebSocket."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from litellm.proxy.proxy_server import app


def every(routes: Sequence[Any], prefix: str = "") -> Iterator[tuple[str, list[str], bool]]:
    """The routes of an application, those of its routers and of the applications mounted in it."""
    for route in routes:
        candidates = getattr(route, "effective_candidates", None)
        if candidates is not None:
            yield from every([getattr(candidate, "route", candidate) for candidate in candidates()], prefix)
            continue
        path = prefix + getattr(route, "path", "")
        methods = sorted(getattr(route, "methods", None) or [])
        yield path, methods, not methods and not hasattr(route, "routes")
        yield from every(getattr(route, "routes", None) or (), path)


if __name__ == "__main__":
    print(json.dumps(sorted(set((path, tuple(methods), socket) for path, methods, socket in every(app.routes)))))
