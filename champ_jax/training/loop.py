"""The loop of a run: batches in, steps, logs, checkpoints, validation; resumes, and stops without losing anything."""

import contextlib
import dataclasses
import json
import signal
import time
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from ml_collections import ConfigDict

from champ_jax.common.compilation_cache import use_compilation_cache
from champ_jax.common.errors import InputError
from champ_jax.common.files import reason, write_json
from champ_jax.common.locks import hold_folder
from champ_jax.common.profiler import Profiler, parse_steps
from champ_jax.common.synchronization import SynchronizedJit
from champ_jax.data.pipeline import Batches
from champ_jax.diffusion.schedules import Schedule
from champ_jax.training import checkpoints
from champ_jax.training.autoencoder import loss_of, moments, scaling_factor
from champ_jax.training.batches import check_batch, make_batches, shard_batch
from champ_jax.training.config import DTYPES, check, check_size
from champ_jax.training.initial_weights import build_network, create_parameters, load_initial
from champ_jax.training.logging import Logs
from champ_jax.training.objective import Objective
from champ_jax.training.optimizer import make_optimizer
from champ_jax.training.parameters import LORA, Network
from champ_jax.training.sharding import make_mesh
from champ_jax.training.sharding_table import sharding_table
from champ_jax.training.state import TrainState, abstract_frozen, abstract_state, create_state, shardings_of
from champ_jax.training.step import StepOptions, jit_step, make_step
from champ_jax.training.throughput import Meter, memory_in_use, peak_flops, useful_flops
from champ_jax.training.validation import Validator
from champ_jax.training.wall_time import CHECKPOINTS, COMPILE, DATA, STEPS, VALIDATION, WallTime
from champ_jax.weights import work_folder
from champ_jax.weights.flat import Flat, cast

# What may not differ between a run and its continuation: the state on disk would not fit or not mean the same.
_FIXED = ("stage", "trainable", "seed", "conditions", "model", "schedule", "optimizer.name", "data.batch_size")

_NAME = 256  # bytes of a sample's name at most, where processes exchange them
PROFILE = "profile"  # the folder of traces in a work folder
SCALING_BATCHES = 32  # batches that the latents' variance is measured on


def train(config: ConfigDict, workdir: str | Path) -> None:
    """Runs, or resumes, the training that `config` describes.

    Args:
      config: a config of `champ_jax.training.config`.
      workdir: the work folder; where it holds a checkpoint, the run resumes from it.

    Raises:
      InputError: the config, the data, the weights, the disk or another run in the same folder do not allow it; names
        the field or the file and how to fix it.
    """
    check(config)
    if not config.data.path:
        raise InputError("data.path: names no dataset; pass --config.data.path=DIR (tools/build_dataset.py makes one)")
    workdir = Path(workdir)
    use_compilation_cache(config.compilation_cache)
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp)
    check_batch(mesh, config.data.batch_size, config.optimizer.accumulate)
    lock = contextlib.nullcontext()
    if jax.process_index() == 0:  # for all processes of the run
        work_folder.require_own(workdir)
        lock = hold_folder(workdir)
    try:
        with lock, jax.set_mesh(mesh), Run(config, workdir, mesh) as run:
            run.take_steps()
    except jax.errors.JaxRuntimeError as error:
        raise _explain_memory(error, config) from error
    except OSError as error:
        if checkpoints.disk_trouble(error) is None:
            raise
        raise InputError(
            f"{error.filename or workdir}: cannot be written ({reason(error)}); free some space or repair the folder, "
            "then run the same command again"
        ) from error


class Run:
    """One process's share of a run from start to end; a context that closes what it opened."""

    def __init__(self, config: ConfigDict, workdir: Path, mesh: Mesh):
        self.config, self.workdir, self.mesh = config, workdir, mesh
        began = time.time()
        self._terminated = False
        self._is_first = jax.process_index() == 0
        self.network, self.state, self.frozen, self.batches, self.checkpoints = self._begin()
        self.step = int(self.state.step)  # steps taken
        self.logs = Logs(
            workdir, start=self.step, steps=config.steps, every=config.log_every, silent=not self._is_first
        )
        self.wall = WallTime(self.logs.last, began)
        traced = parse_steps(config.profile.steps, config.steps)
        if traced and traced[-1] <= self.step:
            self._print(f"profile.steps={config.profile.steps}: these steps were taken before; nothing is traced")
        self.profiler = Profiler(traced, workdir / PROFILE)
        self.validator = Validator.make(config, self.network, mesh) if config.validation.every else None
        self.skipped_names: list[str] = []
        # The metrics of a step are read while the next one runs.
        self._pending: tuple[int, list[str], dict[str, jax.Array]] | None = None

    def __enter__(self) -> "Run":
        self._handler = None
        if jax.process_count() == 1:  # otherwise JAX catches it, see _should_stop
            self._handler = signal.signal(signal.SIGTERM, self._terminate)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGTERM, self._handler)
        with contextlib.ExitStack() as stack:  # each is closed, whatever the others raise
            for opened in (self.checkpoints, self.batches, self.logs):
                stack.callback(opened.close)
            stack.enter_context(self.profiler)

    def _terminate(self, number: int, frame: types.FrameType | None) -> None:
        self._terminated = True

    def _should_stop(self) -> bool:
        """Whether to stop before the next step: SIGTERM has come, to whichever process; all agree on the step."""
        if jax.process_count() > 1:
            self._terminated = multihost_utils.reached_preemption_sync_point(self.step)
        return self._terminated

    def _begin(self) -> tuple[Network, TrainState, Flat, Batches, checkpoints.Checkpoints]:
        """From the newest checkpoint, or from the config's initial weights. Nothing is written before all is read."""
        config = self.config
        optimizer = make_optimizer(config.optimizer, config.steps)
        resumed = bool(work_folder.saved_steps(self.workdir))
        if resumed:
            _check_continuation(config, self.workdir)
            model = work_folder.read_model(self.workdir)
        batches = make_batches(config, config.data.path, self.mesh)
        if resumed:
            network = build_network(config, model).on(self.mesh)
        else:
            initial = load_initial(config)
            network = initial.network.on(self.mesh)
        check_size(config, network.config)
        store = checkpoints.Checkpoints(
            self.workdir, keep=config.checkpoint.keep, keep_every=config.checkpoint.keep_every
        )
        like = self._describe(network, optimizer)
        if resumed:
            state, progress = store.restore(like)
            frozen = checkpoints.load_frozen(self.workdir, abstract_frozen(network, DTYPES["float32"], self.mesh))
            batches.set_state(progress["data"])
            self._print(f"{self.workdir}: resuming from step {progress['step']}")
        else:
            for note in initial.notes:
                self._print(note)
            arrays = create_parameters(network, initial.arrays, config.seed, self.mesh)
            frozen = {name: arrays.pop(name) for name in network.frozen}
            carried = {name: arrays.pop(name) for name in network.unused} | initial.carried
            checkpoints.save_initial(self.workdir, initial.model, frozen, carried)
            state = create_state(arrays, optimizer, like)
        frozen = cast(frozen, DTYPES[config.frozen_dtype])
        if self._is_first:
            fields = {name: value for name, value in config.to_dict().items() if name != "distributed"}
            write_json(self.workdir / work_folder.CONFIG, fields)
        objective = Objective(Schedule.of(network.config.training), **config.loss.to_dict())
        step = make_step(network, optimizer, objective, StepOptions.of(config), loss=loss_of(config.stage))
        jitted = jit_step(step, shardings_of(like), self.mesh, fast_compile=config.fast_compile)
        self._step = SynchronizedJit(jitted)
        return network, state, frozen, batches, store

    def _describe(self, network: Network, optimizer: optax.GradientTransformation) -> TrainState:
        """The state as shapes with shardings; all arrays are printed if the config says so."""
        config = self.config
        state = abstract_state(network, optimizer, self.mesh, averaged=config.average.decay > 0)
        if config.print_sharding:
            frozen = abstract_frozen(network, DTYPES[config.frozen_dtype], self.mesh)
            self._print(sharding_table(state, frozen))
        return state

    def take_steps(self) -> None:
        """Takes the steps that are left."""
        config = self.config
        # Counting takes seconds, and is of no use where the device's peak is not known.
        flops = useful_flops(config, self.network) if peak_flops(jax.devices()[0]) else 0
        meter = Meter(config.data.batch_size, flops)
        first = self.step
        self.wall.begin()
        while self.step < config.steps and not self._should_stop():
            batch = next(self.batches)
            names = batch.pop("names")
            batch = shard_batch(batch, self.mesh)
            # While the step before still runs, the devices do not wait for data.
            busy = self._pending is not None and not self._pending[2]["loss"].is_ready()
            self.wall.spend(STEPS if busy else DATA)
            with self.profiler.step(self.step + 1):
                self.state, metrics = self._step(self.state, self.frozen, batch)
            if self.step == first:
                self.wall.spend(COMPILE)
            self.step += 1
            self.profiler.end(self.step, metrics)
            self._settle(meter)
            self._pending = (self.step, names, metrics)
            if self.step % config.checkpoint.every == 0 or self.step == config.steps:
                self._settle(meter)
                self._save()
                meter.restart()
            if self.validator is not None and self.step % config.validation.every == 0:
                self._settle(meter)
                self._validate()
                meter.restart()
        self._settle(meter)
        if self._terminated:
            self._save()
        self.checkpoints.wait()
        self.wall.spend(CHECKPOINTS)
        if config.trainable == "autoencoder" and not self._terminated:
            self._scale_latents()
        if self._terminated:
            self._print(f"SIGTERM: saved step {self.step} in {self.workdir}; run the same command again to resume")
        else:
            self._print(f"done: {self.step} steps in {self.workdir}")
        self._print(f"wall time: {self.wall}")

    def _print(self, line: str) -> None:
        if self._is_first:
            print(line, flush=True)

    def _save(self) -> None:
        self.checkpoints.save(self.state, seed=self.config.seed, data=self.batches.get_state())
        self.wall.spend(CHECKPOINTS)

    def _scale_latents(self) -> None:
        """Writes the scaling factor that gives this autoencoder's latents unit variance into the model's sizes."""
        measure = jax.jit(lambda params, frozen, batch: moments(self.network.merge(params, frozen), batch))
        params, gathered = self.state.average or self.state.params, []
        for _ in range(SCALING_BATCHES):
            batch = next(self.batches)
            del batch["names"]
            gathered.append(jax.device_get(measure(params, self.frozen, shard_batch(batch, self.mesh))))
        model = work_folder.read_model(self.workdir)
        factor = scaling_factor(gathered)
        if jax.process_index() == 0:
            vae = dataclasses.replace(model.vae, scaling_factor=factor)
            work_folder.write_model(self.workdir, dataclasses.replace(model, vae=vae))
        self.logs.print_line(f"scaling_factor {factor:.4f} gives the latents unit variance")

    def _validate(self) -> None:
        """Samples with the averaged parameters, if there are any; takes nothing from the state."""
        measures, videos = self.validator.run(self.state.average or self.state.params, self.frozen)
        self.validator.write(self.workdir / "samples", self.step, videos)
        self.logs.validation(self.step, measures, videos, self.config.validation.fps)
        self.wall.spend(VALIDATION)
        words = " ".join(f"{name} {value:.3f}" for name, value in measures.items())
        self.logs.print_line(f"validation at step {self.step}: {words}")

    def _settle(self, meter: Meter) -> None:
        """Records the step whose metrics have not been read yet."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._record(*pending, meter)

    def _record(self, step: int, names: list[str], metrics: Mapping[str, jax.Array], meter: Meter) -> None:
        """Waits for a step and writes its line; stops the run after too many that were not finite."""
        values = {name: value.item() for name, value in jax.device_get(metrics).items()}
        rates = meter.lap()
        self.wall.spend(STEPS)
        finite = values.pop("finite")
        memory = memory_in_use()
        line: dict[str, Any] = {**values, **rates, "memory_bytes": memory, **self.wall.line()}
        if not finite:
            names = _of_all_processes(names)
            line["clips"] = names
        shown = {
            "loss": f"{values['loss']:.4f}",
            "samples/s": f"{rates['samples_per_second']:.2f}",
            **({"MFU": f"{rates['mfu']:.1%}"} if "mfu" in rates else {}),
            "GiB": f"{memory / 2**30:.1f}",
            **({"skipped": str(values["skipped"])} if values["skipped"] else {}),
        }
        self.logs.step(step, line, shown)
        if finite:
            self.skipped_names = []
            return
        self.skipped_names += names
        clips = ", ".join(names)
        self.logs.print_line(f"step {step}: the loss or a gradient is not finite, skipped; its clips: {clips}")
        limits = self.config.nonfinite
        if values["skipped_in_row"] >= limits.in_row or values["skipped"] >= limits.total:
            clips = list(dict.fromkeys(self.skipped_names))
            more = f" and {len(clips) - 16} more" if len(clips) > 16 else ""
            raise InputError(
                f"step {step}: the loss or a gradient was not finite in {values['skipped_in_row']} steps in a row, "
                f"{values['skipped']} in all (nonfinite.in_row={limits.in_row}, nonfinite.total={limits.total}); the "
                f"last good checkpoint is kept. Lower optimizer.learning_rate or look at the clips: "
                f"{'; '.join(clips[:16])}{more}"
            )


def _check_continuation(config: ConfigDict, workdir: Path) -> None:
    """Raises InputError, naming the field, if the run in `workdir` is not the one that `config` describes."""
    before = work_folder.read_run_config(workdir)
    now = json.loads(json.dumps(config.to_dict()))
    averaged = [bool(_at(fields, "average.decay")) for fields in (before, now)]
    for field in (*_FIXED, *(("lora.rank", "lora.targets") if config.trainable == LORA else ())):
        old, new = (_at(fields, field) for fields in (before, now))
        if old != new:
            raise InputError(
                f"{field}={new}: the run in {workdir} was started with {old}; keep that value or name another --workdir"
            )
    if averaged[0] != averaged[1]:
        raise InputError(
            f"average.decay={now['average']['decay']}: the run in {workdir} was started with "
            f"{_at(before, 'average.decay')}; an average cannot be started or dropped during a run"
        )


def _of_all_processes(names: list[str]) -> list[str]:
    """The names of the samples of all processes, which must all ask at once."""
    if jax.process_count() == 1:
        return names
    rows = np.array([name.encode()[:_NAME].ljust(_NAME) for name in names], f"S{_NAME}")
    gathered = multihost_utils.process_allgather(rows.view(np.uint8).reshape(len(names), _NAME))
    return [row.tobytes().decode(errors="replace").rstrip() for row in gathered.reshape(-1, _NAME)]


def _at(fields: Any, dotted: str) -> Any:
    """The value of a field; None where a damaged config does not have it."""
    for name in dotted.split("."):
        fields = fields.get(name) if isinstance(fields, Mapping) else None
    return fields


def _explain_memory(error: Exception, config: ConfigDict) -> Exception:
    """Out of memory as an InputError that names the settings that lower it; any other error as it is."""
    if "RESOURCE_EXHAUSTED" not in str(error):
        return error
    data, optimizer = config.data, config.optimizer
    first = str(error).strip().splitlines()[0][:200]
    return InputError(
        f"out of memory ({first}). These lower it: more pieces (optimizer.accumulate={optimizer.accumulate}), a "
        f"smaller data.batch_size={data.batch_size} or data.image_size={tuple(data.image_size)}, recomputing "
        f"(remat={config.remat}; full is least), splitting parameters over devices (mesh.fsdp={config.mesh.fsdp}), "
        f"cached latents (data.cached={data.cached}), optimizer.name=adafactor"
    )
