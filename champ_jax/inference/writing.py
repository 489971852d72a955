"""Writes the outputs of an animation while its frames are decoded, all of them or none, and its record."""

import contextlib
import importlib.metadata
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path
from champ_jax.common.pictures import resize_image, write_image
from champ_jax.common.progress import Progress
from champ_jax.common.videos import VideoWriter
from champ_jax.conditions.protocol import Conditions
from champ_jax.inference.pipeline import ChampPipeline
from champ_jax.inference.result import Animation
from champ_jax.inference.settings import MAX_SIDE, Settings
from champ_jax.inference.stages import to_bytes

PANEL_HEIGHT = 512  # largest height of the side-by-side video


class OutputWriter:
    """The outputs of one animation. They are written beside their places, and renamed to them when the block succeeds.

    A run that is killed while the files take their places leaves no record, so that it never passes for finished.
    """

    def __init__(
        self,
        paths: Mapping[str, Path],
        picture: np.ndarray,
        motion: Conditions,
        animation: Animation,
        video_size: tuple[int, int] | None,
    ):
        """
        Args:
          paths: {kind: path} of 'video' and 'record', and of 'comparison', 'frames', 'latents' where wanted.
          picture: (H, W, 3) uint8, for the comparison.
          motion: the conditions, for the comparison.
          animation: what is written.
          video_size: (width, height) of the video and the frames; None leaves the animation's.
        """
        self._paths, self._picture, self._motion, self._animation = paths, picture, motion, animation
        self._video_size = video_size
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "OutputWriter":
        with contextlib.ExitStack() as stack:
            # The record is entered first, so that it takes its place last.
            self._temporary = {
                kind: stack.enter_context(atomic_path(self._paths[kind], folder=kind == "frames"))
                for kind in reversed(list(self._paths))
            }
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        if kind is None:
            self._paths["record"].unlink(missing_ok=True)
        return self._stack.__exit__(kind, error, traceback)

    def write(self) -> None:
        """Decodes the animation and writes everything but the record.

        Raises:
          InputError: the disk is full.
        """
        try:
            self._write()
        except InputError as error:
            message = str(error)
            for kind, temporary in self._temporary.items():
                message = message.replace(str(temporary), str(self._paths[kind]))
            raise InputError(message) from error

    def _write(self) -> None:
        if latents := self._temporary.get("latents"):
            with open(latents, "wb") as file:
                np.save(file, np.asarray(self._animation.latents))
        if folder := self._temporary.get("frames"):
            folder.mkdir()
        with contextlib.ExitStack() as stack:
            video = stack.enter_context(VideoWriter(self._temporary["video"], self._animation.fps))
            comparison = None
            if "comparison" in self._temporary:
                comparison = stack.enter_context(VideoWriter(self._temporary["comparison"], self._animation.fps))
                picture = resize_image(self._picture, self._animation.size, "lanczos")
            done = 0
            for chunk in self._animation.decode():
                conditions = self._motion.read(done, done + len(chunk), self._animation.size) if comparison else {}
                for index, frame in enumerate(to_bytes(chunk)):
                    if comparison:
                        maps = [conditions[name][index] for name in self._motion.conditions]
                        comparison.write(_side_by_side([picture, *maps, frame]))
                    fitted = frame if self._video_size is None else resize_image(frame, self._video_size, "lanczos")
                    video.write(fitted)
                    if folder:
                        write_image(folder / f"{done + index + 1:04}.png", fitted)
                done += len(chunk)

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Writes the record beside its place."""
        self._temporary["record"].write_text(json.dumps(record, indent=1) + "\n")


def run_record(
    pipeline: ChampPipeline, settings: Settings, paths: Mapping[str, Path], progress: Progress
) -> dict[str, Any]:
    """What the record says of a run itself: seed, versions, device, outputs, seconds of each stage."""
    device = pipeline.devices[0]
    return {
        "seed": settings.seed,
        "versions": versions(),
        "device": {"platform": device.platform, "kind": device.device_kind, "count": len(pipeline.devices)},
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "outputs": {kind: str(path) for kind, path in paths.items()},
        "seconds": {stage: round(seconds, 3) for stage, seconds in progress.seconds.items()},
    }


def versions() -> dict[str, str]:
    """Versions of what the result depends on."""
    names = ("champ_jax", "jax", "jaxlib", "flax", "numpy", "pillow", "av")
    known = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            known[name] = importlib.metadata.version(name)
    return known


def _side_by_side(panels: list[np.ndarray]) -> np.ndarray:
    """Pictures of one size in a row, no higher than PANEL_HEIGHT and no wider than a video can be."""
    height, width = panels[0].shape[:2]
    shrink = min(PANEL_HEIGHT / height, (MAX_SIDE // len(panels)) / width)
    if shrink < 1:
        size = max(round(width * shrink), 1), max(round(height * shrink), 1)
        panels = [resize_image(panel, size) for panel in panels]
    return np.concatenate(panels, axis=1)
