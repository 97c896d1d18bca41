"""Requests to ``webhook-api``."""

import http.client
import threading
from collections.abc import Mapping
from urllib.parse import urlsplit

from codexflow_litellm.settings import Settings


class Unreachable(Exception):
    """``webhook-api`` gave no usable answer."""


class Backend:
    """``webhook-api`` over one kept connection for each thread."""

    def __init__(self, settings: Settings) -> None:
        self._address = urlsplit(settings.url)
        self._headers = {"Content-Type": "application/json", "X-API-Key": settings.webhook_key}
        self._local = threading.local()

    def post(self, path: str, body: bytes, headers: Mapping[str, str], timeout: float) -> tuple[int, bytes]:
        """Status and body of the answer; raises ``Unreachable`` where there is none within ``timeout`` seconds.

        A kept connection may turn out to be closed. Then one new connection is tried.
        """
        for attempt in (1, 2):
            connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
            is_kept = connection is not None
            try:
                if connection is None:
                    connection = self._connect(timeout)
                    self._local.connection = connection
                connection.timeout = timeout
                if connection.sock is not None:
                    connection.sock.settimeout(timeout)
                connection.request("POST", self._address.path + path, body, {**self._headers, **headers})
                response = connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException) as error:
                self._local.connection = None
                if connection is not None:
                    connection.close()
                if not is_kept or attempt == 2 or isinstance(error, TimeoutError):
                    raise Unreachable(f"webhook-api: {type(error).__name__}") from None
        raise AssertionError("unreachable")

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._address.scheme == "https" else http.client.HTTPConnection
        return kind(self._address.hostname or "", self._address.port, timeout=timeout)
