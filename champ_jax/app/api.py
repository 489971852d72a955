"""The JSON API, below /api/v1: uploads, jobs, their events and results. docs/app.md describes it for its users.

Every error is `{"error": line, "field": name or null}`, with the line that the command prints.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import TypeAdapter
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response, StreamingResponse

from champ_jax import __version__
from champ_jax.app import addresses
from champ_jax.app.api_page import api_page
from champ_jax.app.gate import TooLarge, refuse
from champ_jax.app.identity import CLIENT_HEADER, owner_of
from champ_jax.app.request import AnimationRequest, FieldError, built_in_motions, built_in_pictures
from champ_jax.app.service import Conflict, Event, JobStatus, NotFound, QueueFull, Service
from champ_jax.app.settings import AppSettings
from champ_jax.app.uploads import UploadTooLarge
from champ_jax.common.errors import InputError
from champ_jax.common.files import parse_json

_JSON_BYTES = 2**20
_SILENT_SECONDS = 60.0  # after which an upload that sends nothing is given up
_UPLOADS_AT_ONCE = 8  # each holds a thread
_POLL = 0.2  # seconds between two looks for a job's events
_ALIVE_SECONDS = 15.0  # after which a line is sent to a client that waits, so that proxies keep the connection

STATUSES: dict[type[InputError], int] = {NotFound: 404, QueueFull: 429, Conflict: 409, UploadTooLarge: 413}
"""{error: status of HTTP}; other inputs that cannot be used are 422."""

TYPES = {".mp4": "video/mp4", ".zip": "application/zip", ".json": "application/json", ".png": "image/png"}

_Handler = Callable[..., Awaitable[Response]]


def make_api(service: Service, settings: AppSettings) -> FastAPI:
    """The API as an ASGI program, to be mounted behind the door (`champ_jax.app.gate`)."""
    api = FastAPI(
        title="Champ",
        version=__version__,
        description=f"Animates a picture of a person with a body motion. A program says with the header "
        f"`{CLIENT_HEADER}`, a secret that it makes up, whose uploads and jobs are meant; a browser by its cookie. "
        'Every error is `{"error": line, "field": name or null}`.',
        docs_url=None,
        redoc_url=None,
    )
    limiter = anyio.CapacityLimiter(_UPLOADS_AT_ONCE)
    _add_errors(api)

    @api.get("/about", tags=["server"])
    async def about() -> JSONResponse:
        """The version, the pictures and motions in the package, and this server's limits."""
        limits = (
            *("max_upload_mib", "max_picture_pixels", "max_video_pixels", "max_frames", "max_driving_frames"),
            *("max_steps", "job_timeout", "queue_length", "results_kept", "uploads_kept"),
        )
        return JSONResponse(
            {
                "version": __version__,
                "references": list(built_in_pictures()),
                "motions": list(built_in_motions()),
                "limits": {name: getattr(settings, name) for name in limits},
            }
        )

    @api.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(
            api_page(api.openapi(), f"/{addresses.API}"),
            headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )

    # Uploads

    @api.post("/uploads", status_code=201, tags=["uploads"], openapi_extra=_FILE)
    async def upload(request: Request, name: str = "") -> JSONResponse:
        """Sends a picture, a motion.npz, a motion folder as zip, or a driving video: the body is the file. The ending
        of `name` says what it is. Requests name the upload by its `id`."""
        if not name:
            raise FieldError("name: is missing; add ?name=FILE to the address", "name")
        body = _Body(request)
        async with limiter:
            kept = await anyio.to_thread.run_sync(service.upload, owner_of(request), name, body)
        return JSONResponse(kept.to_json(), 201)

    @api.get("/uploads", tags=["uploads"])
    async def uploads(request: Request) -> JSONResponse:
        """Your uploads, newest first. The oldest are removed when there are more than `limits.uploads_kept`."""
        return JSONResponse({"uploads": [kept.to_json() for kept in service.uploads(owner_of(request))]})

    @api.delete("/uploads/{id}", status_code=204, tags=["uploads"])
    async def remove_upload(request: Request, id: str) -> Response:
        """Removes an upload that no job which waits or runs needs."""
        service.remove_upload(owner_of(request), id)
        return Response(status_code=204)

    # Jobs

    @api.post("/jobs", status_code=201, tags=["jobs"], openapi_extra=_REQUEST)
    async def submit(request: Request) -> JSONResponse:
        """Queues an animation. All fields may be left out. A second request with the same `Idempotency-Key` (a header,
        or the field `key`) is the same job, so that a client may repeat what it got no answer to."""
        value = parse_json((await _short_body(request)).decode("utf-8", "replace") or "{}", "request")
        key = request.headers.get("idempotency-key")
        if isinstance(value, dict) and "key" in value:
            given = value.pop("key")
            if not isinstance(given, str) or key not in (None, given):
                raise FieldError("key: expected a text, and the same as in the header Idempotency-Key", "key")
            key = given
        owner = owner_of(request)
        id = service.submit(owner, AnimationRequest.from_json(value), key)
        return JSONResponse(_job(service.status(owner, id), service), 201, {"Location": f"/{addresses.job(id)}"})

    @api.get("/jobs", tags=["jobs"])
    async def jobs(request: Request) -> JSONResponse:
        """Your jobs, newest first. The oldest that have ended are removed when there are more than
        `limits.results_kept`."""
        return JSONResponse({"jobs": [_job(status, service) for status in service.list(owner_of(request))]})

    @api.get("/jobs/{id}", tags=["jobs"])
    async def job(request: Request, id: str) -> JSONResponse:
        """A job as it stands: its `state` is queued, running, done, failed or cancelled."""
        return JSONResponse(_job(service.status(owner_of(request), id), service))

    @api.get("/jobs/{id}/events", tags=["jobs"])
    async def events(request: Request, id: str, after: int = 0) -> Response:
        """The job's changes as server-sent events, until it has ended; each has a number as its `id` and the job as
        its data. `Last-Event-ID` (a header), or `after`, leaves out those that were seen."""
        last = request.headers.get("last-event-id", str(after))
        if not (last.isascii() and last.isdecimal() and len(last) <= 18):
            raise FieldError(f"after={last[:40]}: expected the number of an event", "after")
        owner = owner_of(request)
        service.status(owner, id)
        return StreamingResponse(
            _stream(service, owner, id, int(last)),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
        )

    @api.post("/jobs/{id}/cancel", tags=["jobs"])
    async def cancel(request: Request, id: str) -> JSONResponse:
        """Cancels a job that waits or runs; one that has ended stays as it is."""
        return JSONResponse(_job(service.cancel(owner_of(request), id), service))

    @api.delete("/jobs/{id}", status_code=204, tags=["jobs"])
    async def remove(request: Request, id: str) -> Response:
        """Removes a job that has ended, with its results."""
        service.remove(owner_of(request), id)
        return Response(status_code=204)

    @api.get("/jobs/{id}/preview", tags=["results"], response_class=FileResponse, responses=_file("image/png"))
    async def preview(request: Request, id: str) -> FileResponse:
        """A frame of the video as it stands (PNG)."""
        path = service.preview(owner_of(request), id)
        return FileResponse(path, media_type="image/png", headers={"Cache-Control": "private, no-cache"})

    @api.get("/jobs/{id}/results/{name}", tags=["results"], response_class=FileResponse, responses=_file())
    async def result(request: Request, id: str, name: str, download: bool = False) -> FileResponse:
        """A file of a job that is done, by its name in the job's `results`. `download=true` has browsers keep it."""
        files = service.result(owner_of(request), id)
        if name not in files:
            raise NotFound(f"{name[:40]}: there is no such result; there are {', '.join(files)}", "name")
        path = files[name]
        return FileResponse(
            path,
            filename=path.name,
            media_type=TYPES.get(path.suffix, "application/octet-stream"),
            content_disposition_type="attachment" if download else "inline",
            headers={
                "Cache-Control": "private, max-age=3600",
                "Content-Security-Policy": "default-src 'none'; sandbox",
            },
        )

    return api


def _add_errors(api: FastAPI) -> None:
    async def unusable(_: Request, error: Exception) -> Response:
        field, status = getattr(error, "field", None), STATUSES.get(type(error), 422)  # type: ignore[arg-type]
        return refuse(status, str(error), field=field)

    async def no_such(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return refuse(error.status_code, str(error.detail), dict(error.headers or {}))

    async def malformed(_: Request, error: Exception) -> Response:
        """An address whose parameters are of another type."""
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        field = str(first["loc"][-1])
        return refuse(422, f"{field}: {first['msg']}", field=field)

    async def broken(_: Request, error: Exception) -> Response:
        return refuse(500, "the server failed; its log says more")

    api.add_exception_handler(InputError, unusable)
    api.add_exception_handler(HTTPException, no_such)
    api.add_exception_handler(RequestValidationError, malformed)
    api.add_exception_handler(Exception, broken)


class _Body:
    """A request's body as a file to read, in a thread, while it comes: no more than a part of it is in memory."""

    def __init__(self, request: Request):
        self._parts = request.stream()

    def read(self, size: int, /) -> bytes:
        """The next part, of any size; b'' at the end.

        Raises:
          InputError: nothing comes any more.
        """
        return anyio.from_thread.run(self._next)

    async def _next(self) -> bytes:
        try:
            with anyio.fail_after(_SILENT_SECONDS):
                async for part in self._parts:
                    if part:
                        return part
        except TooLarge as error:
            raise UploadTooLarge("the file is larger than this server takes; make it smaller") from error
        except (TimeoutError, ClientDisconnect) as error:
            raise InputError("the upload ended early; send the file again") from error
        return b""


async def _short_body(request: Request) -> bytes:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _JSON_BYTES:
            raise UploadTooLarge("the request is larger than any can be; send files as uploads")
    return body


async def _stream(service: Service, owner: str, id: str, after: int) -> AsyncIterator[str]:
    """The events of a job after a number, as the lines of server-sent events."""
    silent = 0.0
    while True:
        try:
            new = service.events(owner, id, after)
        except NotFound:  # removed meanwhile
            return
        for event in new:
            yield _event(event, service)
            after = event.number
            if event.status.is_finished:
                return
        if not new and service.status(owner, id).is_finished:
            return  # nothing comes after what the client has seen
        silent = 0.0 if new else silent + _POLL
        if silent >= _ALIVE_SECONDS:
            silent = 0.0
            yield ": alive\n\n"
        await asyncio.sleep(_POLL)


def _event(event: Event, service: Service) -> str:
    return f"id: {event.number}\nevent: status\ndata: {json.dumps(_job(event.status, service))}\n\n"


def _job(status: JobStatus, service: Service) -> dict[str, Any]:
    """What the API says of a job: paths are addresses."""
    preview = None if status.preview is None else f"/{addresses.preview(status.id, status.preview.stem)}"
    results = {name: f"/{addresses.result(status.id, name)}" for name in service.result_names(status)}
    return {
        "id": status.id,
        "state": status.state,
        "request": status.request.to_json(),
        "place": status.place,
        "stage": status.stage,
        "step": status.step,
        "steps": status.steps,
        "seconds_left": status.seconds_left,
        "preview": preview,
        "results": results,
        "error": status.error,
        "field": status.field,
        "notes": list(status.notes),
        "attempts": status.attempts,
        "created": status.created,
        "started": status.started,
        "finished": status.finished,
    }


def _inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without references to definitions, which OpenAPI keeps elsewhere."""
    definitions = schema.pop("$defs", {})

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            if "$ref" in node:
                rest = {name: value for name, value in node.items() if name != "$ref"}
                return walk(definitions[node["$ref"].rsplit("/", 1)[-1]]) | rest
            return {name: walk(value) for name, value in node.items()}
        return [walk(item) for item in node] if isinstance(node, list) else node

    return walk(schema)


def _file(type: str = "application/octet-stream") -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {type: {"schema": {"type": "string", "format": "binary"}}}}}


_REQUEST = {
    "requestBody": {
        "content": {"application/json": {"schema": _inlined(TypeAdapter(AnimationRequest).json_schema())}},
        "required": False,
    },
    "parameters": [
        {"name": "Idempotency-Key", "in": "header", "required": False, "schema": {"type": "string", "maxLength": 200}}
    ],
}
_FILE = {
    "requestBody": {
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
        "required": True,
    }
}
