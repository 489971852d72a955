"""The command: one animation, or those of a .jsonl file, divided among processes."""

import copy
import dataclasses
import functools
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path

import jax
import ml_collections

from champ_jax.common import configs, outputs
from champ_jax.common.compilation_cache import use_compilation_cache
from champ_jax.common.errors import InputError, listed
from champ_jax.common.files import parse_json, read_text
from champ_jax.common.progress import Progress
from champ_jax.common.ranges import check_config
from champ_jax.inference import builtin
from champ_jax.inference.config import RULES, SHARED, select_devices
from champ_jax.inference.job import Job
from champ_jax.inference.pipeline import ChampPipeline
from champ_jax.inference.settings import Settings
from champ_jax.weights.lora import with_lora
from champ_jax.weights.opening import Weights, open_weights


def run(config: ml_collections.ConfigDict) -> int:
    """Runs the command; returns the exit status.

    Args:
      config: A config of `champ_jax.inference.config.get_config`; it is changed to what the run takes.

    Raises:
      InputError: names the file, field or frame that cannot be used, and how to fix it.
    """
    check_config(config, RULES)
    settle(config)
    if config.jobs:
        return run_jobs(config)
    if jax.process_count() > 1:
        raise InputError(f"{jax.process_count()} processes share the jobs of --config.jobs=FILE; set it")
    progress = Progress(config.quiet)
    if not config.output:
        with config.unlocked():
            config.output = str(_default_output(config))
    weights = find_weights(config)
    if config.driving:
        from champ_jax.inference.driving import prepare  # loads what only this needs

        prepare(config, progress)
    job = Job.open(config, weights)
    outputs.claim(list(job.outputs.values()), job.inputs)
    progress.log(job.describe())
    job.run(lambda: load_pipeline(weights, config, progress), progress)
    progress.log(f"written: {', '.join(str(path) for path in job.paths.values())}")
    return 0


def run_jobs(config: ml_collections.ConfigDict) -> int:
    """Runs this process's share of the jobs; 0 if all are done, 2 if only bad inputs failed, 1 otherwise."""
    if config.driving:
        raise InputError("--config.driving: is for one animation; fit the motions of jobs with `champ fit`")
    weights = find_weights(config)
    mine = read_jobs(config)[jax.process_index() :: jax.process_count()]
    progress = Progress(config.quiet)
    load = functools.cache(lambda: load_pipeline(weights, config, progress))
    jobs: dict[int, Job] = {}
    failures: dict[int, Exception] = {}
    counts = {"done": 0, "skipped": 0, "failed": 0}

    def fail(number: int, error: Exception) -> None:
        failures[number] = error
        counts["failed"] += 1
        print(f"job {number}: error: {' '.join(str(error).split())}", file=sys.stderr, flush=True)

    for number, fields in mine:  # all inputs are looked at before anything is compiled
        try:
            jobs[number] = Job.open(job_config(config, number, fields), weights)
        except InputError as error:
            fail(number, error)
    for number, job in claim_outputs(jobs, fail).items():
        if job.is_done:
            counts["skipped"] += 1
            progress.log(f"job {number}: {job.config.output} is done already")
            continue
        progress.log(f"job {number}: {job.config.output}, {job.describe()}")
        try:
            job.run(load, Progress(config.quiet))
            counts["done"] += 1
        except InputError as error:
            fail(number, error)
        except Exception as error:
            traceback.print_exc()
            fail(number, error)
    print(f"jobs: {', '.join(f'{count} {what}' for what, count in counts.items())}", file=sys.stderr)
    if not failures:
        return 0
    return 2 if all(isinstance(error, InputError) for error in failures.values()) else 1


def settle(config: ml_collections.ConfigDict) -> None:
    """Settles the fields that depend on the device and on whether the built-in model runs."""
    on_cpu = jax.default_backend() == "cpu"
    with config.unlocked():
        if config.dtype == "auto":
            config.dtype = "float32" if on_cpu else "bfloat16"
        if not config.weights and config.width is None and config.height is None:
            config.height = builtin.HEIGHT
        sampling = Settings().to_config() if config.weights else builtin.SAMPLING
        for name in builtin.SAMPLING:
            if config[name] is None:
                config[name] = sampling[name]
    select_devices(config)
    use_compilation_cache(config.compilation_cache)


def find_weights(config: ml_collections.ConfigDict) -> Weights:
    """The weights that the config names, with its LoRA files, found and not loaded.

    Raises:
      InputError: there are none, a network is missing, parts of them were never trained as a Champ's and
        `config.untrained` is false, or a LoRA file does not fit them.
    """
    weights = open_weights(config.weights or builtin.MODEL)
    weights.require()
    if weights.untrained and not config.untrained:
        parts = listed(f"{part} ({origin})" for part, origin in weights.untrained.items())
        raise InputError(
            f"{weights.path}: holds parts that were never trained as a Champ: {parts}; convert Champ's own files, "
            "train these weights first, or accept them with --config.untrained=true"
        )
    weights, notes = with_lora(weights, config.lora)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return weights


def load_pipeline(weights: Weights, config: ml_collections.ConfigDict, progress: Progress) -> ChampPipeline:
    """The pipeline on the config's devices."""
    if not config.weights:
        print(builtin.NOTICE, file=sys.stderr)
    with progress.stage("load"):
        return ChampPipeline.from_weights(
            weights,
            dtype=config.dtype,
            devices=select_devices(config),
            compiler_options={"xla_gpu_deterministic_ops": True} if config.deterministic else None,
        )


def read_jobs(config: ml_collections.ConfigDict) -> list[tuple[int, dict | InputError]]:
    """(line number, fields) of every job; a line that is not a JSON object stands as its error.

    Raises:
      InputError: no such text file, or it holds no jobs.
    """
    jobs: list[tuple[int, dict | InputError]] = []
    for number, line in enumerate(read_text(config.jobs).splitlines(), 1):
        if not line.strip():
            continue
        name = f"{config.jobs} line {number}"
        try:
            fields = parse_json(line, name)
            if not isinstance(fields, dict):
                raise InputError(f'{name}: is not a JSON object; write {{"reference": ..., "output": ...}}')
        except InputError as error:
            fields = error
        jobs.append((number, fields))
    if not jobs:
        raise InputError(f"--config.jobs={config.jobs}: holds no jobs")
    return jobs


def job_config(shared: ml_collections.ConfigDict, number: int, fields: dict | InputError) -> ml_collections.ConfigDict:
    """The command's config with a job's fields over it; dotted names reach groups.

    Raises:
      InputError: names the line, and the field that is unknown, of another type, shared by all jobs or missing.
    """
    if isinstance(fields, InputError):
        raise fields
    config = copy.deepcopy(shared)  # keeps the types of fields without a value
    line = f"{shared.jobs} line {number}"
    for name in fields:
        if name.split(".")[0] in SHARED:
            raise InputError(f"{line}: {name} is the same for all jobs; give it as --config.{name}")
    try:
        configs.assign(config, fields)
    except InputError as error:
        raise InputError(f"{line}: {error}") from error
    if config.driving:
        raise InputError(f"{line}: driving is for one animation; fit the motions of jobs with `champ fit`")
    if not config.output or "output" not in fields:
        raise InputError(f"{line}: names no output")
    check_config(config, RULES, prefix=f"{line}: ")
    return config


def claim_outputs(jobs: dict[int, Job], fail: Callable[[int, Exception], None]) -> dict[int, Job]:
    """The jobs whose outputs may be written; a later job that would overwrite an earlier one's outputs fails.

    Args:
      jobs: {line number: job}.
      fail: is called with the number and the error of each job that is left out.
    """
    try:
        _claim(jobs)
        return jobs
    except InputError:
        pass  # one by one, to find out which
    kept: dict[int, Job] = {}
    for number, job in jobs.items():
        try:
            _claim(kept | {number: job})
            kept[number] = job
        except InputError as error:
            fail(number, error)
    return kept


def _claim(jobs: dict[int, Job]) -> None:
    """Checks the outputs of several jobs against each other and against all inputs; `Output.option` names the job.
    Those that are done already need no more space."""
    claimed = [
        dataclasses.replace(
            output,
            option=f"job {number}: {output.option.removeprefix('--config.')}",
            size=0 if job.is_done else output.size,
        )
        for number, job in jobs.items()
        for output in job.outputs.values()
    ]
    outputs.claim(claimed, {path for job in jobs.values() for path in job.inputs})


def _default_output(config: ml_collections.ConfigDict) -> Path:
    motion = config.motion or config.driving
    names = [Path(path).stem or "built-in" for path in (config.reference, motion)]
    folder = "built-in" if not (config.reference or motion) else "-".join(names)
    return Path("results") / folder / "animation.mp4"
