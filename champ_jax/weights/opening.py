"""Weights of every kind, opened in one way: a converted checkpoint, a training work folder, a packed model."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from champ_jax.common.errors import InputError
from champ_jax.models.champ import COMPONENTS, ChampConfig
from champ_jax.weights import packed, work_folder
from champ_jax.weights.checkpoint import CONFIG, Tree, cast, describe, load_checkpoint, model_of, read_config


@dataclasses.dataclass(frozen=True)
class Weights:
    """Weights that were found; their arrays are read by `load`.

    Attributes:
      path: the directory or file.
      model: sizes of the networks and noise schedules.
      identity: a hash that other weights do not have.
      parameters: the number of parameters, 0 if it is known only after reading.
      components: the networks there are, of COMPONENTS, in that order.
      sources: how the files a checkpoint was converted from stored each tensor; empty for other kinds.
      untrained: {part: where its values come from} of the parts that no training of a Champ has seen.
      added: files that are added to the weights when they are read.
    """

    path: Path
    model: ChampConfig
    identity: str
    parameters: int
    components: tuple[str, ...]
    sources: Mapping[str, Any]
    untrained: Mapping[str, str]
    _digests: Mapping[str, str]
    _read: Callable[[Sequence[str]], dict[str, Tree]]
    added: tuple[Path, ...] = ()

    @property
    def files(self) -> list[Path]:
        """The files and folders that are read."""
        if self.path.is_file():
            return [self.path, *self.added]
        names = (CONFIG, work_folder.MODEL, work_folder.INITIAL, work_folder.CHECKPOINTS, *COMPONENTS)
        return [*(self.path / name for name in names if (self.path / name).exists()), *self.added]

    def require(self, components: Sequence[str] = COMPONENTS) -> None:
        """Raises InputError, naming the first, if one of `components` is not there."""
        for name in components:
            if name not in self.components:
                raise InputError(f"{self.path}: has no {name}; convert all of pretrained_models")

    def load(self, components: Sequence[str] | None = None, dtype: Any = None) -> dict[str, Tree]:
        """Reads arrays.

        Args:
          components: names; None reads all there are.
          dtype: The dtype of the floating-point arrays returned; None leaves them as stored.

        Returns:
          {component: pure nested dict of numpy arrays}, for `champ_jax.models.functional.fill`.

        Raises:
          InputError: a component is not there, or its arrays are damaged.
        """
        names = self.components if components is None else tuple(components)
        self.require(names)
        trees = self._read(names)
        return {name: trees[name] if dtype is None else cast(trees[name], dtype) for name in names}

    def altered(
        self,
        change: Callable[[str, Tree], Tree],
        *,
        components: Iterable[str],
        identity: str,
        files: Sequence[Path],
    ) -> "Weights":
        """The same weights with some components changed when they are read.

        Args:
          change: gives the component's tree from its name and what is stored, which it may take apart.
          components: the names of those it changes.
          identity: tells the change apart from others.
          files: what it reads.
        """
        changed = set(components)

        def read(names: Sequence[str]) -> dict[str, Tree]:
            trees = self._read(names)
            return {name: change(name, tree) if name in changed else tree for name, tree in trees.items()}

        digests = {name: digest for name, digest in self._digests.items() if name not in changed}
        return dataclasses.replace(
            self, identity=self.identity + identity, added=(*self.added, *files), _digests=digests, _read=read
        )

    def digest(self, component: str, tree: Tree) -> str:
        """The sha256 of a component's arrays: as recorded when they were written, else of `tree`, read as stored."""
        return self._digests.get(component) or describe(tree)["sha256"]


def open_weights(path: str | os.PathLike) -> Weights:
    """Finds weights and reads their metadata, no arrays.

    Args:
      path: a converted checkpoint (`champ convert`), a training work folder (its newest checkpoint, averaged
        if it keeps an average), or a packed model (a .safetensors file of tools/pack_model.py).

    Raises:
      InputError: it is none of these, or damaged.
    """
    path = Path(path)
    if path.is_file():
        return _packed(path)
    if work_folder.is_work_folder(path):
        return _run(path)
    return _checkpoint(path)


def _checkpoint(path: Path) -> Weights:
    fields = read_config(path)
    described = {name: fields["components"][name] for name in COMPONENTS if name in fields["components"]}
    digests = {name: component["sha256"] for name, component in described.items()}
    return Weights(
        path=path,
        model=model_of(path, fields),
        identity="+".join(digests.values()),
        parameters=sum(component["parameters"] for component in described.values()),
        components=tuple(digests),
        sources=fields["sources"],
        untrained=fields["untrained"],
        _digests=digests,
        _read=lambda names: load_checkpoint(path, names)[1],
    )


def _run(path: Path) -> Weights:
    run = work_folder.RunCheckpoint.find(path)
    return Weights(path, run.model, run.identity, 0, COMPONENTS, {}, {}, {}, lambda names: run.load())


def _packed(path: Path) -> Weights:
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: holds no weights to open; name a folder of `champ convert` or a training's")
    model, (parameters, _) = packed.read_model(path), packed.size_of(path)
    identity = "packed-" + hashlib.sha256(path.read_bytes()).hexdigest()
    return Weights(path, model, identity, parameters, COMPONENTS, {}, {}, {}, lambda names: packed.unpack(path))
