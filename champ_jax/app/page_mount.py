"""The page as a part of the server: its looks, and only those of Gradio's routes that it needs."""

import os
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
    r"|/gradio_api/(startup-events|info|queue/join|queue/data|run/predict|upload|upload_progress|cancel|reset"
    r"|heartbeat/[A-Za-z0-9]+)/?"
)
"""What the page asks for. Gradio has more: routes that give files of its cache, that fetch other addresses, and that
edit the program."""

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

    Gradio's files, which are what browsers are just sending, lie in the server's private temporary folder.

    Args:
      app: the server.
      page: what `champ_jax.app.page.build_page` gave.
      settings: the server's.
    """
    os.environ["GRADIO_TEMP_DIR"] = str(settings.workspace / "temporary" / "page")
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
        max_file_size=settings.max_upload_mib * 2**20,
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
    """Gradio's program behind a door that lets through `ROUTES` alone, and gives every answer `POLICY`."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, as ASGI has it."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/")) or "/"
        if not ROUTES.fullmatch(path):
            return await PlainTextResponse("Not Found", 404)(scope, receive, send)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["Content-Security-Policy"] = POLICY
            await send(message)

        await self._app(scope, receive, send_guarded)


def _theme() -> Any:
    """Gradio's own, with the fonts of the system: others would come from another host."""
    return gradio.themes.Default(
        primary_hue="indigo",
        neutral_hue="slate",
        radius_size="md",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
