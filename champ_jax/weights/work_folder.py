"""A training work folder on disk, and its newest checkpoint as weights for inference.

    WORKDIR/config.json              the effective config of the run
    WORKDIR/model.json               the model: sizes, conditions, schedules (`ChampConfig.to_json`)
    WORKDIR/initial/frozen/          variables the step reads and does not change, float32
    WORKDIR/initial/carried/         what the step does not read: tensors for the way back to PyTorch's files, and
                                     in stage 1 the motion modules it was given
    WORKDIR/checkpoints/STEP/        params, optimizer, average (if there is one), progress (step, seed, data iterator)

Every array tree is a flat dict by dotted path. `champ_jax.training.checkpoints` writes the arrays.
"""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path
from champ_jax.models.champ import ChampConfig
from champ_jax.weights.flat import Flat, to_components
from champ_jax.weights.orbax_arrays import lone_reader

CHECKPOINTS, INITIAL, CONFIG, MODEL = "checkpoints", "initial", "config.json", "model.json"


def write_model(workdir: str | os.PathLike, model: ChampConfig) -> None:
    """Writes what `read_model` reads."""
    with atomic_path(Path(workdir) / MODEL) as path:
        path.write_text(json.dumps(model.to_json(), indent=1) + "\n")


def read_model(workdir: str | os.PathLike) -> ChampConfig:
    """The model of a work folder.

    Raises:
      InputError: it has none; it is no work folder, or its run never began.
    """
    path = Path(workdir) / MODEL
    if not path.is_file():
        raise InputError(f"{workdir}: is no training work folder, it has no {MODEL}")
    return ChampConfig.from_json(json.loads(path.read_text()))


def is_work_folder(path: str | os.PathLike) -> bool:
    """Whether `path` is a training work folder."""
    return (Path(path) / MODEL).is_file() and (Path(path) / CHECKPOINTS).is_dir()


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A checkpoint of a run as inference weights, found but not read.

    Attributes:
      model: whose inference schedule is the one it was trained on. `motion` is None for a stage-1 run that was given no
        motion modules.
      step: of the checkpoint.
      folders: that hold the arrays.
    """

    model: ChampConfig
    step: int
    folders: tuple[Path, ...]

    @classmethod
    def find(cls, workdir: str | os.PathLike, step: int | None = None, *, average: bool = True) -> "Snapshot":
        """The checkpoint of `step`, None: the newest; `average` takes the parameters' moving average, if there is one.

        Raises:
          InputError: no work folder, or no checkpoint (of that step) in it.
        """
        workdir = Path(workdir).absolute()
        model = read_model(workdir)
        steps = sorted(int(path.name) for path in (workdir / CHECKPOINTS).glob("*") if path.name.isdecimal())
        if not steps:
            raise InputError(f"{workdir}: the run has saved no checkpoint yet")
        if step is not None and step not in steps:
            raise InputError(f"{workdir}: has no checkpoint of step {step}; it has {', '.join(map(str, steps))}")
        step = steps[-1] if step is None else step
        place = workdir / CHECKPOINTS / str(step)
        trained = place / "average" if average and (place / "average").is_dir() else place / "params"
        folders = (workdir / INITIAL / "frozen", workdir / INITIAL / "carried", trained)
        model = dataclasses.replace(model, inference=model.training)
        return cls(model, step, tuple(folder for folder in folders if folder.is_dir()))

    @property
    def identity(self) -> str:
        """A hash that no other checkpoint has, a copy of this one excepted: Orbax draws its files' names at random."""
        total = hashlib.sha256(f"{self.model}\n".encode())
        for folder in self.folders:
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                total.update(f"{folder.name}/{path.relative_to(folder)} {path.stat().st_size}\n".encode())
        return f"step-{self.step}-{self.folders[-1].name}-{total.hexdigest()}"

    def load(self) -> dict[str, dict[Any, Any]]:
        """{component: nested dict of numpy arrays}, for `models.functional.fill`; raises InputError if damaged."""
        arrays: Flat = {}
        for folder in self.folders:
            arrays |= _read_arrays(folder)
        return to_components(arrays)


def load_for_inference(
    workdir: str | os.PathLike, step: int | None = None, *, average: bool = True
) -> tuple[ChampConfig, dict[str, dict[Any, Any]]]:
    """The model and the weights of a training run; arguments and errors are those of `Snapshot`."""
    snapshot = Snapshot.find(workdir, step, average=average)
    return snapshot.model, snapshot.load()


def _read_arrays(folder: Path) -> Flat:
    """A flat dict as numpy arrays, whatever devices wrote it."""
    try:
        with lone_reader() as checkpointer:
            names = checkpointer.metadata(folder).item_metadata.tree
            wanted = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
            return dict(checkpointer.restore(folder, args=ocp.args.PyTreeRestore(restore_args=wanted)))
    except Exception as error:  # Orbax and TensorStore raise many kinds
        raise InputError(f"{folder}: is damaged ({first_line(error)}); take another checkpoint") from error


def first_line(error: Exception) -> str:
    """The first line of an exception's message, at most 300 characters; its type where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
