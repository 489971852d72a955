"""Weights of the evaluation networks: the published PyTorch files -> one folder of safetensors files.

Which file is which is told by the tensors inside, so names do not matter:

  published file                                  tensors                       converted
  torchvision's vgg16 / alexnet                   features.N.{weight,bias}      lpips_vgg / lpips_alex, together with
  LPIPS 0.1's vgg.pth / alex.pth                  linI.model.1.weight           the linear weights
  pt_inception-2015-12-05 (pytorch-fid)           Mixed_5b.branch1x1.conv...    fid_inception
  resnet-50-kinetics.pth (3D ResNets)             module.layer1.0.conv1...      resnet3d
  i3d_pretrained_400.pt (DisCo, flat)             Conv3d_1a_7x7.conv3d...       i3d
"""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from champ_jax.errors import InputError
from champ_jax.evaluation.networks import I3D, LPIPS, FIDInception, ResNet3D
from champ_jax.files import atomic_path

Tensors = Mapping[str, np.ndarray]

NETWORKS: dict[str, Callable[[nnx.Rngs], nnx.Module]] = {
    "lpips_vgg": lambda rngs: LPIPS("vgg", rngs=rngs),
    "lpips_alex": lambda rngs: LPIPS("alex", rngs=rngs),
    "fid_inception": lambda rngs: FIDInception(rngs=rngs),
    "resnet3d": lambda rngs: ResNet3D(rngs=rngs),
    "i3d": lambda rngs: I3D(rngs=rngs),
}

_SPELLINGS = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


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
    lowered = {key.removeprefix("module.").lower(): value for key, value in tensors.items()}
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
        leaves.append((path, leaf.replace(jax.numpy.asarray(converted[key]))))
    return nnx.merge(graph, nnx.from_flat_state(leaves))


# Evidence a file gives of itself: a key of it (without 'module.') -> what it is. The first that fits.
_EVIDENCE = (
    (r"Conv3d_1a_7x7\.conv3d\.weight", 5, "i3d"),
    (r"layer1\.0\.conv1\.weight", 5, "resnet3d"),
    (r"Mixed_5b\.branch1x1\.conv\.weight", 4, "fid_inception"),
)


def recognise(tensors: Tensors) -> tuple[str, str] | None:
    """(network, part) of a published file: part is 'all', 'backbone' or 'linear'; None if it is none of them."""
    shapes = {key.removeprefix("module."): tuple(np.shape(value)) for key, value in tensors.items()}
    for pattern, ndim, name in _EVIDENCE:
        if any(re.fullmatch(pattern, key) and len(shape) == ndim for key, shape in shapes.items()):
            return name, "all"
    # The second linear layer reads the backbone's second tap: 128 channels in VGG16, 192 in AlexNet.
    width = shapes.get("lin1.model.1.weight", (0, 0))[1]
    if width in (128, 192):
        return ("lpips_vgg" if width == 128 else "lpips_alex"), "linear"
    if shapes.get("features.0.weight") == (64, 3, 11, 11):
        return "lpips_alex", "backbone"
    if shapes.get("features.0.weight") == (64, 3, 3, 3) and shapes.get("features.28.weight") == (512, 512, 3, 3):
        return "lpips_vgg", "backbone"
    return None


def convert(files: Mapping[str, Callable[[], Tensors]], output: str | Path) -> list[str]:
    """Writes the networks that `files` hold to the folder `output`, whole or not at all.

    Args:
      files: {file name for messages: reads its tensors}; files that are none of the published ones are passed over.
      output: the folder, for `--config.weights`.

    Returns:
      The names of the converted networks.

    Raises:
      InputError: no file is a published one, half of an LPIPS network is missing, two files are the same network.
    """
    found: dict[tuple[str, str], tuple[str, Tensors]] = {}
    for file, read in files.items():
        tensors = read()
        part = recognise(tensors)
        if part is None:
            continue
        if part in found:
            raise InputError(f"{file}: {found[part][0]} holds {part[0]} too; leave one of them")
        found[part] = (file, tensors)
    if not found:
        raise InputError("none of the files holds an evaluation network; see docs/evaluation.md for the five")
    networks: dict[str, tuple[list[str], Tensors]] = {}
    for name in sorted({name for name, _ in found}):
        parts = ["backbone", "linear"] if name.startswith("lpips") else ["all"]
        for part in parts:
            if (name, part) not in found:
                have = next(file for (other, _), (file, _) in found.items() if other == name)
                raise InputError(f"{have}: {name} needs its {part} weights too; put that file beside it")
        sources = [found[name, part] for part in parts]
        networks[name] = ([file for file, _ in sources], {k: v for _, tensors in sources for k, v in tensors.items()})
    with atomic_path(output) as folder:
        folder.mkdir()
        for name, (sources, tensors) in networks.items():
            save_file(from_published(name, tensors, " and ".join(sources)), folder / f"{name}.safetensors")
        description = {"kind": "evaluation networks", "sources": {name: files for name, (files, _) in networks.items()}}
        (folder / "config.json").write_text(json.dumps(description, indent=2) + "\n")
    return list(networks)


def load(folder: str | Path, name: str) -> nnx.Module | None:
    """The network `name` of a converted folder, None if the folder lacks it.

    Raises:
      InputError: `folder` does not exist, or the file is broken.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --config.weights names what tools/convert_weights.py wrote")
    file = folder / f"{name}.safetensors"
    if not file.is_file():
        return None
    try:
        return build(name, load_file(file), str(file))
    except SafetensorError as error:
        raise InputError(f"{file}: broken ({error}); convert the weights again") from error
