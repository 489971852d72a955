"""Who asks: every browser and every program has a secret, of which the server makes the owner of its uploads and jobs.

A browser's secret is a cookie that the server gave it; a program names one of its own in the header `X-Champ-Client`.
The tables hold owners only, which are keyed hashes: nobody who reads one can ask in its name.
"""

import base64
import hashlib
import hmac
import re
import secrets
from pathlib import Path
from typing import Any

from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path, read_bytes, reason

CLIENT_HEADER = "X-Champ-Client"
"""The header in which a program names its secret."""

OWNER_HEADER = "x-champ-owner"
"""A header that the server puts into the requests that it passes on, in place of whatever the client has put there."""

CLIENT_RULE = re.compile(r"[!-~]{16,200}")
"""What a program's secret may be: 16 to 200 printable ASCII characters without spaces."""

_KEY = "secret.key"  # in the workspace
_KEY_BYTES = 32
_YEAR = 365 * 24 * 3600


class Identities:
    """Makes and knows the secrets of browsers, and makes owners of secrets."""

    def __init__(self, key: bytes):
        """`key` is the server's secret; with another one, every browser is a new one."""
        self._key = key
        # Browsers keep one set of cookies for all ports of a machine, so that two servers need two names.
        self.cookie = f"champ_client_{self._sign('name', '')[:8].lower()}"

    @classmethod
    def open(cls, workspace: Path) -> "Identities":
        """With the key that is kept in the workspace, made at the first start.

        Raises:
          InputError: it cannot be read or written, or is no key.
        """
        path = workspace / _KEY
        if not path.exists():
            try:
                with atomic_path(path) as temporary:
                    temporary.touch(0o600)
                    temporary.write_bytes(secrets.token_bytes(_KEY_BYTES))
            except OSError as error:
                raise InputError(f"{path}: cannot be written ({reason(error)})") from error
        key = read_bytes(path, 4096)
        if len(key) != _KEY_BYTES:
            raise InputError(f"{path}: is not the key of a server; remove it, and every browser is a new user")
        return cls(key)

    def _sign(self, purpose: str, text: str) -> str:
        signature = hmac.digest(self._key, f"{purpose}:{text}".encode(), hashlib.sha256)
        return base64.urlsafe_b64encode(signature).decode().rstrip("=")

    def owner(self, kind: str, secret: str) -> str:
        """The owner of what a client sends.

        Args:
          kind: 'browser' or 'program'; equal secrets of the two are different owners.
          secret: the cookie's or the header's value.
        """
        return self._sign(kind, secret)

    def new_secret(self) -> str:
        """The value of a new browser's cookie."""
        text = secrets.token_urlsafe(24)
        return f"{text}.{self._sign('cookie', text)}"

    def knows(self, secret: str) -> bool:
        """Whether a cookie's value is one that `new_secret` made."""
        text, _, signature = secret.partition(".")
        return hmac.compare_digest(signature.encode(), self._sign("cookie", text).encode())

    def set_cookie(self, secret: str, secure: bool) -> str:
        """The value of the header Set-Cookie that gives a browser its secret for a year."""
        return _set_cookie(self.cookie, secret, secure) + f"; Max-Age={_YEAR}"

    # A browser that has shown the server's token is let in by a cookie, which ends with the browser.

    @property
    def token_cookie(self) -> str:
        """The name of the cookie of a browser that has shown the token."""
        return self.cookie.replace("client", "token")

    def token_secret(self, token: str) -> str:
        """The value of that cookie."""
        return self._sign("token", token)

    def set_token_cookie(self, token: str, secure: bool) -> str:
        """The value of the header Set-Cookie that lets a browser in."""
        return _set_cookie(self.token_cookie, self.token_secret(token), secure)


def _set_cookie(name: str, value: str, secure: bool) -> str:
    return f"{name}={value}; Path=/; HttpOnly; SameSite=Lax{'; Secure' if secure else ''}"


def owner_of(request: Any) -> str:
    """The owner of a request that the server has passed on.

    Args:
      request: a `gradio.Request` or a Starlette `Request`.
    """
    return request.headers[OWNER_HEADER]
