"""A server whose worker is a stand-in that makes files at once, and clients of it."""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from champ_jax.app.server import make_app
from champ_jax.app.service import JobStatus, Service
from champ_jax.app.settings import AppSettings

ALICE, BOB = "alice-0123456789abcdef", "bob-0123456789abcdef"
REFERENCE = Path(__file__).parents[2] / "champ_jax" / "assets" / "people" / "p00012_m00012" / "reference.png"

# What a request's seed has the stand-in do; other seeds give a result that says the seed.
WAITS, DIES, FAILS, DIES_ONCE, IGNORES_CANCEL = 1001, 1002, 1003, 1004, 1005

STAND_IN = f"""
import json, os, pathlib, sys, threading, time
cancelled, lines = set(), []
def say(job, kind, **more):
    print(json.dumps({{"job": job, "kind": kind, **more}}), flush=True)
def read():
    for line in sys.stdin:
        command = json.loads(line)
        cancelled.add(command["cancel"]) if "cancel" in command else lines.append(command)
    os._exit(0)
threading.Thread(target=read, daemon=True).start()
print("a line of a library", flush=True)
while True:
    time.sleep(0.005)
    if not lines:
        continue
    task = lines.pop(0)
    job, folder, seed = task["run"], pathlib.Path(task["folder"]), task["request"]["seed"]
    say(job, "progress", about={{"stage": "denoise", "step": 1, "steps": 2, "seconds_left": 3.5}})
    (folder / "preview-1.png").write_bytes(b"a picture")
    say(job, "progress", about={{"preview": "preview-1.png", "notes": ["a note"]}})
    if seed == {DIES}:
        os._exit(3)
    if seed == {DIES_ONCE} and not (folder.parent.parent / "died").exists():
        (folder.parent.parent / "died").touch()
        os.kill(os.getpid(), 9)
    if seed == {FAILS}:
        say(job, "failed", about={{"error": "motion=x: is not good", "field": "motion"}})
        continue
    while seed in ({WAITS}, {IGNORES_CANCEL}) and not (job in cancelled and seed == {WAITS}):
        time.sleep(0.005)
    if job in cancelled:
        say(job, "cancelled")
        continue
    for name in ("animation.mp4", "animation_comparison.mp4", "frames.zip", "animation.json"):
        (folder / name).write_text(json.dumps([name, seed, os.getpid()]))
    say(job, "done", about={{"stage": None, "step": None, "steps": None}})
"""


def settings(folder: Path, **changes: Any) -> AppSettings:
    """A server's settings with its workspace in a folder."""
    return AppSettings(**({"workspace": folder / "workspace"} | changes))


@contextlib.contextmanager
def service(folder: Path, **changes: Any) -> Iterator[Service]:
    """A service with the stand-in as its worker."""
    with Service(settings(folder, **changes), worker=[sys.executable, "-c", STAND_IN]) as opened:
        yield opened


@contextlib.contextmanager
def client(folder: Path, **changes: Any) -> Iterator[TestClient]:
    """A program's client of the whole server; its `app_state` is the service."""
    with service(folder, **changes) as opened:
        app = make_app(opened, opened.settings)
        with TestClient(app, base_url="http://127.0.0.1:7860", headers={"X-Champ-Client": ALICE}) as made:
            made.app_state["service"] = opened
            yield made


def wait(opened: Service, owner: str, id: str, *states: str, seconds: float = 20.0) -> JobStatus:
    """A job when it has come to one of the states, or has ended."""
    end = time.monotonic() + seconds
    while True:
        status = opened.status(owner, id)
        if status.state in states or (status.is_finished and not states):
            return status
        assert not status.is_finished, status
        assert time.monotonic() < end, status
        time.sleep(0.01)


def wait_for(made: TestClient, id: str, *states: str, seconds: float = 20.0) -> dict[str, Any]:
    """The same through the API."""
    end = time.monotonic() + seconds
    while True:
        status = made.get(f"/api/v1/jobs/{id}").json()
        ended = status["state"] in ("done", "failed", "cancelled")
        if status["state"] in states or (ended and not states):
            return status
        assert not ended, status
        assert time.monotonic() < end, status
        time.sleep(0.01)


def events(text: str) -> list[tuple[int, dict[str, Any]]]:
    """(number, job) of server-sent events."""
    parts = [dict(line.split(": ", 1) for line in part.splitlines()) for part in text.split("\n\n") if "id: " in part]
    return [(int(part["id"]), json.loads(part["data"])) for part in parts]
