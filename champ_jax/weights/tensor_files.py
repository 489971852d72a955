"""Safe readers of the files weights come in: .safetensors, and PyTorch's pickles (.pth, .ckpt, .bin).

What a file is, its first bytes say, not its suffix. Pickles go through PyTorch's restricted unpickler: tensors and
plain containers only, nothing in the file is run. Tensors are read one at a time, when asked for.
"""

import contextlib
import json
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
import safetensors

from champ_jax.common.errors import InputError

# Objects without arrays that PyTorch Lightning leaves beside the tensors (Stable Diffusion's own .ckpt has one); they
# are replaced by an empty object, their code is neither imported nor run.
_HARMLESS = ("pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",)

_SAFETENSORS_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
}
_AGAIN = "fetch it again"


class TensorInfo(NamedTuple):
    """What a file says of a tensor without reading it."""

    shape: tuple[int, ...]
    dtype: np.dtype


class TensorFile:
    """The tensors of an open file.

    Attributes:
      path: of the file.
      tensors: {key: TensorInfo}, keys as in the file less a wrapping `state_dict` and the prefix `module.`.
    """

    def __init__(self, path: Path, tensors: Mapping[str, TensorInfo], read: Callable[[str], np.ndarray]):
        self.path = path
        self.tensors = dict(tensors)
        self._read = read

    def read(self, key: str) -> np.ndarray:
        """The tensor, in the file's dtype and shape."""
        return self._read(key)


@contextlib.contextmanager
def open_tensors(path: str | os.PathLike) -> Iterator[TensorFile]:
    """Opens a weights file of either kind.

    Raises:
      InputError: the file does not exist, is a failed download (empty, truncated, HTML, text, a Git LFS pointer), is no
        weights file, holds anything but tensors, or is a pickle and PyTorch is not installed.
    """
    path = Path(path)
    kind = _kind(path)
    if kind == "safetensors":
        with _open_safetensors(path) as file:
            yield file
    else:
        yield _open_pickle(path, kind)


def _kind(path: Path) -> str:
    """'safetensors', 'zip' (PyTorch 1.6 and later) or 'pickle' (before)."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder, not a weights file")
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    if not head:
        raise InputError(f"{path}: is empty (a failed download); {_AGAIN}")
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return "safetensors"
    if head.startswith(b"version https://git-lfs"):
        raise InputError(f"{path}: is a Git LFS pointer, not the weights it points at; run `git lfs pull`")
    if re.match(rb"\s*<(!doctype|html|\?xml|head|body)", head, re.IGNORECASE):
        raise InputError(f"{path}: is a web page (a failed download); {_AGAIN}")
    if _is_text(head):
        raise InputError(f"{path}: is text, not weights (a failed download); {_AGAIN}")
    if head[:1] == b"\x80":
        return "pickle"
    raise InputError(f"{path}: is neither a .safetensors file nor one that PyTorch saved")


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not just a character cut in two
            return False
        text = head[: error.start].decode()
    return all(character.isprintable() or character.isspace() for character in text)


@contextlib.contextmanager
def _open_safetensors(path: Path) -> Iterator[TensorFile]:
    _check_safetensors_length(path)
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context(safetensors.safe_open(path, framework="numpy"))
        except safetensors.SafetensorError as error:
            raise InputError(f"{path}: is damaged ({error}); {_AGAIN}") from error
        tensors = {}
        for key in file.keys():  # noqa: SIM118, not a dict
            part = file.get_slice(key)
            name = part.get_dtype()
            if name not in _SAFETENSORS_DTYPES:
                raise InputError(f"{path}: {key} is of type {name}; only float64, 32, 16 and bfloat16 are supported")
            tensors[key] = TensorInfo(tuple(part.get_shape()), np.dtype(_SAFETENSORS_DTYPES[name]))
        keys = _without_prefix(tensors)
        infos = {key: tensors[original] for key, original in keys.items()}
        yield TensorFile(path, infos, lambda key: file.get_tensor(keys[key]))


def _check_safetensors_length(path: Path) -> None:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length)
    try:
        entries = json.loads(header)
        end = max((entry["data_offsets"][1] for key, entry in entries.items() if key != "__metadata__"), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        what = "is truncated" if len(header) < length else "has a damaged header"
        raise InputError(f"{path}: {what}; {_AGAIN}") from error
    if size < 8 + length + end:
        raise InputError(f"{path}: is truncated, {size:,} of {8 + length + end:,} bytes; {_AGAIN}")


def _open_pickle(path: Path, kind: str) -> TensorFile:
    try:
        import torch
    except ImportError:
        raise InputError(
            f"{path}: reading PyTorch's .pth, .ckpt and .bin files needs PyTorch; pip install 'champ_jax[convert]'"
        ) from None
    if kind == "zip":
        _check_zip(path)
    stand_ins = [(type("StandIn", (), {}), name) for name in _HARMLESS]
    try:
        # The warnings are about pickles that are refused anyway.
        with warnings.catch_warnings(action="ignore"), torch.serialization.safe_globals(stand_ins):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=kind == "zip")
    except Exception as error:  # damaged bytes raise nearly anything
        raise _refusal(path, error) from error
    tensors = _tensors(path, content)
    keys = _without_prefix(tensors)
    infos = {key: _torch_info(path, key, tensors[original]) for key, original in keys.items()}
    return TensorFile(path, infos, lambda key: _to_numpy(tensors[keys[key]]))


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        raise InputError(f"{path}: is truncated, its end is missing; {_AGAIN}") from None
    if any(name.endswith("/constants.pkl") for name in names):
        raise InputError(f"{path}: is a TorchScript program, not weights; save its state_dict")


def _refusal(path: Path, error: Exception) -> InputError:
    """What to say of a file that PyTorch's restricted unpickler does not take."""
    text = str(error)
    code = re.search(r"(?:GLOBAL|function|class) `?([\w.]+)", text)
    if isinstance(error, pickle.UnpicklingError) and ("Unsupported" in text or code):
        asks = f"asks to run {code[1]}" if code else "does more than hold tensors"
        return InputError(
            f"{path}: is a pickle that {asks}; only tensors are read and nothing of it was run. "
            "Take the .safetensors file, or save the bare state_dict"
        )
    return InputError(f"{path}: is truncated or damaged; {_AGAIN}")


def _tensors(path: Path, content: Any) -> dict[str, Any]:
    """The {key: torch.Tensor} in what a file holds: the state_dict itself, or wrapped in a dict under `state_dict`."""
    import torch

    while isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: holds a {type(content).__name__}, not the tensors of a state_dict by name")
    others = [str(key) for key, value in content.items() if not isinstance(value, torch.Tensor)]
    if others or not content:
        what = f"has entries that are not tensors ({', '.join(others)})" if others else "holds no tensors"
        raise InputError(f"{path}: {what}; save the bare state_dict")
    return {str(key): value for key, value in content.items()}


def _without_prefix(tensors: Mapping[str, Any]) -> dict[str, str]:
    """{key: key in the file}: DataParallel puts `module.` before every key."""
    prefix = "module." if tensors and all(key.startswith("module.") for key in tensors) else ""
    return {key.removeprefix(prefix): key for key in tensors}


def _torch_info(path: Path, key: str, tensor: Any) -> TensorInfo:
    import torch

    dtypes = {
        torch.float64: np.float64,
        torch.float32: np.float32,
        torch.float16: np.float16,
        torch.bfloat16: ml_dtypes.bfloat16,
        torch.int64: np.int64,
        torch.int32: np.int32,
    }
    if tensor.layout != torch.strided or tensor.dtype not in dtypes or tensor.is_meta:
        kind = str(tensor.dtype).removeprefix("torch.") if tensor.layout == torch.strided else str(tensor.layout)
        raise InputError(f"{path}: {key} is of type {kind}; only float64, 32, 16 and bfloat16 are supported")
    return TensorInfo(tuple(tensor.shape), np.dtype(dtypes[tensor.dtype]))


def _to_numpy(tensor: Any) -> np.ndarray:
    import torch

    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:  # numpy has none of its own
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()
