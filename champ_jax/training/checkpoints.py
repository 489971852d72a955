"""Writes the states of a run into its work folder, and restores them; `champ_jax.weights.work_folder` shows its layout.

Orbax writes a folder beside its place and renames it: a checkpoint
that a kill cut short is not seen again.
"""

import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from champ_jax.common.errors import InputError
from champ_jax.common.limits import require_space
from champ_jax.common.synchronization import wait_for_all
from champ_jax.models.champ import ChampConfig
from champ_jax.training.step import TrainState
from champ_jax.weights.flat import Flat
from champ_jax.weights.work_folder import CHECKPOINTS, INITIAL, first_line, write_model

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
        """Starts writing a checkpoint; returns once the state's arrays may be overwritten.

        Args:
          state: after a step.
          seed: of the run.
          data: the data iterator's state, that JSON can hold.

        Raises:
          InputError: this one or the one before cannot be written; says which one is the last good one.
        """
        step = int(state.step)
        if step in self._manager.all_steps():
            return
        arrays = _items(state)
        progress = {
            "step": step,
            "seed": seed,
            "skipped": int(state.skipped),
            "skipped_in_row": int(state.skipped_in_row),
            "data": dict(data),
        }
        with self._disk_trouble_told(step):
            require_space(self.directory, sum(leaf.nbytes for leaf in jax.tree.leaves(arrays)))
            items = {name: ocp.args.StandardSave(tree) for name, tree in arrays.items() if tree}
            self._manager.save(step, args=ocp.args.Composite(progress=ocp.args.JsonSave(progress), **items))

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """The newest state that can be read, and its progress; None if there is none.

        A checkpoint that cannot be read, be it by one process, is told, deleted, and the one before it taken.

        Args:
          like: a state of jax.ShapeDtypeStructs with shardings.

        Raises:
          InputError: there are checkpoints, but not one can be read.
        """
        damaged = []
        for step in reversed(self.steps()):
            restored = None
            try:
                restored = self._restore(step, like)
            except Exception as error:  # Orbax and TensorStore raise many kinds
                reason = first_line(error)
                print(f"{self.directory / str(step)}: cannot be read ({reason}); trying the one before", flush=True)
            if not _all_agree(restored is not None):
                damaged.append(step)
                continue
            for broken in damaged:
                self._manager.delete(broken)
            return restored
        if damaged:
            raise InputError(f"{self.directory}: not one checkpoint can be read; start another work folder")
        return None

    def _restore(self, step: int, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        items = {name: ocp.args.StandardRestore(tree) for name, tree in _items(like).items() if tree}
        restored = self._manager.restore(step, args=ocp.args.Composite(progress=ocp.args.JsonRestore(), **items))
        progress = restored["progress"]
        leaves = [restored["optimizer"][name] for name in _named_leaves(like.opt_state)]

        def counter(value: int, place: jax.ShapeDtypeStruct) -> jax.Array:
            return jax.device_put(np.int32(value), place.sharding)

        state = TrainState(
            step=counter(progress["step"], like.step),
            params=dict(restored["params"]),
            opt_state=jax.tree.unflatten(jax.tree.structure(like.opt_state), leaves),
            average=dict(restored["average"]) if like.average else {},
            skipped=counter(progress["skipped"], like.skipped),
            skipped_in_row=counter(progress["skipped_in_row"], like.skipped_in_row),
        )
        return state, progress

    def wait(self) -> None:
        """Returns when everything is on disk.

        Raises:
          InputError: it cannot be written.
        """
        with self._disk_trouble_told():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits and ends the background threads; errors of theirs have been raised by `wait`."""
        with contextlib.suppress(Exception):
            self._manager.close()

    @contextlib.contextmanager
    def _disk_trouble_told(self, step: int | None = None) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            reason = first_line(error) if isinstance(error, InputError) else disk_trouble(error)
            if reason is None:
                raise
            good = [done for done in self.steps() if done != step]
            last = f"the last good checkpoint is of step {good[-1]}" if good else "there is no checkpoint yet"
            raise InputError(
                f"{self.directory}: the checkpoint cannot be written ({reason}); {last}. "
                "Free some space or mend the folder and run the same command again"
            ) from error


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
    """The words in an exception, or one it came from, that tell of a disk that is full, broken or not ours to write."""
    while error is not None:
        for words in _DISK_TROUBLE:
            if words in str(error):
                return words
        error = error.__cause__ or error.__context__
    return None


def ignore_orphaned_writes() -> None:
    """For commands: keeps what a failed checkpoint's other writes say off stderr.

    When one array cannot be written, Orbax raises that and closes its event loop; the writes of the other arrays end
    later, find it closed, and would each print a traceback.
    """
    otherwise = sys.unraisablehook

    def hook(event: Any) -> None:
        if not (isinstance(event.exc_value, RuntimeError) and str(event.exc_value) == "Event loop is closed"):
            otherwise(event)

    sys.unraisablehook = hook


def save_initial(workdir: str | os.PathLike, model: ChampConfig, frozen: Flat, carried: Flat) -> None:
    """Writes what stays the same in a run, before its first step. Replaces what a run left that never got to a
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
    if jax.process_index() == 0:
        write_model(workdir, model)
    wait_for_all("model")


def load_frozen(workdir: str | os.PathLike, like: Mapping[str, jax.ShapeDtypeStruct]) -> Flat:
    """The frozen variables in the dtypes and shardings of `like`."""
    with ocp.StandardCheckpointer() as checkpointer:
        return dict(checkpointer.restore(Path(workdir).absolute() / INITIAL / "frozen", dict(like)))


def _all_agree(here: bool) -> bool:
    """Whether all processes say so."""
    return bool(np.all(multihost_utils.process_allgather(np.array(here))))


def _items(state: TrainState) -> dict[str, Flat]:
    return {"params": state.params, "optimizer": _named_leaves(state.opt_state), "average": state.average}


def _named_leaves(tree: Any) -> Flat:
    """A pytree as a flat dict by its paths: no class of Optax's is needed to read it."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
