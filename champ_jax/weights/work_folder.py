"""A training work folder on disk, and its newest checkpoint as weights for inference.

    WORKDIR/config.json              the effective config of the run
    WORKDIR/model.json               the model: sizes, conditions, schedules (`ChampConfig.to_json`)
    WORKDIR/initial/frozen/          variables the step reads and does not change, float32
    WORKDIR/initial/carried/         what the step does not read: tensors for the way back to PyTorch's files, and
                                     in stage 1 the motion modules it was given
    WORKDIR/initial/digests.json     {'frozen', 'carried': {name: digest}}
    WORKDIR/checkpoints/STEP/        params (of a training by LoRA, adapters), optimizer, average (if there is one),
                                     progress (step, seed, data iterator), digests of all of these

Every array tree is a flat dict by dotted path. `champ_jax.training.checkpoints` writes the arrays;
`champ_jax.weights.digests` defines the digests, which older work folders do not have.
"""

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from champ_jax.common.errors import InputError, first_line
from champ_jax.common.files import read_json, real_output, write_json
from champ_jax.models.champ import ChampConfig
from champ_jax.weights.adapters import fuse
from champ_jax.weights.digests import check_digests, digest
from champ_jax.weights.flat import Flat, to_components
from champ_jax.weights.orbax_arrays import independent_checkpointer

CHECKPOINTS, INITIAL, CONFIG, MODEL = "checkpoints", "initial", "config.json", "model.json"
PROGRESS, DIGESTS = "progress", "digests"  # items of a checkpoint
INITIAL_DIGESTS = "digests.json"  # in initial/
_INITIAL_NAMES = ("frozen", "carried", INITIAL_DIGESTS, f".{INITIAL_DIGESTS}.")  # also with Orbax's temporary endings


def write_model(workdir: str | os.PathLike, model: ChampConfig) -> None:
    """Writes what `read_model` reads."""
    write_json(Path(workdir) / MODEL, model.to_json())


def read_model(workdir: str | os.PathLike) -> ChampConfig:
    """The model of a work folder.

    Raises:
      InputError: it has none (it is not a work folder, or its run never began), or it is damaged.
    """
    path = Path(workdir) / MODEL
    if not path.exists():
        raise InputError(f"{workdir}: is not a training work folder, it has no {MODEL}")
    fields = read_json(path)
    try:
        return ChampConfig.from_json(fields)
    except (InputError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: is damaged ({first_line(error)}); restore it from a backup or name another --workdir"
        ) from error


def read_run_config(workdir: str | os.PathLike) -> dict[str, Any]:
    """The config of the run in a work folder, as JSON has it.

    Raises:
      InputError: it is missing or damaged.
    """
    path = Path(workdir) / CONFIG
    if not path.exists():
        raise InputError(f"{path}: is missing; restore it from a backup or name another --workdir")
    fields = read_json(path)
    groups = ("data", "optimizer", "average", "schedule")
    if not isinstance(fields, dict) or not all(isinstance(fields.get(name), dict) for name in groups):
        raise InputError(f"{path}: is not the config of a training; name another --workdir or restore it from a backup")
    return fields


def require_own(workdir: str | os.PathLike) -> None:
    """Raises InputError if a run in `workdir` would write over files that no training run wrote."""
    workdir = real_output(workdir, folder=True)
    if (workdir / CONFIG).exists():
        read_run_config(workdir)
    if (workdir / MODEL).exists():
        read_model(workdir)
    initial = workdir / INITIAL
    if initial.exists() and not initial.is_dir():
        raise InputError(f"{initial}: is not a folder; name another --workdir")
    foreign = [path.name for path in sorted(initial.glob("*")) if not path.name.startswith(_INITIAL_NAMES)]
    if foreign:
        raise InputError(f"{initial}: holds {foreign[0]}, which no training wrote; name another --workdir")


def read_initial_digests(workdir: str | os.PathLike) -> dict[str, dict[str, str]]:
    """{'frozen', 'carried': {name: digest}} of a work folder's initial arrays; {} in one that is older than digests.

    Raises:
      InputError: the file is damaged.
    """
    path = Path(workdir) / INITIAL / INITIAL_DIGESTS
    if not path.exists():
        return {}
    fields = read_json(path)
    if not isinstance(fields, dict) or set(fields) - {"frozen", "carried"}:
        raise InputError(f"{path}: is damaged (it does not hold digests); restore it from a backup")
    return fields


def saved_steps(workdir: str | os.PathLike) -> list[int]:
    """The steps there are whole checkpoints of, oldest first; Orbax gives a folder its name when it is complete."""
    return sorted(int(path.name) for path in (Path(workdir) / CHECKPOINTS).glob("*") if path.name.isdecimal())


def is_work_folder(path: str | os.PathLike) -> bool:
    """Whether `path` is a training work folder."""
    return (Path(path) / MODEL).is_file() and (Path(path) / CHECKPOINTS).is_dir()


@dataclasses.dataclass(frozen=True)
class RunCheckpoint:
    """A checkpoint of a run as inference weights, found but not read.

    Attributes:
      model: The model; its inference schedule is the one it was trained on. `motion` is None for a stage-1 run
        that was given no motion modules.
      step: The checkpoint's step.
      folders: the folders that hold the arrays, the trained ones' last, and the digests of what they hold (None: not
        known).
    """

    model: ChampConfig
    step: int
    folders: Mapping[Path, Mapping[str, str] | None]

    @classmethod
    def find(cls, workdir: str | os.PathLike, step: int | None = None, *, average: bool = True) -> "RunCheckpoint":
        """The checkpoint of `step`, None: the newest; `average` takes the parameters' moving average, if there is one.

        Raises:
          InputError: no work folder, or no checkpoint (of that step) in it.
        """
        workdir = Path(workdir).absolute()
        model = read_model(workdir)
        steps = saved_steps(workdir)
        if not steps:
            raise InputError(f"{workdir}: the run has saved no checkpoint yet")
        if step is not None and step not in steps:
            raise InputError(f"{workdir}: has no checkpoint of step {step}; it has {', '.join(map(str, steps))}")
        step = steps[-1] if step is None else step
        place = workdir / CHECKPOINTS / str(step)
        trained = place / "average" if average and (place / "average").is_dir() else place / "params"
        initial = read_initial_digests(workdir)
        folders = {workdir / INITIAL / name: initial.get(name) for name in ("frozen", "carried")}
        for folder, digests in folders.items():
            if digests is not None and not folder.is_dir():
                raise InputError(f"{folder}: is missing; restore it from a backup")
        record = place / DIGESTS / "metadata"
        found = read_json(record) if record.exists() else None
        if found is not None and not isinstance(found, dict):
            raise InputError(f"{record}: is damaged (it does not hold digests); take another checkpoint")
        folders[trained] = None if found is None else found.get(trained.name, {})
        folders = {folder: digests for folder, digests in folders.items() if folder.is_dir() or folder == trained}
        model = dataclasses.replace(model, inference=model.training)
        return cls(model, step, folders)

    @property
    def identity(self) -> str:
        """A hash that no other checkpoint has, a copy of this one excepted: Orbax draws its files' names at random."""
        total = hashlib.sha256(f"{self.model}\n".encode())
        for folder in self.folders:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                total.update(f"{folder.name}/{path.relative_to(folder)} {path.stat().st_size}\n".encode())
        return f"step-{self.step}-{list(self.folders)[-1].name}-{total.hexdigest()}"

    def load(self) -> dict[str, dict[Any, Any]]:
        """{component: nested dict of numpy arrays}, for `models.functional.fill`; raises InputError if damaged.

        Adapters are added to their kernels.
        """
        arrays: Flat = {}
        for folder in self.folders:
            arrays |= self._read(folder)
        return to_components(fuse(arrays))

    def trained(self) -> Flat:
        """The trained arrays alone, adapters as they are; raises InputError if damaged."""
        return self._read(list(self.folders)[-1])

    def _read(self, folder: Path) -> Flat:
        read, digests = _read_arrays(folder), self.folders[folder]
        if digests is not None:
            check_digests({name: digest(array) for name, array in read.items()}, digests, folder)
        return read


def load_for_inference(
    workdir: str | os.PathLike, step: int | None = None, *, average: bool = True
) -> tuple[ChampConfig, dict[str, dict[Any, Any]]]:
    """The model and the weights of a training run; arguments and errors are those of `RunCheckpoint`."""
    checkpoint = RunCheckpoint.find(workdir, step, average=average)
    return checkpoint.model, checkpoint.load()


def _read_arrays(folder: Path) -> Flat:
    """A flat dict as numpy arrays, whatever devices wrote it."""
    try:
        with independent_checkpointer() as checkpointer:
            names = checkpointer.metadata(folder).item_metadata.tree
            wanted = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
            return dict(checkpointer.restore(folder, args=ocp.args.PyTreeRestore(restore_args=wanted)))
    except Exception as error:  # Orbax and TensorStore raise many kinds
        raise InputError(f"{folder}: is damaged ({first_line(error)}); take another checkpoint") from error
