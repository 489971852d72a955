"""The door of the server: what is let in, and whose it is, before anything else sees a request.

Browsers are made to ask on behalf of other sites' pages. Three checks keep those out: the name by which the server was
reached must be one of its own (DNS rebinding), a request that changes something must come from a page of this server
(cross-site request forgery), and the cookie that says whose things are meant is not sent along from other sites.
"""

import base64
import binascii
import hmac
import ipaddress
import re
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from champ_jax.app.identity import CLIENT_HEADER, CLIENT_RULE, OWNER_HEADER, Identities
from champ_jax.app.settings import AppSettings

_SAFE = ("GET", "HEAD", "OPTIONS")
_MULTIPART = 2**20  # bytes around an upload, at most: boundaries and names
_LOGIN = "/login"
_LOGIN_BYTES = 4096
_FORM = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Champ</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">
<style>body{font:1rem system-ui,sans-serif;max-width:24rem;margin:4rem auto;padding:0 1rem}
input,button{font:inherit;padding:.5rem;width:100%;box-sizing:border-box;margin:.5rem 0}</style>
<h1>Champ</h1><form method="post" action="login"><label for="token">Token</label>
<input id="token" name="token" type="password" required autofocus autocomplete="current-password">
<button>Open</button></form>"""


class TooLarge(Exception):
    """A request's body is longer than the server takes."""


class Gate:
    """The server behind its door, as an ASGI program."""

    def __init__(self, app: ASGIApp, settings: AppSettings, identities: Identities):
        """
        Args:
          app: what is let see the requests.
          settings: the server's names, secrets and limits.
          identities: knows the secrets of browsers and programs.
        """
        self._app, self._settings, self._identities = app, settings, identities
        self._limit = settings.max_upload_mib * 2**20 + _MULTIPART

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or lets it in."""
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":  # there are no WebSockets here
            return await send({"type": "websocket.close", "code": 1008})
        headers = Headers(scope=scope)
        answer = self._refusal(scope, headers) or await self._unauthorized(scope, headers, receive)
        if answer is not None:
            return await answer(scope, receive, send)
        cookies = cookie_parser(headers.get("cookie", ""))
        secret, fresh = headers.get(CLIENT_HEADER), None
        if secret is not None:
            if not CLIENT_RULE.fullmatch(secret):
                line = f"{CLIENT_HEADER}: must be 16 to 200 printable ASCII characters without spaces, made at random"
                return await refuse(400, line)(scope, receive, send)
            owner = self._identities.owner("program", secret)
        else:
            known = cookies.get(self._identities.cookie, "")
            if not self._identities.knows(known):
                known = fresh = self._identities.new_secret()
            owner = self._identities.owner("browser", known)
        passed = [(name, value) for name, value in scope["headers"] if name.lower() != OWNER_HEADER.encode()]
        scope = {**scope, "headers": [*passed, (OWNER_HEADER.encode(), owner.encode())]}
        started = False

        async def send_marked(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                marked = MutableHeaders(scope=message)
                marked.setdefault("X-Content-Type-Options", "nosniff")
                marked.setdefault("X-Frame-Options", "DENY")
                marked.setdefault("Referrer-Policy", "same-origin")
                if fresh is not None:
                    marked.append("Set-Cookie", self._identities.set_cookie(fresh, scope["scheme"] == "https"))
            await send(message)

        try:
            await self._app(scope, limited(receive, self._limit), send_marked)
        except TooLarge:
            if started:
                raise
            await self._too_large()(scope, receive, send_marked)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """The answer to what another site may have caused, or to what is too long; None lets it go on."""
        host = headers.get("host", "")
        if not self._is_own(host):
            return refuse(421, f"{host[:80]}: is not a name of this server; start it with --config.names=NAME")
        if scope["method"] not in _SAFE:
            origin, site = headers.get("origin"), headers.get("sec-fetch-site")
            # Programs send neither of the headers, and no browser leaves out both.
            if (origin is not None and urlsplit(origin).netloc.lower() != host.lower()) or site == "cross-site":
                return refuse(403, f"{(origin or 'another site')[:80]}: a page of another site may not change things")
        length = headers.get("content-length", "0")
        if not re.fullmatch("[0-9]{1,18}", length):
            return refuse(400, "Content-Length: is no number")
        if int(length) > self._limit:
            return self._too_large()
        return None

    def _too_large(self) -> Response:
        line = f"the request is larger than the {self._settings.max_upload_mib} MiB that this server takes"
        return refuse(413, line, {"Connection": "close"})

    def _is_own(self, host: str) -> bool:
        """Whether a header Host names this server. Addresses are, since no site can give them to another machine."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        except ValueError:
            return False
        if name == "localhost" or name.endswith(".localhost") or name in self._settings.names:
            return True
        if name == self._settings.host.lower():
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    # Secrets

    async def _unauthorized(self, scope: Scope, headers: Headers, receive: Receive) -> Response | None:
        """The answer to one who may not use the server; None lets it go on."""
        settings = self._settings
        if not settings.protected:
            return None
        if settings.token and scope["path"] == _LOGIN and scope["method"] == "POST":
            return await self._log_in(scope, receive)
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and settings.token and _equal(given.strip(), settings.token):
            return None
        if kind.lower() == "basic" and settings.user:
            user, _, password = _decoded(given).partition(":")
            # Both are compared, so that the time does not tell which is wrong.
            if _equal(user, settings.user) & _equal(password, settings.password):
                return None
        if settings.token:
            shown = cookie_parser(headers.get("cookie", "")).get(self._identities.token_cookie, "")
            if _equal(shown, self._identities.token_secret(settings.token)):
                return None
        asked = {"WWW-Authenticate": 'Basic realm="Champ", charset="UTF-8"' if settings.user else "Bearer"}
        if settings.token and not settings.user and scope["path"] == "/" and scope["method"] == "GET":
            return HTMLResponse(
                _FORM, 401, {**asked, "Content-Security-Policy": _FORM_POLICY, "Cache-Control": "no-store"}
            )
        return refuse(401, "give the server's token (Authorization: Bearer TOKEN) or user and password", asked)

    async def _log_in(self, scope: Scope, receive: Receive) -> Response:
        """Gives a browser that sends the token the cookie that lets it in, and shows it the page."""
        body = b""
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return refuse(400, "the request ended early")
            body += message.get("body", b"")
            if len(body) > _LOGIN_BYTES:
                return refuse(413, "the request is too large", {"Connection": "close"})
            if not message.get("more_body"):
                break
        given = parse_qs(body.decode("utf-8", "replace")).get("token", [""])[0]
        if not _equal(given, self._settings.token):
            return HTMLResponse(
                _FORM.replace("</form>", '<p role="alert">This is not the token.</p></form>'),
                401,
                {"WWW-Authenticate": "Bearer", "Content-Security-Policy": _FORM_POLICY, "Cache-Control": "no-store"},
            )
        answer = RedirectResponse(".", 303)
        answer.headers.append(
            "Set-Cookie", self._identities.set_token_cookie(self._settings.token, scope["scheme"] == "https")
        )
        return answer


_FORM_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'"


def refuse(status: int, error: str, headers: dict[str, str] | None = None, field: str | None = None) -> Response:
    """The answer of all errors: JSON of the line, and of the request's field that it concerns."""
    return JSONResponse({"error": error, "field": field}, status, {"Cache-Control": "no-store", **(headers or {})})


def limited(receive: Receive, limit: int) -> Receive:
    """`receive`, which raises TooLarge when more than `limit` bytes of a body have come."""
    size = 0

    async def receive_counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            raise TooLarge
        return message

    return receive_counted


def _equal(given: str, secret: str) -> bool:
    """Whether two texts are equal, in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode())


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        return ""
