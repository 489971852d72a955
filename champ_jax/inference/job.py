"""One animation from files to files: inputs opened and checked, the pipeline run, outputs and a record written."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ml_collections
import numpy as np

from champ_jax.common import locks, outputs
from champ_jax.common.arrays import read_npy
from champ_jax.common.condition_names import MASK
from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path
from champ_jax.common.outputs import Output
from champ_jax.common.pictures import read_image
from champ_jax.common.profiler import OFF, Profiler, parse_steps
from champ_jax.common.progress import Progress
from champ_jax.conditions.motion_folder import MotionFolder
from champ_jax.conditions.protocol import Conditions
from champ_jax.conditions.sources import open_conditions
from champ_jax.inference import builtin, needs
from champ_jax.inference.config import FPS, FPS_RULE, UNRECORDED, select_devices
from champ_jax.inference.pipeline import ChampPipeline
from champ_jax.inference.result import Animation
from champ_jax.inference.settings import MAX_SIDE, Settings, check_noise
from champ_jax.inference.writing import OutputWriter, run_record
from champ_jax.weights.opening import Weights

_FAST = 40.0  # frames per second from which a motion is worth a hint
_VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov")
_TRACE = outputs.folder_with("a profiler's trace", lambda path: {one.name for one in path.iterdir()} == {"plugins"})
_RECORD = outputs.json_with("the record of an animation", "config", "frames", "checkpoint")


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """One animation to make, its inputs opened and found good. Pictures and noise are read again when it runs.

    Attributes:
      config: the command's fields, with this job's values and with size and frame rate settled.
      weights: The weights that will be used.
      settings: how the clip is made.
      motion: the conditions, fitted to the picture's aspect.
      size: (width, height) of the video.
      picture_size: (width, height) of the picture.
      latent_shape: (F, h, w, C) of the clip's latents.
      record: what its JSON file will say, except for what only the run knows.
    """

    config: ml_collections.ConfigDict
    weights: Weights
    settings: Settings
    motion: Conditions
    size: tuple[int, int]
    picture_size: tuple[int, int]
    latent_shape: tuple[int, int, int, int]
    record: dict[str, Any]

    @classmethod
    def open(cls, config: ml_collections.ConfigDict, weights: Weights) -> "Job":
        """Opens and checks all inputs, and whether memory suffices; nothing is loaded or compiled.

        Args:
          config: A config of `champ_jax.inference.config.get_config`, device-dependent fields settled.
          weights: The weights that will be used.

        Raises:
          InputError: names the file, field or frame that cannot be used, and how to fix it.
        """
        settings, model = Settings.from_config(config), weights.model
        settings.check(model, config.conditions)
        parse_steps(config.profile.steps, settings.steps)
        picture = read_image(_reference(config))
        picture_size = picture.shape[1], picture.shape[0]
        size = settings.size(model, picture.shape)
        _check_sides(config, size, picture_size)
        motion, notes = open_conditions(
            config.motion or builtin.MOTION,
            conditions=tuple(config.conditions),
            frames=config.frames or (None if config.motion else builtin.FRAMES),
            body=config.body or None,
            picture_size=picture_size,
            fit=config.fit,
        )
        for note in notes:
            warnings.warn(note, stacklevel=2)
        fps = _frame_rate(config, motion, settings)
        shape = settings.latent_shape(model, picture.shape, len(motion))
        devices = select_devices(config)
        needs.require(
            needs.estimate(
                model,
                settings,
                size,
                len(motion),
                dtype=config.dtype,
                devices=len(devices),
                parameters=weights.parameters,
            ),
            devices,
            size,
        )
        noise = read_noise(config.noise, shape) if config.noise else None
        if isinstance(motion, MotionFolder):
            motion.check()
        with config.unlocked():
            config.width, config.height = size
            config.fps = fps
        inputs = {
            "reference": _digest(picture),
            "motion": motion.fingerprint,
            "noise": None if noise is None else _digest(noise),
        }
        kept = {name: value for name, value in json.loads(config.to_json()).items() if name not in UNRECORDED}
        record = {"config": kept, "frames": len(motion), "checkpoint": weights.identity, "inputs": inputs}
        return cls(config, weights, settings, motion, size, picture_size, shape, record)

    @property
    def outputs(self) -> dict[str, Output]:
        """What the job will write, {kind: output}, with estimates of sizes: half a byte a pixel of H.264 at this
        quality, two of PNG. The record comes last."""
        frames, pixels = self.latent_shape[0], self.size[0] * self.size[1]
        panels = (2 + len(self.motion.conditions)) * pixels
        if self.config.picture_size:
            pixels = max(pixels, self.picture_size[0] * self.picture_size[1])
        video = Path(self.config.output)
        places = {"video": Output("--config.output", video, outputs.VIDEO, pixels * frames // 2)}
        if self.config.comparison:
            beside = video.with_name(f"{video.stem}_comparison.mp4")
            places["comparison"] = Output("--config.output", beside, outputs.VIDEO, panels * frames // 2)
        if folder := self.config.frames_output:
            places["frames"] = Output("--config.frames_output", folder, outputs.FRAMES, 2 * pixels * frames)
        if file := self.config.latents_output:
            size = 4 * int(np.prod(self.latent_shape))
            places["latents"] = Output("--config.latents_output", file, outputs.NPY, size)
        if self.config.profile.steps:
            places["profile"] = Output("--config.profile.steps", video.with_name(f"{video.stem}_profile"), _TRACE)
        return places | {"record": Output("--config.output", video.with_suffix(".json"), _RECORD)}

    @property
    def inputs(self) -> list[Path]:
        """The files and folders that are read."""
        files = [Path(self.config[name]) for name in ("reference", "body", "noise", "jobs") if self.config[name]]
        if isinstance(self.motion, MotionFolder):
            files += [self.motion.folder / name for name in (*self.motion.conditions, MASK)]
        elif self.config.motion:
            files.append(Path(self.config.motion))
        return [*files, *self.weights.files]

    @property
    def paths(self) -> dict[str, Path]:
        """{kind: path} of the outputs."""
        return {kind: Path(output.path) for kind, output in self.outputs.items()}

    @functools.cached_property
    def is_done(self) -> bool:
        """Whether the outputs were there, made by this configuration from these inputs, when this was first asked."""
        if not all(path.exists() for path in self.paths.values()):
            return False
        try:
            there = json.loads(self.paths["record"].read_text())
        except (OSError, ValueError):
            return False
        if not isinstance(there, dict):
            return False
        return all(there.get(name) == value for name, value in json.loads(json.dumps(self.record)).items())

    def describe(self) -> str:
        """The size and the rate of the video in a line, and whether the size was rounded."""
        asked = self.settings.width or self.size[0], self.settings.height or self.size[1]
        rounded = ", rounded to what the model needs" if asked != self.size else ""
        return f"{self.latent_shape[0]} frames, {self.size[0]}x{self.size[1]}{rounded}, {self.config.fps:g} fps"

    def run(self, load: Callable[[], ChampPipeline], progress: Progress) -> Animation:
        """Makes the animation and writes the outputs: all of them, or what was there stays.

        Args:
          load: gives the pipeline, once the outputs are locked and the inputs read again.
          progress: where to report.

        Raises:
          InputError: another run is writing one of the outputs, the disk is full, an input changed since it was
            checked, or the model's numbers are not finite.
        """
        with locks.hold(*self.paths.values()):
            picture = read_image(_reference(self.config))
            noise = read_noise(self.config.noise, self.latent_shape) if self.config.noise else None
            self._require_unchanged("reference", picture)
            self._require_unchanged("noise", noise)
            pipeline = load()
            with self._profiler() as profiler:
                animation = pipeline.animate(
                    *(picture, self.motion, self.settings),
                    noise=noise,
                    fps=self.config.fps,
                    progress=progress,
                    profiler=profiler,
                )
            video_size = self.picture_size if self.config.picture_size else None
            files = {kind: path for kind, path in self.paths.items() if kind != "profile"}
            with OutputWriter(files, picture, self.motion, animation, video_size) as writer:
                writer.write()
                writer.write_record(self.record | run_record(pipeline, self.settings, self.paths, progress))
        return animation

    @contextlib.contextmanager
    def _profiler(self) -> Iterator[Profiler]:
        """What traces the denoising steps that the config names; the trace takes its place when it is whole."""
        steps = parse_steps(self.config.profile.steps, self.settings.steps)
        if not steps:
            yield OFF
            return
        with atomic_path(self.paths["profile"], folder=True) as folder, Profiler(steps, folder) as profiler:
            yield profiler

    def _require_unchanged(self, name: str, array: np.ndarray | None) -> None:
        if array is not None and _digest(array) != self.record["inputs"][name]:
            raise InputError(f"{self.config[name]}: changed since it was checked; start again")


def read_noise(path: str, shape: tuple[int, ...]) -> np.ndarray:
    """Reads a .npy of initial noise, checked to be of `shape` (F, h, w, C)."""
    return check_noise(read_npy(path), shape, path)


def _reference(config: ml_collections.ConfigDict) -> Path:
    return Path(config.reference or builtin.REFERENCE)


def _check_sides(config: ml_collections.ConfigDict, size: tuple[int, int], picture_size: tuple[int, int]) -> None:
    """Raises InputError for an output's name or size that no video can have."""
    if Path(config.output).suffix.lower() not in _VIDEO_SUFFIXES:
        raise InputError(f"--config.output={config.output}: must end in {', '.join(_VIDEO_SUFFIXES)}")
    wanted = {"--config.width, --config.height": size}
    if config.picture_size:
        wanted["--config.picture_size"] = picture_size
    for field, (width, height) in wanted.items():
        if max(width, height) > MAX_SIDE:
            raise InputError(
                f"{field}: the video would be {width}x{height} pixels, H.264 takes {MAX_SIDE} a side; "
                "choose a smaller size"
            )


def _frame_rate(config: ml_collections.ConfigDict, motion: Conditions, settings: Settings) -> float:
    """Frames per second of the video. A step in `frames` leaves frames out, so it plays as many times slower."""
    step = f"{config.frames}::".split(":")[2].strip()
    fps = (motion.fps or FPS) / int(step or 1)
    if fps > _FAST and motion.fps:
        window = min(settings.windows.frames, len(motion))
        warnings.warn(
            f"{config.motion}: is at {fps:g} frames per second, so the {window} frames that the model sees at once "
            f"last {window / fps:.2g} s; tools/import_motion.py --resample={FPS:g} brings it to a rate the model knows",
            stacklevel=3,
        )
    if config.fps:
        return float(config.fps)
    FPS_RULE.check(f"{config.motion or 'motion'}: fps", fps)
    return float(fps)


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
