"""The one name map between the modules' parameters and PyTorch's files, for both directions.

A parameter is known by its path in the Flax state, for example ('down_blocks', 0, 'resnets', 1, 'conv1', 'kernel').
PyTorch's key is the path joined by dots, after `_SPELLINGS`; its shape is the parameter's, after the moves of a kernel
(the last `_SPELLINGS` entry and `_axes` define them). What older writers spelled differently is brought to
that key by `canonical` before anything else sees it.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

Path = tuple[str | int, ...]

# (pattern, PyTorch's spelling), applied in turn to the path joined by dots.
_SPELLINGS = (
    (re.compile(r"\.to_out\."), ".to_out.0."),
    (re.compile(r"\.ff\.proj\."), ".ff.net.0.proj."),
    (re.compile(r"\.ff\.out\."), ".ff.net.2."),
    (re.compile(r"(^|\.)(kernel|scale|embedding)$"), r"\1weight"),
)

# Products over channels that PyTorch holds as 1x1 convolutions, (out, in, 1, 1).
_CONV1X1 = re.compile(
    r"(^|\.)(conv_shortcut|quant_conv|post_quant_conv|(attentions\.\d+|guidance_attention)\.proj_(in|out))\.kernel$"
)

# (pattern, the name here): how files made before diffusers 0.18 name the VAE's attention, and how diffusers' motion
# adapters name the motion modules.
_OTHER_NAMES = (
    (re.compile(r"(\.attentions\.\d+)\.query\."), r"\1.to_q."),
    (re.compile(r"(\.attentions\.\d+)\.key\."), r"\1.to_k."),
    (re.compile(r"(\.attentions\.\d+)\.value\."), r"\1.to_v."),
    (re.compile(r"(\.attentions\.\d+)\.proj_attn\."), r"\1.to_out.0."),
    (re.compile(r"(\.motion_modules\.\d+)\.(?!temporal_transformer\.)"), r"\1.temporal_transformer."),
    (re.compile(r"(\.temporal_transformer\.transformer_blocks\.\d+)\.attn1\."), r"\1.attention_blocks.0."),
    (re.compile(r"(\.temporal_transformer\.transformer_blocks\.\d+)\.attn2\."), r"\1.attention_blocks.1."),
    (re.compile(r"(\.temporal_transformer\.transformer_blocks\.\d+)\.norm1\."), r"\1.norms.0."),
    (re.compile(r"(\.temporal_transformer\.transformer_blocks\.\d+)\.norm2\."), r"\1.norms.1."),
    (re.compile(r"(\.temporal_transformer\.transformer_blocks\.\d+)\.norm3\."), r"\1.ff_norm."),
)


@dataclasses.dataclass(frozen=True)
class TensorName:
    """One tensor on both sides.

    Attributes:
      path: The path in the Flax state.
      key: The key in PyTorch's file.
      shape: The shape in PyTorch's file.
      flax_shape: The shape in the Flax state.
    """

    path: Path
    key: str
    shape: tuple[int, ...]
    flax_shape: tuple[int, ...]

    @property
    def _axes(self) -> tuple[int, ...] | None:
        """PyTorch's axes in the order Flax has them, or None where the two agree."""
        if self.path[-1] != "kernel":
            return None
        return (1, 0) if len(self.flax_shape) == 2 else (2, 3, 1, 0)

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of `shape` in a file is this one: a product over channels may be linear or 1x1 conv."""
        if tuple(shape) == self.shape:
            return True
        return self.path[-1] == "kernel" and len(self.flax_shape) == 2 and _squeezed(shape) == _squeezed(self.shape)

    def to_flax(self, array: np.ndarray, dtype: Any = None) -> np.ndarray:
        """A copy of PyTorch's array, of a shape that `accepts` allows, as Flax holds it: contiguous, in `dtype`."""
        axes = self._axes
        if axes is not None:
            array = (array.reshape(_squeezed(array.shape)) if len(axes) == 2 else array).transpose(axes)
        # Always a copy: a view would keep the whole mapped file in memory.
        return np.array(array, dtype=dtype or array.dtype, order="C").reshape(self.flax_shape)

    def to_torch(self, array: np.ndarray, dtype: Any = None) -> np.ndarray:
        """Flax's array as PyTorch's files hold it: contiguous, in `dtype`."""
        axes = self._axes
        if axes is not None:
            array = array.transpose(np.argsort(axes))
        return np.ascontiguousarray(array, dtype=dtype or array.dtype).reshape(self.shape)


def tensor_name(path: Path, flax_shape: tuple[int, ...]) -> TensorName:
    """PyTorch's name and shape for the parameter at `path`."""
    dotted = ".".join(map(str, path))
    key = dotted
    for pattern, spelling in _SPELLINGS:
        key = pattern.sub(spelling, key)
    shape = tuple(flax_shape)
    if path[-1] == "kernel":
        shape = shape[::-1] if len(shape) == 2 else (shape[3], shape[2], shape[0], shape[1])
        if _CONV1X1.search(dotted):
            shape = (*shape, 1, 1)
    return TensorName(path, key, shape, tuple(flax_shape))


def tensor_names(tree: Mapping[Any, Any], prefix: Path = ()) -> dict[str, TensorName]:
    """{key: TensorName} of a pure nested dict of arrays or ShapeDtypeStructs; `prefix` is not part of the keys."""
    names = (tensor_name(path, tuple(leaf.shape)) for path, leaf in flatten(tree))
    return {name.key: dataclasses.replace(name, path=(*prefix, *name.path)) for name in names}


def files_of(component: str, tree: Mapping[Any, Any]) -> dict[str, dict[str, TensorName]]:
    """The files of the users' tree that hold a component: {stem: {key: TensorName}}.

    Args:
      component: 'vae', 'image_encoder', 'reference_unet', 'denoising_unet' (its motion modules have a file of their
        own) or 'guidance' (a file a condition).
      tree: the component's state as a pure nested dict; only paths and shapes are read.
    """
    if component == "guidance":
        return {
            f"guidance_encoder_{condition}": tensor_names(encoder, ("encoders", condition))
            for condition, encoder in tree["encoders"].items()
        }
    names = tensor_names(tree)
    if component != "denoising_unet":
        return {component: names}
    motion = {key: name for key, name in names.items() if ".motion_modules." in key}
    unet = {key: name for key, name in names.items() if key not in motion}
    return {"denoising_unet": unet, "motion_module": motion} if motion else {"denoising_unet": unet}


def is_optional(key: str) -> bool:
    """Whether a file may lack the tensor: newer ones leave out what can be computed."""
    return key.endswith((".position_ids", ".pos_encoder.pe"))


def is_table(path: Path) -> bool:
    """Whether a tensor is computed, not learned: position tables and indices."""
    return path[-1] in ("pe", "position_ids")


def canonical(key: str) -> str:
    """The name here of a tensor whose file may use an older one, or another library's."""
    for pattern, name in _OTHER_NAMES:
        key = pattern.sub(name, key)
    return key


def places_of(key: str) -> tuple[str, ...]:
    """The keys that one tensor of a file is for, of its canonical name: diffusers' motion adapters hold one position
    table for the two attentions of a block."""
    if key.endswith(".pos_embed.pe"):
        block = key.removesuffix(".pos_embed.pe")
        return tuple(f"{block}.attention_blocks.{number}.pos_encoder.pe" for number in (0, 1))
    return (key,)


def flatten(tree: Mapping[Any, Any], prefix: Path = ()) -> Iterable[tuple[Path, Any]]:
    """(path, leaf) of a nested dict, in its order."""
    for name, node in tree.items():
        path = (*prefix, name)
        if isinstance(node, Mapping):
            yield from flatten(node, path)
        else:
            yield path, node


def unflatten(leaves: Iterable[tuple[Path, Any]]) -> dict[Any, Any]:
    """The nested dict that `flatten` takes apart."""
    tree: dict[Any, Any] = {}
    for path, leaf in leaves:
        node = tree
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = leaf
    return tree


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(out, in, 1, 1) without its ones."""
    return tuple(shape[:2]) if len(shape) == 4 and tuple(shape[2:]) == (1, 1) else tuple(shape)
