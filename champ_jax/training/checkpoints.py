"""Writes the states of a run into its work folder, and restores them; `champ_jax.weights.work_folder` shows its layout.

Orbax writes a folder beside its place and renames it: a checkpoint that a kill cut short is not seen again. Digests of
all arrays are stored beside them; a state is restored only if it is, bit for bit, the one that was saved.
"""

import concurrent.futures
import contextlib
import dataclasses
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from champ_jax.common.errors import InputError, first_line
from champ_jax.common.files import write_json
from champ_jax.common.limits import require_space
from champ_jax.common.synchronization import wait_for_all
from champ_jax.models.champ import ChampConfig
from champ_jax.training.state import TrainState
from champ_jax.weights.digests import check_digests, digest_of_json, digest_of_piece, to_hex
from champ_jax.weights.flat import Flat
from champ_jax.weights.work_folder import (
    CHECKPOINTS,
    DIGESTS,
    INITIAL,
    INITIAL_DIGESTS,
    PROGRESS,
    read_initial_digests,
    write_model,
)

# What a failing disk says, in the words of errno, TensorStore and Orbax.
_DISK_TROUBLE = (
    "No space left",
    "Disk quota",
    "File too large",
    "Permission denied",
    "Read-only file system",
    "Input/output error",
    "Not a directory",
)


class Checkpoints:
    """The checkpoints of one run: written in the background, old ones deleted, the newest good one found again."""

    def __init__(self, workdir: str | os.PathLike, *, keep: int, keep_every: int):
        """Opens WORKDIR/checkpoints, made if need be.

        Args:
          workdir: the work folder.
          keep: how many of the newest to keep.
          keep_every: checkpoints of steps that are multiples of it are kept for good; 0: none.

        Raises:
          InputError: the folder cannot be written.
        """
        self.directory = Path(workdir).absolute() / CHECKPOINTS
        check_writable(self.directory)
        for name in ("absl", "asyncio"):  # Orbax reports there; what goes wrong is raised, too
            logging.getLogger(name).setLevel(logging.CRITICAL)
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, keep_period=keep_every or None, cleanup_tmp_directories=True
        )
        self._manager = ocp.CheckpointManager(self.directory, options=options)

    def steps(self) -> list[int]:
        """The steps there are whole checkpoints of, oldest first."""
        return sorted(self._manager.all_steps(read=True))

    def save(self, state: TrainState, *, seed: int, data: Mapping[str, Any]) -> None:
        """Starts writing a checkpoint; returns once the state's arrays may be overwritten. All processes call it.

        Args:
          state: after a step.
          seed: The seed of the run.
          data: the data iterator's state, that JSON can hold.

        Raises:
          InputError: an array of the state holds a number that is not finite, or this checkpoint or the one before
            cannot be written; says which one is the last good one.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        arrays = _items(state)
        digests, nonfinite = array_digests(arrays)
        if nonfinite:
            raise InputError(
                f"{self.directory}: the state of step {step} is not saved, {nonfinite[0]} holds numbers that are not "
                f"finite; {self._last_good()}. Lower optimizer.learning_rate and run the same command again"
            )
        progress = {
            "step": step,
            "seed": seed,
            "skipped": int(state.skipped),
            "skipped_in_row": int(state.skipped_in_row),
            "data": dict(data),
        }
        digests[PROGRESS] = digest_of_json(progress)
        with self._write_errors_explained(step):
            require_space(self.directory, sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)))
            items: dict[str, Any] = {name: ocp.args.StandardSave(tree) for name, tree in arrays.items() if tree}
            items |= {PROGRESS: ocp.args.JsonSave(progress), DIGESTS: ocp.args.JsonSave(digests)}
            self._manager.save(step, args=ocp.args.Composite(**items))

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The newest undamaged state and its progress; None if there is none. All processes call it at once.

        A checkpoint that any process cannot read, or that is not what was saved, is named on stdout, deleted,
        and the one before it taken.

        Args:
          like: a state of jax.ShapeDtypeStructs with shardings.

        Raises:
          InputError: there are checkpoints, but none is undamaged.
        """
        damaged = []
        for step in reversed(self.steps()):
            found, reason = None, "cannot be read by another process"
            try:
                found = self._read(step, like)
            except Exception as error:  # Orbax and TensorStore raise many kinds
                reason = f"cannot be read ({first_line(error)})"
            if _all_agree(found is not None):
                problem = found.find_damage()
                if _all_agree(problem is None):
                    for broken in damaged:
                        self._manager.delete(broken)
                    return found.state(like), dict(found.progress)
                reason = problem or reason
            if jax.process_index() == 0:
                print(f"{self.directory / str(step)}: {reason}; trying the checkpoint before it", flush=True)
            damaged.append(step)
        if damaged:
            raise InputError(f"{self.directory}: none of the checkpoints can be read; start another work folder")
        return None

    def _read(self, step: int, like: TrainState) -> "_Stored":
        items: dict[str, Any] = {name: ocp.args.StandardRestore(tree) for name, tree in _items(like).items() if tree}
        items[PROGRESS] = ocp.args.JsonRestore()
        if (self.directory / str(step) / DIGESTS).exists():
            items[DIGESTS] = ocp.args.JsonRestore()
        restored = dict(self._manager.restore(step, args=ocp.args.Composite(**items)).items())
        progress, digests = restored.pop(PROGRESS), restored.pop(DIGESTS, None)
        return _Stored({name: dict(arrays) for name, arrays in restored.items()}, progress, digests)

    def wait(self) -> None:
        """Returns when everything is on disk.

        Raises:
          InputError: it cannot be written.
        """
        with self._write_errors_explained():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for and ends the background threads; `wait` has raised their errors."""
        with contextlib.suppress(Exception):
            self._manager.close()

    @contextlib.contextmanager
    def _write_errors_explained(self, step: int | None = None) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            reason = first_line(error) if isinstance(error, InputError) else disk_trouble(error)
            if reason is None:
                raise
            raise InputError(
                f"{self.directory}: the checkpoint cannot be written ({reason}); {self._last_good(step)}. "
                "Free some space or repair the folder and run the same command again"
            ) from error

    def _last_good(self, failed: int | None = None) -> str:
        """Describes the newest whole checkpoint, which `failed` is not."""
        good = [step for step in self.steps() if step != failed]
        return f"the last good checkpoint is of step {good[-1]}" if good else "there is no checkpoint yet"


@dataclasses.dataclass(frozen=True)
class _Stored:
    """What a checkpoint on disk holds.

    Attributes:
      arrays: {'params', 'optimizer', 'average' if there is one: arrays by name}.
      progress: steps taken, seed, counters, the data iterator's state.
      digests: {item: digests of its arrays, or of the progress}; None where a version before there were any wrote it.
    """

    arrays: Mapping[str, Flat]
    progress: Any
    digests: Any

    def find_damage(self) -> str | None:
        """Describes what differs from what was saved; None if nothing does. All processes call it at once."""
        if self.digests is None:
            return None
        found = array_digests(self.arrays)[0] | {PROGRESS: {PROGRESS: digest_of_json(self.progress)}}
        stored = dict(self.digests) if isinstance(self.digests, Mapping) else {}
        stored[PROGRESS] = {PROGRESS: stored.get(PROGRESS)}
        try:
            for name, digests in found.items():
                check_digests(digests, stored.get(name), name)
        except InputError as error:
            return str(error)
        return None

    def state(self, like: TrainState) -> TrainState:
        """The train state, in the structure and the shardings of `like`."""
        leaves = [self.arrays["optimizer"][name] for name in _named_leaves(like.opt_state)]

        def counter(value: int, place: jax.ShapeDtypeStruct) -> jax.Array:
            return jax.device_put(np.int32(value), place.sharding)

        return TrainState(
            step=counter(self.progress["step"], like.step),
            params=self.arrays["params"],
            opt_state=jax.tree.unflatten(jax.tree.structure(like.opt_state), leaves),
            average=self.arrays.get("average", {}),
            skipped=counter(self.progress["skipped"], like.skipped),
            skipped_in_row=counter(self.progress["skipped_in_row"], like.skipped_in_row),
        )


def check_writable(directory: str | os.PathLike) -> None:
    """Makes a folder and writes a file in it; raises InputError if that fails."""
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=directory, prefix=".writable"):
            pass
    except OSError as error:
        raise InputError(f"{directory}: cannot be written ({error.strerror}); name another --workdir") from error


def disk_trouble(error: BaseException | None) -> str | None:
    """The words in an exception, or one it came from, that report a disk that is full, broken or not writable."""
    while error is not None:
        for words in _DISK_TROUBLE:
            if words in str(error):
                return words
        error = error.__cause__ or error.__context__
    return None


def save_initial(workdir: str | os.PathLike, model: ChampConfig, frozen: Flat, carried: Flat) -> None:
    """Writes what stays the same in a run, before its first step. Replaces the files of a run that never reached a
    checkpoint."""
    directory = Path(workdir).absolute() / INITIAL
    size = sum(leaf.nbytes for leaf in [*frozen.values(), *carried.values()])
    require_space(directory, size)
    if jax.process_index() == 0:
        shutil.rmtree(directory, ignore_errors=True)
    wait_for_all("initial")
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            for name, arrays in (("carried", carried), ("frozen", frozen)):
                if arrays:
                    checkpointer.save(directory / name, arrays)
                    checkpointer.wait_until_finished()
    except Exception as error:
        reason = disk_trouble(error)
        if reason is None:
            raise
        raise InputError(f"{directory}: cannot be written ({reason}); free some space and run again") from error
    digests, _ = array_digests({"carried": carried, "frozen": frozen})
    if jax.process_index() == 0:
        write_json(directory / INITIAL_DIGESTS, digests)
        write_model(workdir, model)
    wait_for_all("model")


def load_frozen(workdir: str | os.PathLike, like: Mapping[str, jax.ShapeDtypeStruct]) -> Flat:
    """The frozen variables as they were saved, in the shardings of `like`, whose dtypes are those they were saved in.

    Raises:
      InputError: they are damaged or missing.
    """
    folder = Path(workdir).absolute() / INITIAL / "frozen"
    expected = read_initial_digests(workdir).get("frozen")
    arrays: Flat | None = {}
    reason = "another process cannot read it"
    try:
        if like:
            with ocp.StandardCheckpointer() as checkpointer:
                arrays = dict(checkpointer.restore(folder, dict(like)))
    except Exception as error:  # Orbax and TensorStore raise many kinds
        arrays, reason = None, first_line(error)
    if not _all_agree(arrays is not None):
        raise InputError(
            f"{folder}: cannot be read ({reason}); restore it from a backup or start another work folder with "
            "--config.init of this one's trained parameters"
        )
    if expected is not None:
        check_digests(array_digests({"frozen": arrays})[0]["frozen"], expected, folder)
    return arrays


def array_digests(items: Mapping[str, Flat]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """The digests of arrays that may be on the devices of many processes. All processes call it at once.

    Args:
      items: {item: {name: jax.Array or numpy array, which all processes have}}.

    Returns:
      {item: {name: digest}} of the items that are not empty, and the names of the arrays that hold numbers that are not
      finite.
    """
    places = [(item, name) for item, arrays in items.items() for name in arrays]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:  # numpy leaves the interpreter to others
        found = list(pool.map(lambda place: _own_digest(items[place[0]][place[1]]), places))
    sums = [value for value, _ in found]
    nonfinite = np.array([not finite for _, finite in found], bool)
    if jax.process_count() > 1:
        halves = np.array([(value >> 32, value & 0xFFFFFFFF) for value in sums], np.uint32).reshape(-1, 2)
        gathered, flags = multihost_utils.process_allgather((halves, nonfinite))
        sums = [sum((int(high) << 32) + int(low) for high, low in pieces) % 2**64 for pieces in gathered.swapaxes(0, 1)]
        nonfinite = flags.any(axis=0)
    digests: dict[str, dict[str, str]] = {}
    for (item, name), value in zip(places, sums):
        digests.setdefault(item, {})[name] = to_hex(value)
    return digests, [f"{item} {name}" for (item, name), bad in zip(places, nonfinite) if bad]


def _own_digest(array: Any) -> tuple[int, bool]:
    """What this process adds to an array's digest, and whether its numbers are finite. Of pieces that several devices
    hold, one counts."""
    if not isinstance(array, jax.Array):
        pieces = [(np.asarray(array), (0,) * array.ndim)] if jax.process_index() == 0 else []
    else:
        shards = [shard for shard in array.addressable_shards if shard.replica_id == 0]
        pieces = [(np.asarray(shard.data), tuple(part.start or 0 for part in shard.index)) for shard in shards]
    total = sum(digest_of_piece(values, start, array.shape) for values, start in pieces) % 2**64
    return total, all(_is_finite(values) for values, _ in pieces)


def _is_finite(values: np.ndarray) -> bool:
    return not jnp.issubdtype(values.dtype, jnp.floating) or bool(np.isfinite(values).all())


def _all_agree(here: bool) -> bool:
    """Whether all processes say so."""
    return bool(np.all(multihost_utils.process_allgather(np.array(here))))


def _items(state: TrainState) -> dict[str, Flat]:
    return {"params": state.params, "optimizer": _named_leaves(state.opt_state), "average": state.average}


def _named_leaves(tree: Any) -> Flat:
    """A pytree as a flat dict by its paths: no class of Optax's is needed to read it."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
