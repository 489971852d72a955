"""Animates a picture of a person: python -m champ_jax.animate --config.reference=person.png --config.motion=DIR ...

Without arguments it runs on built-in inputs. docs/animate.md describes every field.
"""

import copy
import json
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import jax
import ml_collections
from ml_collections import config_dict

from champ_jax.common import cli, distributed
from champ_jax.common.cluster import join_cluster
from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.errors import InputError
from champ_jax.common.progress import Progress
from champ_jax.inference import builtin
from champ_jax.inference.job import Job
from champ_jax.inference.pipeline import ChampPipeline, check_dtype
from champ_jax.weights.opening import Weights, open_weights

# Fields that belong to the whole command, not to a job.
SHARED = ("weights", "dtype", "devices", "deterministic", "jobs", "quiet", "distributed", "compilation_cache")


def get_config() -> ml_collections.ConfigDict:
    """The default configuration of champ_jax.animate."""
    config = ml_collections.ConfigDict()
    # A converted checkpoint directory or a training work folder; empty: the small built-in model
    config.weights = ""
    config.reference = ""  # the picture; empty: the built-in one
    config.motion = ""  # a motion folder, motion.npz or mesh_sequence.npz; empty: the built-in motion
    config.body = ""  # the body model file for a motion.npz; empty: the open body
    config.output = ""  # the video; empty: results/PICTURE-MOTION/animation.mp4
    config.comparison = True  # also writes OUTPUT_comparison.mp4: picture, conditions, result side by side
    config.frames_output = ""  # a folder for the frames as PNG
    config.latents_output = ""  # a .npy for the final latents (F, height/8, width/8, channels)
    config.picture_size = False  # the video (and PNG frames) at the picture's size

    config.conditions = CONDITIONS
    config.frames = ""  # a:b, a slice of the motion's frames
    config.fps = config_dict.placeholder(float)  # None: the motion's, or 24
    config.width = config_dict.placeholder(int)  # None: by the picture's aspect, about 512x512 pixels
    config.height = config_dict.placeholder(int)

    config.steps = 20
    config.guidance_scale = 3.5  # 1: no guidance, half the work
    config.seed = 42
    config.sampler = "ddim"  # dpm_solver_2m, unipc
    config.eta = 0.0
    config.noise = ""  # a .npy (F, height/8, width/8, channels) in place of the seed's noise

    config.windows = ml_collections.ConfigDict()
    config.windows.scheme = "shifted"  # clamped, closed_loop, shifted_loop
    config.windows.frames = 24
    config.windows.overlap = 4
    config.windows.stride = 1
    config.windows.batch = 1  # windows a device denoises at once
    config.chunk = 4  # frames a device encodes or decodes at once

    config.dtype = "auto"  # bfloat16, float32; auto: float32 on CPUs, bfloat16 elsewhere
    config.devices = 0  # how many of this host's devices to use; 0: all
    config.deterministic = False  # GPU: only algorithms that repeat bit for bit, slower
    config.jobs = ""  # a .jsonl of jobs, {"reference", "motion", "output", ...} a line
    config.quiet = False
    config.compilation_cache = "~/.cache/champ_jax"  # of GPU and TPU programs; empty: none

    config.distributed = distributed.defaults()  # jobs are split among processes
    return config


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    config, _ = cli.parse_config(argv, get_config, description=__doc__)
    with join_cluster(config.distributed):
        return _run(config)


def _run(config: ml_collections.ConfigDict) -> int:
    _settle(config)
    progress = Progress(config.quiet)
    if config.jobs:
        return _run_batch(config, progress)
    if jax.process_count() > 1:
        raise InputError(f"{jax.process_count()} processes share out the jobs of --config.jobs=FILE; it names none")
    _name_output(config)
    weights = _find_weights(config)
    job = Job.open(config, weights.model, weights.identity)
    progress.log(f"{job.size}, {config.fps:g} fps")
    job.run(_load(weights, config, progress), progress)
    progress.log(f"written: {', '.join(str(path) for path in job.outputs.values())}")
    return 0


def _run_batch(config: ml_collections.ConfigDict, progress: Progress) -> int:
    """Runs this process's share of the jobs; 0 if all are done, 2 if only bad inputs failed, 1 otherwise."""
    weights = _find_weights(config)
    mine = _read_jobs(config)[jax.process_index() :: jax.process_count()]
    pipeline, jobs, failures, counts = None, [], [], {"done": 0, "skipped": 0, "failed": 0}

    def fail(number: int, error: Exception) -> None:
        failures.append(error)
        counts["failed"] += 1
        print(f"job {number}: error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)

    for number, fields in mine:  # all inputs are looked at before anything is compiled
        try:
            jobs.append((number, Job.open(_job_config(config, number, fields), weights.model, weights.identity)))
        except InputError as error:
            fail(number, error)
    for number, job in _without_clashes(jobs, fail):
        if job.is_done:
            counts["skipped"] += 1
            progress.log(f"job {number}: {job.config.output} is done already")
            continue
        progress.log(f"job {number}: {job.config.output}, {job.size}")
        try:
            pipeline = pipeline or _load(weights, config, progress)
            job.run(pipeline, Progress(config.quiet))
            counts["done"] += 1
        except InputError as error:
            fail(number, error)
        except Exception as error:
            traceback.print_exc()
            fail(number, error)
    summary = ", ".join(f"{count} {what}" for what, count in counts.items())
    print(f"jobs: {summary}", file=sys.stderr)
    if not failures:
        return 0
    return 2 if all(isinstance(error, InputError) for error in failures) else 1


def _read_jobs(config: ml_collections.ConfigDict) -> list[tuple[int, dict | InputError]]:
    """(line number, fields) of every job; a line that is no JSON object stands as its error."""
    path = Path(config.jobs)
    if not path.is_file():
        raise InputError(f"--config.jobs={path}: no such file")
    jobs: list[tuple[int, dict | InputError]] = []
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError as error:
        raise InputError(f"--config.jobs={path}: not a text file ({error})") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
            if not isinstance(fields, dict):
                raise ValueError("not an object")
        except (ValueError, RecursionError) as error:
            fields = InputError(f'{path} line {number}: not a JSON object ({error}); write {{"reference": ..., ...}}')
        jobs.append((number, fields))
    if not jobs:
        raise InputError(f"--config.jobs={path}: holds no jobs")
    return jobs


def _job_config(shared: ml_collections.ConfigDict, number: int, fields: dict | InputError) -> ml_collections.ConfigDict:
    """The command's config with a job's fields over it; dotted names reach groups."""
    if isinstance(fields, InputError):
        raise fields
    config = copy.deepcopy(shared)  # keeps the types of fields without a value
    for name in fields:
        if name.split(".")[0] in SHARED:
            raise InputError(f"{shared.jobs} line {number}: {name} is one for all jobs; give it as --config.{name}")
    if "output" not in fields:
        raise InputError(f"{shared.jobs} line {number}: names no output")
    cli.assign(config, fields)
    return config


def _without_clashes(jobs: list[tuple[int, Job]], fail) -> list[tuple[int, Job]]:
    """Jobs whose outputs are their own; a later one that would overwrite an earlier one's fails."""
    owners: dict[Path, int] = {}
    kept = []
    for number, job in jobs:
        clash = next((path for path in job.outputs.values() if path.absolute() in owners), None)
        if clash is not None:
            fail(number, InputError(f"{clash}: is an output of job {owners[clash.absolute()]} too; name another"))
            continue
        owners |= {path.absolute(): number for path in job.outputs.values()}
        kept.append((number, job))
    return kept


def _settle(config: ml_collections.ConfigDict) -> None:
    """Settles what depends on the device."""
    on_cpu = jax.default_backend() == "cpu"
    with config.unlocked():
        if config.dtype == "auto":
            config.dtype = "float32" if on_cpu else "bfloat16"
        if not config.weights and config.width is None and config.height is None:
            config.height = builtin.HEIGHT
    check_dtype(config.dtype)
    there = len(jax.local_devices())
    if not 0 <= config.devices <= there:
        raise InputError(f"--config.devices={config.devices}: this host has {there}; 0 takes them all")
    if config.compilation_cache and not on_cpu and not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(config.compilation_cache))


def _find_weights(config: ml_collections.ConfigDict) -> Weights:
    weights = open_weights(config.weights or builtin.MODEL)
    weights.require()
    return weights


def _name_output(config: ml_collections.ConfigDict) -> None:
    if not config.output:
        names = [Path(path).stem or "built-in" for path in (config.reference, config.motion)]
        folder = "built-in" if not (config.reference or config.motion) else "-".join(names)
        with config.unlocked():
            config.output = str(Path("results") / folder / "animation.mp4")


def _load(weights: Weights, config: ml_collections.ConfigDict, progress: Progress) -> ChampPipeline:
    if not config.weights:
        print(builtin.NOTICE, file=sys.stderr)
    with progress.stage("load"):
        return ChampPipeline.from_weights(
            weights,
            dtype=config.dtype,
            devices=jax.local_devices()[: config.devices or None],
            compiler_options={"xla_gpu_deterministic_ops": True} if config.deterministic else None,
        )


if __name__ == "__main__":
    cli.run(main)
