"""Checkpoint directories: config.json and one Orbax tree of arrays a component.

    DIR/config.json   format, version, model (`ChampConfig.to_json`), sources (how the files it came from stored each
                      tensor), components ({name: tensors, parameters, bytes, sha256}), untrained ({part: where its
                      values come from} of the parts that no training of a Champ has seen; absent: none)
    DIR/{vae,image_encoder,reference_unet,denoising_unet,guidance}/

The trees are pure nested dicts whose names are the paths of the Flax state. `sha256` is over every array's name, dtype,
shape and bytes: it identifies the weights whatever the disk format, and a damaged disk is noticed on loading.
"""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp

from champ_jax.common.errors import InputError, first_line, listed
from champ_jax.common.files import atomic_path, find_type, read_json
from champ_jax.common.limits import require_memory
from champ_jax.common.outputs import Output, claim, folder_with
from champ_jax.models.champ import ChampConfig
from champ_jax.weights.flat import dotted
from champ_jax.weights.names import flatten, is_table, unflatten
from champ_jax.weights.orbax_arrays import independent_checkpointer

FORMAT = "champ_jax weights"
VERSION = 1
CONFIG = "config.json"
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16)}

Tree = dict[Any, Any]


@dataclasses.dataclass
class Writer:
    """Collects components, one at a time, so that no more than one need be in memory.

    Attributes:
      directory: where they go for now.
      components: what config.json will say of each.
    """

    directory: Path
    components: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)
    finished: bool = False

    def add(self, name: str, tree: Tree) -> None:
        """Writes a component: a pure nested dict of arrays (numpy's, or JAX's on this host)."""
        arrays = unflatten((path, np.asarray(leaf)) for path, leaf in flatten(tree))
        self.components[name] = describe(arrays)
        # Uncompressed: random mantissas hardly shrink, and compressing takes five times as long as writing.
        with _quiet(), ocp.Checkpointer(ocp.PyTreeCheckpointHandler(use_compression=False)) as checkpointer:
            checkpointer.save(self.directory / name, args=ocp.args.PyTreeSave(arrays))

    def finish(
        self,
        model: Mapping[str, Any],
        sources: Mapping[str, Any] | None = None,
        untrained: Mapping[str, str] | None = None,
    ) -> None:
        """Writes config.json.

        Args:
          model: ChampConfig.to_json().
          sources: how the source files stored each tensor (`convert` records it).
          untrained: {part: where its values come from} of the parts that were not trained as parts of a Champ.
        """
        fields = {
            "format": FORMAT,
            "version": VERSION,
            "model": model,
            "sources": sources or {},
            "components": self.components,
            "untrained": dict(untrained or {}),
        }
        (self.directory / CONFIG).write_text(json.dumps(fields, indent=1) + "\n")
        self.finished = True


@contextlib.contextmanager
def checkpoint_writer(directory: str | os.PathLike) -> Iterator[Writer]:
    """A Writer for `directory`, which appears, or is replaced, when the block ends after `finish`.

    Raises:
      InputError: the folder cannot be written, or holds something else than a checkpoint, or the disk is full; what was
        there stays.
    """
    directory = Path(directory)
    claim([Output("checkpoint", directory, CHECKPOINT)])
    with atomic_path(directory, folder=True) as temporary:
        temporary.mkdir()
        writer = Writer(temporary.absolute())
        yield writer
        if not writer.finished:
            raise RuntimeError("the checkpoint was not finished")


def save_checkpoint(
    directory: str | os.PathLike,
    components: Mapping[str, Tree],
    model: Mapping[str, Any],
    sources: Mapping[str, Any] | None = None,
) -> None:
    """Writes a checkpoint directory, whole or not at all.

    Args:
      directory: The directory to write or replace.
      components: {name: pure nested dict of arrays}.
      model: ChampConfig.to_json().
      sources: the `sources` of the config.json the weights came with, so that they can go back as they came.
    """
    with checkpoint_writer(directory) as writer:
        for name, tree in components.items():
            writer.add(name, tree)
        writer.finish(model, sources)


def read_config(directory: str | os.PathLike) -> dict[str, Any]:
    """The config.json of a checkpoint directory: fields format, version, model, sources, components, untrained.

    Raises:
      InputError: the directory is not a champ_jax checkpoint, or of a version this program does not know.
    """
    directory = Path(directory)
    path = directory / CONFIG
    if find_type(directory) != "folder":
        raise InputError(f"{directory}: no such checkpoint directory; make one with `champ convert`")
    if find_type(path) is None:
        raise InputError(f"{directory}: is not a checkpoint, it has no {CONFIG}; make one with `champ convert`")
    config = read_json(path)
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise InputError(f"{path}: is not the config of a champ_jax checkpoint; make one with `champ convert`")
    if config.get("version") != VERSION:
        raise InputError(
            f"{path}: is of version {config.get('version')}, this program reads version {VERSION}; "
            "convert the weights again"
        )
    config.setdefault("untrained", {})  # older checkpoints do not have the field
    for field, problem in _damaged_fields(config):
        raise InputError(f"{path}: is damaged ({field} {problem}); convert the weights again")
    return config


def model_of(directory: str | os.PathLike, config: Mapping[str, Any]) -> ChampConfig:
    """The model that a checkpoint's config.json describes; raises InputError, naming the file, if it describes none."""
    path = Path(directory) / CONFIG
    try:
        return ChampConfig.from_json(config["model"])
    except (InputError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{path}: {first_line(error)}; convert the weights again") from error


def _damaged_fields(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(field, what is wrong with it)."""
    for field in ("model", "sources", "components", "untrained"):
        if not isinstance(config.get(field), dict):
            yield field, "is not an object" if field in config else "is missing"
            return
    for name, entry in config["components"].items():
        if not name.isidentifier():  # it names a folder
            yield f"components {name[:100]!r}", "is not a component"
        elif not isinstance(entry, dict) or not isinstance(entry.get("sha256"), str):
            yield f"components.{name}", "has no sha256"
        elif any(type(entry.get(number)) is not int or entry[number] < 0 for number in ("parameters", "bytes")):
            yield f"components.{name}", "has no sizes"
    for name, source in config["sources"].items():
        if not isinstance(source, dict) or not isinstance(source.get("dtype", ""), str):
            yield f"sources.{name}", "has no dtype"
        elif not isinstance(source.get("exceptions", {}), dict) or not isinstance(source.get("absent", []), list):
            yield f"sources.{name}", "is not the record of a file"
    for name, origin in config["untrained"].items():
        if not isinstance(origin, str):
            yield f"untrained.{name}", "is not text"


def load_checkpoint(
    directory: str | os.PathLike,
    components: Sequence[str] | None = None,
    dtype: Any = None,
    *,
    expected: Mapping[str, Tree] | None = None,
) -> tuple[dict[str, Any], dict[str, Tree]]:
    """Reads a checkpoint directory.

    Args:
      directory: A directory that `save_checkpoint` or `champ convert` wrote.
      components: names to read; None reads all.
      dtype: The dtype of the floating-point arrays returned; None leaves them as stored.
      expected: {component: nested dict of arrays or ShapeDtypeStructs} the weights have to fit.

    Returns:
      config.json's fields, and {component: pure nested dict of numpy arrays}, for `champ_jax.models.functional.fill`.

    Raises:
      InputError: no checkpoint, a component it does not have, damaged arrays, or arrays that do not fit `expected`
        (the first five misfits are named, and their number).
    """
    directory = Path(directory).absolute()
    config = read_config(directory)
    trees = {}
    for name in config["components"] if components is None else components:
        if name not in config["components"]:
            raise InputError(f"{directory}: has no component {name}; it has {', '.join(config['components'])}")
        trees[name] = _load_component(directory / name, config["components"][name])
        if expected is not None:
            check_fit(trees[name], expected[name], directory / name)
        if dtype is not None:
            trees[name] = cast(trees[name], dtype)
    return config, trees


def _load_component(directory: Path, description: Mapping[str, Any]) -> Tree:
    if find_type(directory) != "folder":
        raise InputError(f"{directory}: is missing from the checkpoint; convert the weights again")
    require_memory(description["bytes"], f"{directory}", "free some memory")
    try:
        with _quiet(), independent_checkpointer() as checkpointer:
            stored = checkpointer.metadata(directory).item_metadata.tree
            size = sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for _, leaf in flatten(stored))
            if size != description["bytes"]:
                raise InputError(f"its arrays take {size:,} bytes, not {description['bytes']:,}")
            wanted = unflatten((path, ocp.RestoreArgs(restore_type=np.ndarray)) for path, _ in flatten(stored))
            arrays = checkpointer.restore(directory, args=ocp.args.PyTreeRestore(restore_args=wanted))
    except Exception as error:  # Orbax and TensorStore raise many kinds
        raise InputError(f"{directory}: is damaged ({first_line(error)}); convert the weights again") from error
    # Orbax writes the numbers of list entries as text.
    tree = unflatten((tuple(map(_number, path)), leaf) for path, leaf in flatten(arrays))
    if describe(tree)["sha256"] != description.get("sha256"):
        raise InputError(f"{directory}: is damaged (its arrays are not those written); convert the weights again")
    return tree


def check_fit(tree: Mapping[Any, Any], expected: Mapping[Any, Any], where: str | os.PathLike) -> None:
    """Raises InputError naming arrays of `tree` that are missing, unexpected or misshapen against `expected`."""
    have = {path: tuple(leaf.shape) for path, leaf in flatten(tree)}
    need = {path: tuple(leaf.shape) for path, leaf in flatten(expected)}
    problems = [f"{dotted(path)} is missing" for path in need if path not in have]
    problems += [f"{dotted(path)} is unexpected" for path in have if path not in need]
    problems += [
        f"{dotted(path)} is {have[path]}, the model has {need[path]}"
        for path in need
        if path in have and have[path] != need[path]
    ]
    if problems:
        raise InputError(f"{where}: the weights are of another architecture: {listed(problems)}")


def cast(tree: Tree, dtype: Any) -> Tree:
    """The tree with its floating-point arrays in `dtype`; takes `tree` apart so that the two never coexist whole."""
    for name, node in tree.items():
        if isinstance(node, dict):
            cast(node, dtype)
        elif is_floating(node.dtype):
            tree[name] = node.astype(dtype, copy=False)
    return tree


def is_floating(dtype: Any) -> bool:
    """Whether a dtype is a floating-point one, bfloat16 included."""
    return np.dtype(dtype).kind == "f" or np.dtype(dtype) == ml_dtypes.bfloat16


def describe(tree: Tree) -> dict[str, Any]:
    """What config.json says of a component: tensors, parameters, bytes, sha256."""
    leaves = sorted(((path, np.asarray(leaf)) for path, leaf in flatten(tree)), key=lambda item: dotted(item[0]))
    with concurrent.futures.ThreadPoolExecutor() as pool:  # hashlib lets other threads run
        digests = list(pool.map(lambda item: _digest(item[1]), leaves))
    total = hashlib.sha256()
    for (path, leaf), digest in zip(leaves, digests):
        total.update(f"{dotted(path)} {leaf.dtype.name} {leaf.shape} {digest}\n".encode())
    return {
        "tensors": len(leaves),
        "parameters": sum(leaf.size for path, leaf in leaves if not is_table(path)),
        "bytes": sum(leaf.nbytes for _, leaf in leaves),
        "sha256": total.hexdigest(),
    }


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data).hexdigest()


def _is_checkpoint(directory: Path) -> bool:
    """Whether the folder is a checkpoint and holds nothing besides."""
    try:
        known = {CONFIG, *read_config(directory)["components"]}
    except InputError:
        return False
    return all(entry.name in known for entry in directory.iterdir())


CHECKPOINT = folder_with("a converted checkpoint", _is_checkpoint)


def _number(name: Any) -> Any:
    return int(name) if isinstance(name, str) and name.isdecimal() else name


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what Orbax logs off stderr: its progress, and the errors that it also raises."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # what fails is raised, too
    try:
        yield
    finally:
        logger.setLevel(level)
