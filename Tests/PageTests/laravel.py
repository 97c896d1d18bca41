"""Laravel's side of its session cookie, written from docs/laravel.md and not from the code under test."""

import base64
import hashlib
import hmac
import json
import secrets
import urllib.parse

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

COOKIE = "codexflow-session"
APP_NAME = "CodexFlow"


def _padded(text: bytes) -> bytes:
    missing = 16 - len(text) % 16
    return text + bytes([missing] * missing)


class LaravelSession:
    """A session in the table ``sessions``, and the cookie that names it."""

    def __init__(self, key: bytes) -> None:
        """A new session of an application with this key of 32 bytes."""
        self._key = key
        self.id = secrets.token_hex(20)
        self.csrf = secrets.token_hex(20)

    def payload(self, user: int) -> str:
        """The column ``payload`` of a session in which the user is signed in, as PHP serializes it."""
        login = "login_web_59ba36addc2b2f9401580f014c7f58ea4e30989d"
        text = f'a:2:{{s:6:"_token";s:40:"{self.csrf}";s:{len(login)}:"{login}";i:{user};}}'
        return base64.b64encode(text.encode()).decode()

    def cookie(self) -> str:
        """The value of the cookie, as a browser sends it."""
        prefix = hmac.digest(self._key, f"{COOKIE}v2".encode(), hashlib.sha1).hex()
        vector = secrets.token_bytes(16)
        encryptor = Cipher(algorithms.AES256(self._key), modes.CBC(vector)).encryptor()
        sealed = encryptor.update(_padded(f"{prefix}|{self.id}".encode())) + encryptor.finalize()
        iv, value = base64.b64encode(vector).decode(), base64.b64encode(sealed).decode()
        mac = hmac.digest(self._key, (iv + value).encode(), hashlib.sha256).hex()
        envelope = json.dumps({"iv": iv, "value": value, "mac": mac, "tag": ""})
        return urllib.parse.quote(base64.b64encode(envelope.encode()).decode(), safe="")
