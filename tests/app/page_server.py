"""The page on a server of its own, with a worker that makes nothing but files of the right kinds."""

import json
import secrets
import sys
import threading
import time
from pathlib import Path

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import FileResponse

from champ_jax.app.page import build_page
from champ_jax.app.page_mount import mount_page
from champ_jax.app.service import NotFound, Service
from champ_jax.app.settings import AppSettings
from champ_jax.common.errors import InputError

WORKER = r"""
import json, sys, threading, time, zipfile
from pathlib import Path
import numpy as np
from PIL import Image
from champ_jax.common.videos import write_video

def say(**message):
    print(json.dumps(message), flush=True)

cancelled = set()
tasks = []
def listen():
    for line in sys.stdin:
        message = json.loads(line)
        if "cancel" in message:
            cancelled.add(message["cancel"])
        else:
            tasks.append(message)
    tasks.append(None)
threading.Thread(target=listen, daemon=True).start()

def frame(level, panel):
    image = np.full((64, 64, 3), 30 + 30 * panel, np.uint8)
    image[16:48, level:level + 8] = (240, 200, 160)
    return image

def make(task):
    id, folder, request = task["run"], Path(task["folder"]), task["request"]
    steps = request["steps"] or 4
    if request["seed"] == 13:
        say(job=id, kind="failed", about={"error": "width=64: the model needs multiples of 48", "field": "width"})
        return
    for step in range(steps):
        Image.fromarray(frame(step % 50, 5)).save(folder / f"preview_{step:04}.png")
        say(job=id, kind="progress", about={"stage": "denoise", "step": step + 1, "steps": steps,
            "seconds_left": 0.1 * (steps - step), "preview": f"preview_{step:04}.png"})
        time.sleep(0.1)
        if id in cancelled:
            say(job=id, kind="cancelled")
            return
    frames = [frame(i * 4, 5) for i in range(12)]
    panels = [np.concatenate([frame(i * 4, panel) for panel in range(6)], axis=1) for i in range(12)]
    write_video(folder / "animation.mp4", frames, 12)
    write_video(folder / "animation_comparison.mp4", panels, 12)
    with zipfile.ZipFile(folder / "frames.zip", "w") as archive:
        archive.writestr("0001.png", b"")
    config = {"conditions": ["depth", "normal", "semantic_map", "dwpose"], "fps": 12, "seed": request["seed"]}
    (folder / "animation.json").write_text(json.dumps({"config": config}))
    say(job=id, kind="done", about={})

while True:
    while not tasks:
        time.sleep(0.02)
    task = tasks.pop(0)
    if task is None:
        break
    make(task)
"""


class PageServer:
    """As a context manager; `url` is where it listens."""

    def __init__(self, workspace: Path, **settings):
        self.settings = AppSettings(workspace=workspace, port=0, **settings)

    def __enter__(self) -> "PageServer":
        self.service = Service(self.settings, worker=[sys.executable, "-c", WORKER])
        self.service.__enter__()
        server = uvicorn.Server(uvicorn.Config(self._app(), port=0, log_level="warning", ws="none"))
        self._server, self._thread = server, threading.Thread(target=server.run, daemon=True)
        self._thread.start()
        while not server.started:
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join()
        self.service.close()

    def _app(self) -> FastAPI:
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

        @app.middleware("http")
        async def know(request: Request, call_next):
            response = await call_next(request)
            if "owner" not in request.cookies:
                response.set_cookie("owner", secrets.token_hex(8), httponly=True, samesite="strict")
            return response

        @app.get("/api/jobs/{id}/result/{name}")
        def result(id: str, name: str, request: Request):
            return self._file(request, lambda owner: self.service.result(owner, id)[name])

        @app.get("/api/jobs/{id}/preview")
        def preview(id: str, request: Request):
            return self._file(request, lambda owner: self.service.preview(owner, id))

        mount_page(
            app, build_page(self.service, self.settings, lambda request: request.cookies["owner"]), self.settings
        )
        return app

    def _file(self, request: Request, find) -> FileResponse:
        try:
            return FileResponse(find(request.cookies.get("owner", "")))
        except (NotFound, InputError) as error:
            raise HTTPException(404, str(error)) from error


if __name__ == "__main__":  # to look at by hand
    with PageServer(Path(sys.argv[1])) as server:
        print(json.dumps(server.url), flush=True)
        time.sleep(float(sys.argv[2]))
