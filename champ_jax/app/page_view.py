"""The page's pieces of HTML: the drawing before the start, a job's progress, a result with its player, the gallery."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from champ_jax.app import addresses
from champ_jax.app.preview import BODY, DRIVING, PICTURE, Preview
from champ_jax.app.service import RESULTS, JobStatus
from champ_jax.app.store import CANCELLED, DONE, FAILED, QUEUED
from champ_jax.common.errors import InputError
from champ_jax.common.files import read_json

CAPTIONS = {
    PICTURE: "Picture",
    BODY: "Body over the picture",
    DRIVING: "Frame of the video",
    "depth": "Depth",
    "normal": "Normals",
    "semantic_map": "Body parts",
    "dwpose": "Skeleton",
    "animation": "Animation",
}
"""{image: what it is called under it}."""

DOWNLOADS = {
    "video": "Video (MP4)",
    "comparison": "Side by side (MP4)",
    "frames": "Frames (PNG in a zip)",
    "record": "Settings that repeat it (JSON)",
    "picture": "Picture as used (PNG)",
    "motion": "Motion as used (NPZ)",
}

_STATES = {"queued": "Waiting", "running": "Running", "done": "Done", "failed": "Failed", "cancelled": "Cancelled"}


def drawing(preview: Preview) -> str:
    """The drawing before the start: the body over the picture large, the maps small under it."""
    images = dict(preview.images)
    main = next(name for name in (BODY, DRIVING, PICTURE) if name in images)
    figures = [_figure(main, images.pop(main), "main")]
    if main == BODY:
        images.pop(PICTURE)
    figures += [_figure(name, image, "small") for name, image in images.items()]
    of = f" of {preview.frames}" if preview.frames else ""
    notes = "".join(f"<li>{escape(note)}</li>" for note in preview.notes)
    return f'<div class="drawing">{"".join(figures)}</div><p class="quiet">Frame {preview.frame}{of}</p>' + (
        f'<ul class="notes">{notes}</ul>' if notes else ""
    )


def _figure(name: str, image: np.ndarray, kind: str) -> str:
    caption, height, width = CAPTIONS[name], *image.shape[:2]
    return (
        f'<figure class="{kind}"><img src="{_data_url(image)}" width="{width}" height="{height}" alt="{caption}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _data_url(image: np.ndarray) -> str:
    """A picture in the page itself: nothing is left in a cache from which others could be given it."""
    data = io.BytesIO()
    Image.fromarray(image).save(data, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"


def progress(status: JobStatus) -> str:
    """A job's state, stage, step, time left or place in the queue, its notes and its error."""
    parts = [f'<span class="state {status.state}">{_STATES[status.state]}</span>', *_details(status)]
    lines = [f'<p class="line">{" ".join(parts)}</p>']
    if not status.is_finished:
        amount = ""
        if status.steps:
            amount = f' value="{status.step or 0}" max="{status.steps}"'
        elif status.state == QUEUED:
            amount = ' value="0" max="1"'
        lines.append(f'<progress aria-label="Progress of the animation"{amount}></progress>')
    if status.error is not None:
        lines.append(f'<p class="field-error" role="alert">{escape(status.error)}</p>')
    if status.notes:
        lines.append(f'<ul class="notes">{"".join(f"<li>{escape(note)}</li>" for note in status.notes)}</ul>')
    return "".join(lines)


def _details(status: JobStatus) -> list[str]:
    if status.state == QUEUED:
        ahead = (status.place or 1) - 1
        told = "next in the queue" if not ahead else f"place {status.place} in the queue"
        return [f"<span>{told}</span>"]
    if status.state == DONE and status.started and status.finished:
        return [f"<span>in {duration(status.finished - status.started)}</span>"]
    if status.is_finished:
        return []
    details = [f"<span>{escape(status.stage or 'starting')}</span>"]
    if status.steps:
        details.append(f"<span>{status.step or 0} of {status.steps}</span>")
    if status.seconds_left is not None:
        details.append(f"<span>about {duration(status.seconds_left)} left</span>")
    if status.attempts > 1:
        details.append(f"<span>attempt {status.attempts}</span>")
    return details


def duration(seconds: float) -> str:
    """Seconds as people say them: '8 s', '3 min 20 s', '2 h 5 min'."""
    whole = max(round(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s" if whole % 60 else f"{whole // 60} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def live(status: JobStatus) -> str:
    """The preview of a job that runs; '' while there is none."""
    if status.is_finished or status.preview is None:
        return ""
    source = addresses.preview(status.id, status.preview.stem)
    return (
        f'<figure class="live"><img src="{source}" alt="A frame of the animation as it stands">'
        "<figcaption>As it stands</figcaption></figure>"
    )


def result(status: JobStatus, files: Mapping[str, Path]) -> str:
    """A finished animation: the player, which shows inputs and animation in step, and what can be downloaded."""
    record = _record(files["record"])
    config = record.get("config", {})
    panels = [PICTURE, *config.get("conditions", ()), "animation"]
    shown = json.dumps([CAPTIONS.get(name, name) for name in panels])
    links = "".join(
        f'<li><a href="{addresses.result(status.id, name)}" download="{RESULTS[name]}">{label}</a></li>'
        for name, label in DOWNLOADS.items()
        if name in files
    )
    return (
        f'<champ-player comparison="{addresses.result(status.id, "comparison")}" fps="{config.get("fps") or 24}" '
        f'panels="{escape(shown)}"><video controls loop muted playsinline src="{addresses.result(status.id, "video")}">'
        f'</video></champ-player><ul class="downloads" aria-label="Downloads">{links}</ul>'
    )


def _record(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except InputError:  # of an older version, or removed while it is looked at
        return {}
    return found if isinstance(found, dict) else {}


def gallery(jobs: Sequence[JobStatus], current: str | None) -> str:
    """The user's jobs, newest first, as buttons."""
    if not jobs:
        return '<p class="quiet">Your animations will be kept here.</p>'
    return f'<ul class="gallery">{"".join(_card(job, job.id == current) for job in jobs)}</ul>'


def _card(job: JobStatus, current: bool) -> str:
    if job.state == DONE:
        picture = (
            f'<video src="{addresses.result(job.id, "video")}#t=0.1" preload="metadata" muted playsinline></video>'
        )
    else:
        picture = f'<span class="no-picture" aria-hidden="true">{_SIGNS.get(job.state, "…")}</span>'
    took = f" in {duration(job.finished - job.started)}" if job.state == DONE and job.started and job.finished else ""
    about = f"{_STATES[job.state]}{took}"
    marked = ' aria-current="true"' if current else ""
    return (
        f'<li><button type="button" data-job="{job.id}"{marked}>{picture}'
        f"<span>{about}</span><span>seed {job.request.seed}</span></button></li>"
    )


_SIGNS = {FAILED: "!", CANCELLED: "×"}
