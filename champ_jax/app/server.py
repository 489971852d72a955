"""The server: the door, the API and the page over one service; and how it is run from a terminal."""

import contextlib
import socket
import sys

import jax
import uvicorn
from fastapi import FastAPI

from champ_jax.app import addresses
from champ_jax.app.api import make_api
from champ_jax.app.gate import Gate
from champ_jax.app.identity import Identities
from champ_jax.app.page import build_page
from champ_jax.app.page_mount import mount_page
from champ_jax.app.service import Service
from champ_jax.app.settings import AppSettings
from champ_jax.common import children
from champ_jax.common.errors import InputError
from champ_jax.common.files import reason
from champ_jax.inference import batch, builtin
from champ_jax.inference.config import get_config

_BACKLOG = 128  # connections that wait to be taken
_CONNECTIONS = 512  # at once; more are told to come again
_IDLE_SECONDS = 30  # after which a connection without a request is closed
_CLOSE_SECONDS = 2  # that connections have to end after Ctrl-C: those that watch a job would stay


def make_app(service: Service, settings: AppSettings) -> Gate:
    """The whole server as an ASGI program, over a service that is open."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    app.mount(f"/{addresses.API}", make_api(service, settings))
    mount_page(app, build_page(service, settings), settings)
    return Gate(app, settings, Identities.open(settings.workspace))


def serve(settings: AppSettings) -> None:
    """Serves until Ctrl-C or a signal to end; the job that runs then is made by the next server.

    Raises:
      InputError: the weights cannot be used, the address or the port cannot be listened on, or the workspace cannot be
        written or is another server's.
    """
    check_weights(settings)
    environment = children.environment()
    # What this process draws is small, and the accelerator's memory is the worker's.
    jax.config.update("jax_platforms", "cpu")
    with listen(settings) as listener, Service(settings, environment=environment) as service:
        config = uvicorn.Config(
            make_app(service, settings),
            log_level="warning",
            access_log=False,
            ws="none",
            lifespan="on",
            server_header=False,
            backlog=_BACKLOG,
            limit_concurrency=_CONNECTIONS,
            timeout_keep_alive=_IDLE_SECONDS,
            timeout_graceful_shutdown=_CLOSE_SECONDS,
        )
        print(f"Champ is at {address(settings, listener.getsockname()[1])} (Ctrl-C ends it)", flush=True)
        if not settings.weights:
            print(builtin.NOTICE, file=sys.stderr)
        with contextlib.suppress(KeyboardInterrupt):  # Uvicorn raises it again when all has ended
            uvicorn.Server(config).run(sockets=[listener])


def check_weights(settings: AppSettings) -> None:
    """Raises InputError if the weights are not there or cannot be used; they are not loaded."""
    config = get_config()
    config.weights, config.untrained = settings.weights, settings.untrained
    batch.find_weights(config)


def listen(settings: AppSettings) -> socket.socket:
    """A socket that listens where the settings say.

    Raises:
      InputError: the host is not this machine's, or the port is taken or may not be used.
    """
    try:
        family, kind, number, _, place = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise InputError(f"--config.host={settings.host}: is not known ({reason(error)})") from error
    listener = socket.socket(family, kind, number)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise InputError(
            f"--config.port={settings.port}: cannot be listened on at {settings.host} ({reason(error)}); "
            "choose another port, or 0 for one that is free"
        ) from error
    return listener


def address(settings: AppSettings, port: int) -> str:
    """The address to open in a browser on this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{port}/"
