"""Weights of the evaluation networks: the published PyTorch files -> one folder of safetensors files.

The tensors inside decide which file is which, so names do not matter:

  published file                                  tensors                       converted
  torchvision's vgg16 / alexnet                   features.N.{weight,bias}      lpips_vgg / lpips_alex, together with
  LPIPS 0.1's vgg.pth / alex.pth                  linI.model.1.weight           the linear weights
  pt_inception-2015-12-05 (pytorch-fid)           Mixed_5b.branch1x1.conv...    fid_inception
  resnet-50-kinetics.pth (3D ResNets)             layer1.0.conv1...            resnet3d
  i3d_pretrained_400.pt (DisCo, flat)             Conv3d_1a_7x7.conv3d...       i3d
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from safetensors.numpy import save_file

from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path, find_type, read_json, require_folder
from champ_jax.common.outputs import Output, claim, folder_with
from champ_jax.evaluation.networks import I3D, LPIPS, FIDInception, ResNet3D
from champ_jax.models.functional import fill
from champ_jax.weights.names import unflatten
from champ_jax.weights.pretrained_tree import SUFFIXES
from champ_jax.weights.tensor_files import open_tensors

Tensors = Mapping[str, np.ndarray]

NETWORKS: dict[str, Callable[[nnx.Rngs], nnx.Module]] = {
    "lpips_vgg": lambda rngs: LPIPS("vgg", rngs=rngs),
    "lpips_alex": lambda rngs: LPIPS("alex", rngs=rngs),
    "fid_inception": lambda rngs: FIDInception(rngs=rngs),
    "resnet3d": lambda rngs: ResNet3D(rngs=rngs),
    "i3d": lambda rngs: I3D(rngs=rngs),
}

_SPELLINGS = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


_KIND = "evaluation networks"  # in the config.json of a converted folder


def _is_converted(folder: Path) -> bool:
    try:
        return read_json(folder / "config.json").get("kind") == _KIND
    except (InputError, AttributeError):
        return False


CONVERTED = folder_with("a folder of evaluation networks", _is_converted)


def _state(name: str) -> nnx.State:
    """The network's state with shapes in place of arrays."""
    return nnx.state(nnx.eval_shape(lambda: NETWORKS[name](nnx.Rngs(0))))


def _published_key(path: tuple) -> str:
    """The published file's key of a parameter, in lower case: its path, but for the spelling of the last name."""
    *parents, leaf = map(str, path)
    if parents == ["lin"]:
        return f"lin{leaf}.model.1.weight"
    return ".".join([*parents, _SPELLINGS.get(leaf, leaf)])


def _to_flax(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """(out, in, *window) -> (*window, in, out) for kernels, everything else flat; float32."""
    if array.ndim == len(shape) >= 4:
        array = np.moveaxis(array, (0, 1), (-1, -2))
    return np.ascontiguousarray(array.reshape(shape) if array.size == np.prod(shape) else array, np.float32)


def from_published(name: str, tensors: Tensors, source: str = "") -> dict[str, np.ndarray]:
    """The tensors of a published file (for LPIPS: of both) as {'path/of/parameter': array} of network `name`.

    Tensors the network does not use (classifiers, batch counters) are left out.

    Raises:
      InputError: a tensor is missing or of another shape; the message starts with `source`.
    """
    lowered = {key.lower(): value for key, value in tensors.items()}
    converted = {}
    for path, leaf in nnx.to_flat_state(_state(name)):
        key = _published_key(path)
        if key not in lowered:
            raise InputError(f"{source or name}: lacks the tensor {key} of {name}")
        array = _to_flax(np.asarray(lowered[key]), leaf.shape)
        if array.shape != leaf.shape:
            raise InputError(f"{source or name}: {key} has shape {lowered[key].shape}, {name} needs another")
        converted["/".join(map(str, path))] = array
    return converted


def build(name: str, converted: Tensors, source: str = "") -> nnx.Module:
    """The network `name` with the arrays that `from_published` gave.

    Raises:
      InputError: an array is missing or of another shape; the message starts with `source`.
    """
    abstract = nnx.eval_shape(lambda: NETWORKS[name](nnx.Rngs(0)))
    graph, state = nnx.split(abstract)
    leaves = []
    for path, leaf in nnx.to_flat_state(state):
        key = "/".join(map(str, path))
        if key not in converted or converted[key].shape != leaf.shape:
            raise InputError(f"{source or name}: no array {key} of shape {leaf.shape}; convert the weights again")
        leaves.append((path, jax.numpy.asarray(converted[key])))
    return nnx.merge(graph, fill(state, unflatten(leaves)))


# How a file shows what it is: (a key of it, dimensions of that tensor, the network).
_EVIDENCE = (
    ("Conv3d_1a_7x7.conv3d.weight", 5, "i3d"),
    ("layer1.0.conv1.weight", 5, "resnet3d"),
    ("Mixed_5b.branch1x1.conv.weight", 4, "fid_inception"),
)


# Channels of the taps that LPIPS's linear layers read; SqueezeNet's file, published beside them, has other ones.
_LINEAR = re.compile(r"lin\d\.model\.1\.weight")
_LINEAR_WIDTHS = {(64, 128, 256, 512, 512): "lpips_vgg", (64, 192, 384, 256, 256): "lpips_alex"}


def recognize(shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, str] | None:
    """What a published file is, from {key: shape}: (network, 'all', 'backbone' or 'linear'), None if none of them."""
    for key, dimensions, name in _EVIDENCE:
        if len(shapes.get(key, ())) == dimensions:
            return name, "all"
    widths = tuple(shape[1] for key, shape in sorted(shapes.items()) if _LINEAR.fullmatch(key) and len(shape) == 4)
    if widths in _LINEAR_WIDTHS:
        return _LINEAR_WIDTHS[widths], "linear"
    if shapes.get("features.0.weight") == (64, 3, 11, 11):
        return "lpips_alex", "backbone"
    if shapes.get("features.0.weight") == (64, 3, 3, 3) and shapes.get("features.28.weight") == (512, 512, 3, 3):
        return "lpips_vgg", "backbone"
    return None


def find_published(source: str | Path) -> dict[tuple[str, str], Path]:
    """{(network, part): file} of the published files in the folder `source`; empty if it holds none of them.

    Raises:
      InputError: two files are the same, or a weights file is broken.
    """
    found: dict[tuple[str, str], Path] = {}
    folder = Path(source)
    for path in sorted(require_folder(folder).iterdir()) if find_type(folder) == "folder" else []:
        if path.suffix not in SUFFIXES or not path.is_file():
            continue
        with open_tensors(path) as file:
            part = recognize({key: info.shape for key, info in file.tensors.items()})
        if part is None:
            continue
        if part in found:
            raise InputError(f"{path}: {found[part].name} is {part[0]} ({part[1]}) too; leave one of them")
        found[part] = path
    return found


def convert(source: str | Path, output: str | Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Writes the networks whose published files are in the folder `source` to `output`, whole or not at all.

    Returns:
      {network: names of the files it was read from}, and {network: what it lacks} of those left out.

    Raises:
      InputError: no network is complete, or a tensor does not fit.
    """
    found = find_published(source)
    if not found:
        raise InputError(f"{source}: holds no file of an evaluation network; docs/evaluation.md lists them")
    networks: dict[str, list[Path]] = {}
    lacking: dict[str, str] = {}
    for name in (name for name in NETWORKS if any(name == other for other, _ in found)):
        parts = ["backbone", "linear"] if name.startswith("lpips") else ["all"]
        absent = [part for part in parts if (name, part) not in found]
        if absent:
            have = next(path.name for (other, _), path in found.items() if other == name)
            lacking[name] = f"{have} needs the file of the {absent[0]} weights beside it"
        else:
            networks[name] = [found[name, part] for part in parts]
    if not networks:
        raise InputError(f"{source}: " + "; ".join(f"{name}: {why}" for name, why in lacking.items()))
    size = sum(path.stat().st_size for paths in networks.values() for path in paths)
    claim([Output("--output", output, CONVERTED, 2 * size)], [source])  # twice: half-precision files become float32
    with atomic_path(output, folder=True) as folder:
        folder.mkdir()
        for name, paths in networks.items():
            needed = {_published_key(path) for path, _ in nnx.to_flat_state(_state(name))}
            tensors: dict[str, np.ndarray] = {}
            for path in paths:
                with open_tensors(path) as file:  # classifiers stay unread
                    tensors |= {key: file.read(key) for key in file.tensors if key.lower() in needed}
            save_file(from_published(name, tensors, " and ".join(map(str, paths))), folder / f"{name}.safetensors")
        sources = {name: [path.name for path in paths] for name, paths in networks.items()}
        about = {"kind": _KIND, "sources": sources}
        (folder / "config.json").write_text(json.dumps(about, indent=2) + "\n")
    return sources, lacking


def load(folder: str | Path, name: str) -> nnx.Module | None:
    """The network `name` of a converted folder, None if the folder lacks it.

    Raises:
      InputError: `folder` does not exist, or the file is damaged or holds NaN.
    """
    if find_type(folder) is None:
        raise InputError(f"{folder}: no such folder; --config.weights names what `champ convert` wrote")
    path = require_folder(folder) / f"{name}.safetensors"
    if find_type(path) is None:
        return None
    with open_tensors(path) as file:
        tensors = {key: file.read(key) for key in file.tensors}
    for key, array in tensors.items():
        if not np.isfinite(array).all():
            raise InputError(f"{path}: {key} holds NaN or infinite numbers; convert the weights again")
    return build(name, tensors, str(path))
