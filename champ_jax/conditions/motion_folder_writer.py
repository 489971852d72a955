"""Writes rendered conditions as a motion folder, {condition}/NNNN.png from 0001, and a video to look at."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from champ_jax.common.errors import InputError
from champ_jax.common.files import write_json
from champ_jax.common.outputs import folder_with
from champ_jax.common.pictures import read_image, write_image
from champ_jax.common.videos import VideoWriter
from champ_jax.conditions.motion_folder import RECORD, read_record
from champ_jax.conditions.preview import preview
from champ_jax.conditions.rendered_motion import RENDERED, RenderedMotion

OVERVIEW = "overview.mp4"
_PANEL_HEIGHT = 512
_DEFAULT_FPS = 24.0
_WRITERS = 4


def write_motion_folder(rendered: RenderedMotion, folder: str | os.PathLike) -> int:
    """Draws the frames that `folder` lacks, so that an interrupted run resumes where it was.

    Each picture appears whole or not at all. `render.json` says of what the pictures are: a folder that holds others
    is refused.

    Returns:
      How many frames were drawn.

    Raises:
      InputError: the folder holds pictures of something else, cannot be written, or the disk is full.
    """
    folder = Path(folder)
    _require_same(folder, rendered)
    missing = [
        index
        for index in range(len(rendered))
        if not all(_file(folder, name, index).is_file() for name in rendered.conditions)
    ]
    if missing:
        rendered[missing[0]]  # a motion that cannot be drawn leaves nothing behind
    if not (folder / RECORD).is_file():
        write_json(folder / RECORD, _record(rendered), indent=2)
    with (
        ThreadPoolExecutor(_WRITERS) as pool,
        tqdm(total=len(rendered), initial=len(rendered) - len(missing), desc="render", unit="frame") as bar,
    ):
        for start in range(0, len(missing), _WRITERS):
            indices = missing[start : start + _WRITERS]
            frames = [(index, rendered[index]) for index in indices]
            pictures = [(_file(folder, name, index), image) for index, frame in frames for name, image in frame.items()]
            for _ in pool.map(lambda picture: write_image(*picture), pictures):
                pass
            bar.update(len(indices))
    return len(missing)


def write_overview(folder: str | os.PathLike, rendered: RenderedMotion, picture: np.ndarray | None = None) -> Path:
    """Writes `overview.mp4` from a finished motion folder: the shaded body, then each condition, side by side.

    Args:
      picture: (h, w, 3) uint8 to show the shaded body over, resized to the frames.
    """
    path = Path(folder) / OVERVIEW
    width, height = rendered.image_size
    panel = max(round(width * min(1, _PANEL_HEIGHT / height)), 1), min(height, _PANEL_HEIGHT)
    if picture is not None:
        picture = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))
    with VideoWriter(path, rendered.fps or _DEFAULT_FPS) as writer:
        for index in tqdm(range(len(rendered)), desc="overview", unit="frame"):
            panels = [read_image(_file(Path(folder), name, index)) for name in rendered.conditions]
            if "normal" in rendered.conditions:
                panels.insert(0, preview(panels[rendered.conditions.index("normal")], picture))
            resized = [np.asarray(Image.fromarray(image).resize(panel, Image.Resampling.BOX)) for image in panels]
            writer.write(np.concatenate(resized, axis=1))
    return path


def _file(folder: Path, condition: str, index: int) -> Path:
    return folder / condition / f"{index + 1:04}.png"


def _record(rendered: RenderedMotion) -> dict[str, Any]:
    """What a folder says of its pictures."""
    return {
        "fingerprint": rendered.fingerprint,
        "frames": len(rendered),
        "image_size": list(rendered.image_size),
        "conditions": list(rendered.conditions),
        "fps": rendered.fps,
    }


def _require_same(folder: Path, rendered: RenderedMotion) -> None:
    """Refuses a folder that holds pictures of something else, or that this program did not draw."""
    if not (folder / RECORD).is_file():
        pictures = [name for name in rendered.conditions if any((folder / name).glob("*.png"))]
        if pictures:
            raise InputError(
                f"{folder}: holds pictures in {pictures[0]}/ that were not drawn by this program; name another output"
            )
    elif read_record(folder).get("fingerprint") != rendered.fingerprint:
        raise InputError(
            f"{folder}: holds the maps of another motion, body, size or backend ({RECORD}); name another output or "
            "remove the folder"
        )


def _may_be_continued(folder: Path) -> bool:
    """Whether pictures may be drawn into a folder: it has a record of this program, or nothing of a record's names."""
    return (folder / RECORD).is_file() or not any((folder / name).exists() for name in (*RENDERED, OVERVIEW, RECORD))


MOTION_FOLDER = folder_with("a motion folder that this program draws", _may_be_continued)
"""The kind of output that `write_motion_folder` writes."""
