"""The page on a server of its own, with a worker that makes nothing but files of the right kinds."""

import sys
import threading
import time
from pathlib import Path

import uvicorn

from champ_jax.app.server import make_app
from champ_jax.app.service import Service
from champ_jax.app.settings import AppSettings

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
    pause = 1.0 if request["seed"] == 99 else 0.1
    if request["seed"] == 13:
        say(job=id, kind="failed", about={"error": "width=64: the model needs multiples of 48", "field": "width"})
        return
    for step in range(steps):
        Image.fromarray(frame(step % 50, 5)).save(folder / f"preview_{step:04}.png")
        say(job=id, kind="progress", about={"stage": "denoise", "step": step + 1, "steps": steps,
            "seconds_left": 0.1 * (steps - step), "preview": f"preview_{step:04}.png"})
        time.sleep(pause)
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
        program = make_app(self.service, self.settings)
        config = uvicorn.Config(
            program, port=0, log_level="warning", ws="none", lifespan="on", timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        self._server, self._thread = server, threading.Thread(target=server.run, daemon=True)
        self._thread.start()
        while not server.started:
            time.sleep(0.02)
        self.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join()
        self.service.close()
