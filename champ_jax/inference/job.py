"""One animation from files to files: inputs opened and checked, the pipeline run, outputs and a record written."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import re
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from champ_jax.body.motion import Motion
from champ_jax.body.smpl import load_body
from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path
from champ_jax.common.limits import require_space
from champ_jax.common.pictures import read_image, resize_image, write_image
from champ_jax.common.progress import Progress
from champ_jax.common.videos import VIDEO_SUFFIXES, VideoWriter
from champ_jax.conditions.mesh_sequence import MeshSequence
from champ_jax.conditions.motion_folder import MotionFolder, parse_frames
from champ_jax.conditions.protocol import Conditions
from champ_jax.conditions.rendered_motion import render_mesh_sequence, render_motion
from champ_jax.diffusion.windows import Windows
from champ_jax.inference import builtin
from champ_jax.inference.pipeline import ChampPipeline
from champ_jax.inference.result import Animation
from champ_jax.inference.settings import Settings, check_noise
from champ_jax.inference.stages import to_bytes
from champ_jax.models.champ import ChampConfig

# Fields of the config that do not bear on the result.
UNRECORDED = ("jobs", "quiet", "distributed", "compilation_cache")
PANEL_HEIGHT = 512  # of the side-by-side video at most


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """One animation to make, its inputs opened and found good.

    Attributes:
      config: of this job.
      settings: how it is made.
      picture: (H, W, 3) uint8.
      motion: the conditions.
      noise: (F, h, w, 4) float32, or None.
      size: (width, height) of the video, as a line that says whether it was rounded.
      record: what its JSON file will say, but for what only the run can tell.
    """

    config: ml_collections.ConfigDict
    settings: Settings
    picture: np.ndarray
    motion: Conditions
    noise: np.ndarray | None
    size: str
    record: dict[str, Any]

    @classmethod
    def open(cls, config: ml_collections.ConfigDict, model: ChampConfig, checkpoint: str) -> "Job":
        """Opens and checks everything; nothing is loaded or compiled.

        Args:
          config: as `animate.get_config` gives it.
          model: of the weights.
          checkpoint: a hash of the weights.

        Raises:
          InputError: names the file, field or frame that will not do, and the mend.
        """
        settings = read_settings(config)
        picture = read_image(config.reference) if config.reference else builtin.picture()
        motion = open_motion(config)
        settings.check(model, motion.conditions)
        shape = settings.latent_shape(model, picture.shape, len(motion))
        noise = read_noise(config.noise, shape) if config.noise else None
        width, height = settings.size(model, picture.shape)
        size = f"size: {width}x{height}"
        if (settings.width or width, settings.height or height) != (width, height):
            size += f", rounded to multiples of {model.vae.downscale}"
        with config.unlocked():
            config.width, config.height = width, height
            config.fps = float(config.fps or motion.fps or 24.0)
        if isinstance(motion, MotionFolder):
            motion.check()
        inputs = {
            "reference": hashlib.sha256(picture.tobytes()).hexdigest(),
            "motion": motion.fingerprint,
            "noise": None if noise is None else hashlib.sha256(noise.tobytes()).hexdigest(),
        }
        kept = {name: value for name, value in json.loads(config.to_json()).items() if name not in UNRECORDED}
        record = {"config": kept, "frames": len(motion), "checkpoint": checkpoint, "inputs": inputs}
        job = cls(config, settings, picture, motion, noise, size, record)
        job._check_outputs(width * height, shape)
        return job

    @property
    def outputs(self) -> dict[str, Path]:
        """The files asked for, {kind: path}; the record comes last."""
        video = Path(self.config.output)
        places = {"video": video}
        if self.config.comparison:
            places["comparison"] = video.with_name(f"{video.stem}_comparison.mp4")
        for kind in ("frames_output", "latents_output"):
            if self.config[kind]:
                places[kind.removesuffix("_output")] = Path(self.config[kind])
        return places | {"record": video.with_suffix(".json")}

    @property
    def is_done(self) -> bool:
        """Whether the outputs are there, made by this configuration from these inputs."""
        if not all(path.exists() for path in self.outputs.values()):
            return False
        try:
            there = json.loads(self.outputs["record"].read_text())
        except ValueError:
            return False
        return all(there.get(name) == value for name, value in json.loads(json.dumps(self.record)).items())

    def run(self, pipeline: ChampPipeline, progress: Progress) -> Animation:
        """Makes the animation and writes the outputs, each whole or not at all."""
        self.outputs["record"].unlink(missing_ok=True)
        animation = pipeline.animate(
            self.picture, self.motion, self.settings, noise=self.noise, fps=self.config.fps, progress=progress
        )
        if self.config.latents_output:
            with atomic_path(self.config.latents_output) as temporary, open(temporary, "wb") as file:
                np.save(file, np.asarray(animation.latents))
        with self._writers(animation) as writers:
            done = 0
            for chunk in animation.decode():
                for frame, panels in zip(to_bytes(chunk), self._panels(done, len(chunk), animation.size)):
                    for write in writers:
                        write(done, frame, panels)
                    done += 1
        self._write_record(pipeline, progress)
        return animation

    @contextlib.contextmanager
    def _writers(self, animation: Animation) -> Iterator[list]:
        """Functions (number, frame, panels) that write each output; closed together."""
        outputs, size = self.outputs, None
        if self.config.picture_size:
            size = self.picture.shape[1::-1]
        with contextlib.ExitStack() as stack:
            video = stack.enter_context(VideoWriter(outputs["video"], animation.fps))

            def fitted(frame: np.ndarray) -> np.ndarray:
                return frame if size is None else resize_image(frame, size, "lanczos")

            writers = [lambda number, frame, panels: video.write(fitted(frame))]
            if "comparison" in outputs:
                side = stack.enter_context(VideoWriter(outputs["comparison"], animation.fps))
                writers.append(lambda number, frame, panels: side.write(_side_by_side([*panels, frame])))
            if "frames" in outputs:
                folder = stack.enter_context(atomic_path(outputs["frames"], folder=True))
                folder.mkdir()
                writers.append(
                    lambda number, frame, panels: write_image(folder / f"{number + 1:04}.png", fitted(frame))
                )
            yield writers

    def _panels(self, start: int, count: int, size: tuple[int, int]) -> Iterator[list[np.ndarray]]:
        """What stands beside frames start..start + count: the picture and the conditions."""
        if not self.config.comparison:
            yield from [[]] * count
            return
        picture = resize_image(self.picture, size, "lanczos")
        frames = self.motion.read(start, start + count, size)
        for index in range(count):
            yield [picture, *(frames[name][index] for name in self.motion.conditions)]

    def _write_record(self, pipeline: ChampPipeline, progress: Progress) -> None:
        device = pipeline.devices[0]
        record = self.record | {
            "seed": self.settings.seed,
            "versions": versions(),
            "device": {"platform": device.platform, "kind": device.device_kind, "count": len(pipeline.devices)},
            "xla_flags": os.environ.get("XLA_FLAGS", ""),
            "outputs": {kind: str(path) for kind, path in self.outputs.items()},
            "seconds": {stage: round(seconds, 3) for stage, seconds in progress.seconds.items()},
        }
        with atomic_path(self.outputs["record"]) as temporary:
            temporary.write_text(json.dumps(record, indent=1) + "\n")

    def _check_outputs(self, pixels: int, latents: tuple[int, ...]) -> None:
        """Names that outputs cannot have, and space: half a byte a pixel of H.264 at this quality, two of PNG."""
        video, folder = self.outputs["video"], self.outputs.get("frames")
        if video.suffix.lower() not in (".mp4", ".m4v", ".mov"):
            raise InputError(f"--config.output={video}: must end in .mp4")
        if folder is not None and folder.exists():
            strange = [path.name for path in folder.iterdir() if not re.fullmatch(r"\d{4,}\.png", path.name)]
            if strange:
                raise InputError(
                    f"--config.frames_output={folder}: holds {strange[0]} and would be replaced; name another"
                )
        frames = latents[0]
        if self.config.picture_size:
            pixels = max(pixels, self.picture.shape[0] * self.picture.shape[1])
        sizes = {
            "video": pixels * frames // 2,
            "comparison": (2 + len(self.motion.conditions)) * pixels * frames // 2,
            "frames": 2 * pixels * frames,
            "latents": 4 * int(np.prod(latents)),
        }
        for kind, path in self.outputs.items():
            require_space(path, sizes.get(kind, 0))


def read_settings(config: ml_collections.ConfigDict) -> Settings:
    """The pipeline's settings in a config."""
    names = ("width", "height", "steps", "guidance_scale", "seed", "sampler", "eta", "chunk")
    windows = Windows(*(config.windows[name] for name in ("scheme", "frames", "overlap", "stride")))
    return Settings(**{name: config[name] for name in names}, windows=windows, batch=config.windows.batch)


def open_motion(config: ml_collections.ConfigDict) -> Conditions:
    """The conditions of a motion folder, a motion.npz or a mesh_sequence.npz; the built-in motion if none is named.

    Raises:
      InputError: it is none of these, is broken, or lacks frames or conditions.
    """
    conditions, frames, path = tuple(config.conditions), config.frames or None, Path(config.motion)
    if not config.motion:
        motion, body = builtin.motion()
        taken = parse_frames(frames, len(motion), "the built-in motion")
        return render_motion(motion, body, frames=_slice(taken), conditions=conditions)
    if path.suffix.lower() in VIDEO_SUFFIXES:
        raise InputError(
            f"{path}: is a video; animate takes a motion folder or a motion.npz, fitting bodies to a video comes first"
        )
    if path.suffix.lower() != ".npz":
        return MotionFolder(path, conditions, frames)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    if not _is_mesh_sequence(path):
        motion = Motion.load(path)
        taken = parse_frames(frames, len(motion), str(path))
        return render_motion(motion, load_body(config.body or None), frames=_slice(taken), conditions=conditions)
    if "dwpose" in conditions:
        warnings.warn(f"{path}: is a mesh without poses, so dwpose cannot be drawn and is left out", stacklevel=2)
        conditions = tuple(name for name in conditions if name != "dwpose")
    sequence = MeshSequence.load(path)
    taken = parse_frames(frames, len(sequence), str(path))
    return render_mesh_sequence(sequence, frames=_slice(taken), conditions=conditions)


def read_noise(path: str, shape: tuple[int, ...]) -> np.ndarray:
    """Reads a .npy of initial noise, checked to be of `shape` (F, h, w, C)."""
    try:
        noise = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: not a readable .npy file ({error})") from error
    if not isinstance(noise, np.ndarray):
        raise InputError(f"{path}: is an archive of arrays; give one array in a .npy file")
    return check_noise(noise, shape, path)


def versions() -> dict[str, str]:
    """Versions of what the result depends on."""
    names = ("champ_jax", "jax", "jaxlib", "flax", "numpy", "pillow", "av")
    known = {}
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            known[name] = importlib.metadata.version(name)
    return known


def _is_mesh_sequence(path: Path) -> bool:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return "vertices" in archive.files and "rotations" not in archive.files
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: not a readable .npz file ({error})") from error


def _slice(frames: range) -> slice:
    return slice(frames.start, frames.stop, frames.step)


def _side_by_side(panels: list[np.ndarray]) -> np.ndarray:
    """Pictures of one size in a row, no higher than PANEL_HEIGHT."""
    height, width = panels[0].shape[:2]
    if height > PANEL_HEIGHT:
        size = max(round(width * PANEL_HEIGHT / height), 1), PANEL_HEIGHT
        panels = [resize_image(panel, size) for panel in panels]
    return np.concatenate(panels, axis=1)
