"""Safe readers of the files weights come in: .safetensors, and PyTorch's pickles (.pth, .ckpt, .bin).

The first bytes decide what a file is, not its suffix. Pickles go through `champ_jax.common.torch_files`: tensors and
plain containers only, nothing in the file is run, and PyTorch is not needed. Tensors are read one at a time, when asked
for.
"""

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import ml_dtypes
import numpy as np

from champ_jax.common.arrays import BROKEN
from champ_jax.common.contents import HEAD, describe
from champ_jax.common.errors import InputError, first_line, listed
from champ_jax.common.files import open_input
from champ_jax.common.pickle_machine import RefusedError
from champ_jax.common.pickle_meanings import Opaque
from champ_jax.common.torch_files import Tensor, read_torch

# Objects without arrays that PyTorch Lightning stores next to the tensors: a callback (Stable Diffusion's own .ckpt has
# one), and the settings of a training (HMR2's) as yacs or OmegaConf hold them. They are replaced by an empty object,
# their code is neither imported nor run.
_HARMLESS = (
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
    "yacs.config.CfgNode",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "Boolean", "Float", "Integer", "String")),
    "typing.Any",
)

_SAFETENSORS_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
}
_TORCH_DTYPES = ("float64", "float32", "float16", "bfloat16", "int64", "int32")
_LONGEST_HEADER = 100_000_000  # bytes, the format's own bound
_AGAIN = "download it again"


class TensorInfo(NamedTuple):
    """What a file says of a tensor without reading it."""

    shape: tuple[int, ...]
    dtype: np.dtype


class TensorFile:
    """The tensors of an open file.

    Attributes:
      path: The file.
      tensors: {key: TensorInfo}, keys as in the file less a wrapping `state_dict` and the prefix `module.`.
      others: {key: what it is} of the entries that cannot be read as weights: 'of type U8', 'a number'.
      metadata: the texts that a .safetensors file holds besides its tensors.
    """

    def __init__(
        self,
        path: Path,
        tensors: Mapping[str, TensorInfo],
        read: Callable[[str], np.ndarray],
        others: Mapping[str, str] | None = None,
        metadata: Mapping[str, str] | None = None,
    ):
        self.path = path
        self.tensors = dict(tensors)
        self.others = dict(others or {})
        self.metadata = dict(metadata or {})
        self._read = read

    def read(self, key: str) -> np.ndarray:
        """The tensor, in the file's dtype and shape."""
        return self._read(key)


@contextlib.contextmanager
def open_tensors(path: str | os.PathLike) -> Iterator[TensorFile]:
    """Opens a weights file of either kind.

    Raises:
      InputError: the file does not exist, is a failed download (empty, truncated, HTML, text, a Git LFS pointer), is no
        weights file, holds no tensors, or is a pickle that would run code.
    """
    path = Path(path)
    kind = _kind(path)
    if kind == "safetensors":
        with _open_safetensors(path) as file:
            yield file
    else:
        yield _open_pickle(path)


def _kind(path: Path) -> str:
    """'safetensors', 'zip' (PyTorch 1.6 and later) or 'pickle' (before)."""
    with open_input(path) as file:
        head = file.read(HEAD)
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return "safetensors"
    what = describe(head)
    if what == "is a pickle" or (what is None and head[:1] == b"\x80"):
        return "pickle"
    if what is None:
        raise InputError(f"{path}: is neither a .safetensors file nor one that PyTorch saved")
    raise InputError(f"{path}: {what} (a .safetensors file or one that PyTorch saved is expected)")


@contextlib.contextmanager
def _open_safetensors(path: Path) -> Iterator[TensorFile]:
    with open(path, "rb") as file:
        places, metadata, start = _safetensors_header(path, file)

        def read(key: str) -> np.ndarray:
            place = places[keys[key]]
            array = np.empty(place.shape, _SAFETENSORS_DTYPES[place.dtype])
            file.seek(start + place.begin)
            if file.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:
                raise InputError(f"{path}: {key} is truncated; {_AGAIN}")
            return array

        keys = _without_prefix(places)
        infos, others = {}, {}
        for key, original in keys.items():
            place = places[original]
            if place.dtype in _SAFETENSORS_DTYPES:
                infos[key] = TensorInfo(place.shape, np.dtype(_SAFETENSORS_DTYPES[place.dtype]))
            else:
                others[key] = f"of type {place.dtype}"
        yield TensorFile(path, infos, read, others, metadata)


class _Place(NamedTuple):
    """A tensor's entry in a .safetensors header; begin and end count from the end of the header."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def _safetensors_header(path: Path, file: BinaryIO) -> tuple[dict[str, _Place], dict[str, str], int]:
    """The entries, the metadata and the length of the header, all checked against the file's size.

    The format (https://github.com/huggingface/safetensors): 8 bytes with the header's length, the header as JSON, and
    the tensors' bytes, which follow each other without overlap or gap.
    """
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if length > _LONGEST_HEADER:
        raise InputError(f"{path}: has a damaged header (of {length:,} bytes); {_AGAIN}")
    if 8 + length > size:
        raise InputError(f"{path}: is truncated, {size:,} of at least {8 + length:,} bytes; {_AGAIN}")
    try:
        header = json.loads(file.read(length))
        metadata = header.pop("__metadata__", {})
        if not isinstance(metadata, dict):
            raise ValueError("its metadata are not an object")
        places = {key: _safetensors_place(key, entry) for key, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: has a damaged header ({first_line(error)}); {_AGAIN}") from error
    end = 0
    for key, place in sorted(places.items(), key=lambda item: (item[1].begin, item[1].end)):
        if place.begin != end:
            word = "overlaps the tensor before it" if place.begin < end else "leaves a gap before it"
            raise InputError(f"{path}: has a damaged header ({key[:100]} {word}); {_AGAIN}")
        end = place.end
    if size != 8 + length + end:
        word = "is truncated" if size < 8 + length + end else "is damaged"
        raise InputError(f"{path}: {word}, it has {size:,} bytes, its header says {8 + length + end:,}; {_AGAIN}")
    return places, metadata, 8 + length


def _safetensors_place(key: str, entry: Any) -> _Place:
    """One entry of the header; raises ValueError, KeyError or TypeError if it contradicts itself."""
    dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    for number in (*shape, begin, end):
        if type(number) is not int or not 0 <= number < 2**62:
            raise ValueError(f"{key[:100]}: {str(number)[:20]} is not a size")
    if begin > end or not isinstance(dtype, str):
        raise ValueError(f"{key[:100]} ends before it begins")
    if dtype in _SAFETENSORS_DTYPES and math.prod(shape) * np.dtype(_SAFETENSORS_DTYPES[dtype]).itemsize != end - begin:
        raise ValueError(f"{key[:100]}: its shape and its bytes differ")
    return _Place(dtype, tuple(shape), begin, end)


def _open_pickle(path: Path) -> TensorFile:
    try:
        content = read_torch(path, _HARMLESS)
    except RefusedError as error:
        raise InputError(
            f"{path}: is a pickle that asks to run {error}; only tensors are read and nothing of it was run. "
            "Take the .safetensors file, or save the bare state_dict"
        ) from error
    except InputError:
        raise
    except BROKEN as error:
        raise InputError(f"{path}: is truncated or damaged ({first_line(error)}); {_AGAIN}") from error
    entries = _entries(path, content)
    keys = _without_prefix(entries)
    infos, others = {}, {}
    for key, original in keys.items():
        found = _torch_info(entries[original])
        if isinstance(found, TensorInfo):
            infos[key] = found
        else:
            others[key] = found
    if not infos:
        raise InputError(f"{path}: holds no tensors, but {listed(map(str, content)) or 'nothing'}; save a state_dict")
    return TensorFile(path, infos, lambda key: entries[keys[key]].read(), others)


def _entries(path: Path, content: Any) -> dict[str, Any]:
    """What a file holds by name: the state_dict itself, or one that is wrapped in a dict under `state_dict`."""
    while isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds a {type(content).__name__}, not the tensors of a state_dict by name")
    return {str(key): value for key, value in content.items()}


def _without_prefix(tensors: Mapping[str, Any]) -> dict[str, str]:
    """{key: key in the file}: DataParallel puts `module.` before every key."""
    prefix = "module." if tensors and all(key.startswith("module.") for key in tensors) else ""
    return {key.removeprefix(prefix): key for key in tensors}


def _torch_info(value: Any) -> TensorInfo | str:
    """Shape and dtype of an entry, or what it is if it cannot be read as weights."""
    if isinstance(value, Opaque):
        return value.name
    if not isinstance(value, Tensor):
        return f"not a tensor ({type(value).__name__})"
    if value.dtype not in _TORCH_DTYPES:
        return f"of type {value.dtype}"
    return TensorInfo(value.shape, value.numpy_dtype)
