"""The page as a part of the server: its looks, and only those of Gradio's routes that it needs."""

import json
import re
from pathlib import Path
from typing import Any

import gradio
from fastapi import FastAPI
from starlette.datastructures import MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from champ_jax.app.settings import AppSettings

_ASSETS = Path(__file__).parents[1] / "assets" / "page"

ROUTES = re.compile(
    r"/|/(config|theme\.css|favicon\.ico|robots\.txt|manifest\.json)|/(assets|static|svelte)/[^?]*"
    r"|/gradio_api/(startup-events|info|queue/join|queue/data|run/predict|cancel|reset|heartbeat/[A-Za-z0-9]+)/?"
)
"""What the page asks for. Gradio has more: routes that take files and give those of its cache, that fetch other
addresses, and that edit the program."""

_BODY = 2**16  # bytes that a handler's inputs take, at most

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # Gradio's page begins with, and compiles, scripts
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
"""What browsers allow the page: nothing from other hosts."""


def mount_page(app: FastAPI, page: gradio.Blocks, settings: AppSettings) -> None:
    """Mounts the page at '/', after the routes that `app` has already.

    Files do not pass through Gradio, which would keep them where others could ask for them: the page sends them to the
    API, and has results from it.

    Args:
      app: the server.
      page: what `champ_jax.app.page.build_page` gave.
      settings: the server's.
    """
    script = (_ASSETS / "page.js").read_text()
    gradio.mount_gradio_app(
        app,
        page,
        path="/",
        server_name=settings.host,
        server_port=settings.port,
        footer_links=[],
        run_history=False,
        show_error=False,
        ssr_mode=False,
        mcp_server=False,
        enable_monitoring=False,
        pwa=False,
        theme=_theme(),
        css=(_ASSETS / "page.css").read_text(),
        head=f"<script>{script}</script>",
    )
    mount = app.router.routes[-1]
    assert isinstance(mount, Mount)
    mount.app = OnlyPage(mount.app)


class OnlyPage:
    """Gradio's program behind a door that lets through `ROUTES` alone, and gives every answer `POLICY`.

    What handlers are given must be texts, numbers and truth values: of objects Gradio makes files, some of which it
    fetches from addresses in them.
    """

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, as ASGI has it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/")) or "/"
        if not ROUTES.fullmatch(path):
            return await PlainTextResponse("Not Found", 404)(scope, receive, send)
        if scope["method"] == "POST":
            body = await _read(receive)
            if body is None or not _is_plain(body):
                return await PlainTextResponse("Bad Request", 400)(scope, receive, send)
            receive = _again(body, receive)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
            await send(message)

        await self._app(scope, receive, send_guarded)


async def _read(receive: Receive) -> bytes | None:
    """A request's body; None where it is too long, or breaks off."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] != "http.request" or len(body) > _BODY:
            return None
        if not message.get("more_body"):
            return body


def _again(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives a body that was read."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def _is_plain(body: bytes) -> bool:
    """Whether the inputs in a request to a handler are no objects and no lists."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return False
    inputs = value.get("data") if isinstance(value, dict) else None
    return inputs is None or (isinstance(inputs, list) and not any(isinstance(one, dict | list) for one in inputs))


def _theme() -> Any:
    """Gradio's own, with the fonts of the system: others would come from another host."""
    return gradio.themes.Default(
        primary_hue="indigo",
        neutral_hue="slate",
        radius_size="md",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    ).set(  # as dark, or light, as text must be to be read
        body_text_color_subdued="*neutral_500",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_500",
        block_info_text_color_dark="*neutral_400",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        block_label_text_color="*neutral_600",
        block_title_text_color="*neutral_700",
    )
