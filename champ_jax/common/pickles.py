"""Files that may hold pickles, read without their danger: only arrays and plain containers are built.

Motion and body files of this field are often pickles, and a pickle is a program. Every name in it is looked up here
in a short table of harmless constructors; a name that is not there ends the reading before anything has run. chumpy,
which no longer installs, is stood in for by a class that only keeps the array. joblib's form (raw arrays between the
opcodes, the whole perhaps compressed), object arrays inside .npy and .npz, and torch's files are read too.
"""

import bz2
import gzip
import io
import lzma
import os
import pickle
import struct
import zipfile
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import numpy as np
import scipy.sparse

from champ_jax.common.errors import InputError

_COMPRESSED: tuple[tuple[bytes, Callable[[bytes], bytes]], ...] = (
    (b"\x1f\x8b", gzip.decompress),
    (b"BZh", bz2.decompress),
    (b"\xfd7zXZ", lzma.decompress),
    (b"\x5d\x00", lzma.decompress),
    (b"\x78", zlib.decompress),
)
_BROKEN = (
    pickle.UnpicklingError,
    AttributeError,
    EOFError,
    ImportError,
    IndexError,
    KeyError,
    MemoryError,
    OSError,
    OverflowError,
    RecursionError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


def read_arrays(path: str | os.PathLike) -> Any:
    """Reads .npy, .npz, .pkl, joblib and torch files, told apart by content.

    Returns:
      What the file holds, with every array, sparse matrix and tensor as a NumPy array: of an .npz a dict.
      Objects of chumpy are left as they are: `plain` gives the array in one.

    Raises:
      InputError: no such file, a broken one, or one that names anything but arrays and plain containers.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    try:
        with open(path, "rb") as file:
            start = file.read(8)
            file.seek(0)
            if start.startswith(b"PK"):
                return _read_zip(path)
            if start.startswith(b"\x93NUMPY"):
                return _read_npy(file)
            for magic, decompress in _COMPRESSED:
                if start.startswith(magic):
                    return plain(_Unpickler(io.BytesIO(decompress(file.read()))).load(), strict=False)
            return plain(_Unpickler(file).load(), strict=False)
    except InputError:
        raise
    except _Refused as error:
        raise InputError(
            f"{path}: names {error}, which is no array; it was not read and nothing in it was run"
        ) from error
    except _BROKEN as error:
        raise InputError(f"{path}: cannot be read as arrays ({type(error).__name__}: {error})") from error


def plain(value: Any, strict: bool = True) -> Any:
    """Replaces stand-ins and tensors by NumPy arrays, inside dicts, lists, tuples and object arrays too.

    Args:
      strict: raise for an object of chumpy that is no stored array; otherwise leave it where it is.

    Raises:
      pickle.UnpicklingError: see `strict`.
    """
    if isinstance(value, _Stub):
        try:
            return value.array()
        except (pickle.UnpicklingError, KeyError, TypeError, ValueError, IndexError) as error:
            if strict:
                raise pickle.UnpicklingError(f"{value.name} that is no stored array") from error
            return value
    if isinstance(value, Mapping):
        return {key: plain(item, strict) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(plain(item, strict) for item in value)
    if isinstance(value, np.ndarray) and value.dtype == object:
        array = np.empty(value.shape, object)
        for index, item in np.ndenumerate(value):
            array[index] = plain(item, strict)
        return array
    if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "detach"):
        value = value.detach().cpu()
        return (value.float() if str(value.dtype) == "torch.bfloat16" else value).numpy()
    return value


class _Refused(Exception):
    """The pickle names something outside the table."""


class _Stub:
    """An object whose class is not imported: its state is kept, nothing is called."""

    name = "an object"
    state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        """The array that it stands for; raises UnpicklingError where it stands for none."""
        raise pickle.UnpicklingError(f"{self.name} that stands for no array")


class _Chumpy(_Stub):
    name = "an object of chumpy"

    def array(self) -> np.ndarray:
        # A leaf (Ch) keeps its array in x; a view (Select, reshape) keeps what it looks at in a.
        state = self.state
        value = np.asarray(plain(state["x"] if "x" in state else state["a"]))
        if value.dtype == object:
            raise TypeError("holds no numbers")
        if state.get("idxs") is not None:
            value = value.ravel()[np.asarray(plain(state["idxs"]))]
        if state.get("preferred_shape") is not None:
            value = value.reshape(state["preferred_shape"])
        return value


class _Sparse(_Stub):
    """A scipy.sparse matrix, whose own __setstate__ differs between versions of scipy."""

    name = "a sparse matrix"

    def array(self) -> np.ndarray:
        state = self.state
        shape = tuple(state["_shape"] if "_shape" in state else state["shape"])
        if "indptr" in state:
            kind = scipy.sparse.csc_matrix if len(state["indptr"]) == shape[1] + 1 else scipy.sparse.csr_matrix
            kind = self.compressed or kind
            return kind((state["data"], state["indices"], state["indptr"]), shape=shape).toarray()
        coordinates = state["coords"] if "coords" in state else (state["row"], state["col"])
        return scipy.sparse.coo_matrix((state["data"], tuple(coordinates)), shape=shape).toarray()

    compressed: type | None = None


class _Csc(_Sparse):
    compressed = scipy.sparse.csc_matrix


class _Csr(_Sparse):
    compressed = scipy.sparse.csr_matrix


class _JoblibArray(_Stub):
    """joblib's NumpyArrayWrapper; the array's bytes follow its BUILD opcode in the stream."""


def _reconstruct(kind: type, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return np.ndarray(shape, dtype)


def _reconstruct_object(kind: type, base: type, state: Any) -> Any:
    if not (isinstance(kind, type) and issubclass(kind, _Stub)):
        raise pickle.UnpicklingError("an object of a class that has no stand-in")
    return kind()


def _scalar(dtype: np.dtype, data: Any = None) -> Any:
    if isinstance(data, str):
        data = data.encode("latin1")
    return np.frombuffer(data, dtype)[0] if isinstance(data, bytes) else data


def _encode(text: str, encoding: str = "latin1") -> bytes:
    return text.encode(encoding)


def _bytes(value: bytes | list[int] = b"") -> bytes:
    if isinstance(value, int):  # bytes(n) would reserve n bytes
        raise pickle.UnpicklingError("bytes of a given length")
    return bytes(value)


def _frombuffer(buffer: Any, dtype: np.dtype, shape: tuple[int, ...], order: str = "C") -> np.ndarray:
    return np.frombuffer(buffer, dtype).reshape(shape, order=order)


def _torch_storage(data: bytes) -> Any:
    return _import_torch().load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _torch_tensor(*arguments: Any) -> Any:
    _import_torch()
    from torch._utils import _rebuild_tensor_v2

    return _rebuild_tensor_v2(*arguments)


def _import_torch() -> Any:
    try:
        import torch
    except ImportError:
        raise InputError("the file holds torch tensors; install torch to read it (pip install torch)") from None
    return torch


_BUILTINS = {kind.__name__: kind for kind in (list, dict, tuple, set, frozenset, int, float, bool, complex, slice, str)}
_BUILTINS |= {"bytes": _bytes, "object": object}
_NUMPY = {"_reconstruct": _reconstruct, "scalar": _scalar}
_ALLOWED: dict[str, dict[str, Any]] = {
    "builtins": _BUILTINS,
    "__builtin__": _BUILTINS | {"unicode": str, "long": int},
    "collections": {"OrderedDict": OrderedDict, "defaultdict": defaultdict},
    "copy_reg": {"_reconstructor": _reconstruct_object},
    "copyreg": {"_reconstructor": _reconstruct_object},
    "_codecs": {"encode": _encode},
    "numpy": {"ndarray": np.ndarray, "dtype": np.dtype, "memmap": np.ndarray, "matrix": np.ndarray},
    "numpy.core.multiarray": _NUMPY,
    "numpy._core.multiarray": _NUMPY,
    "numpy.core.numeric": {"_frombuffer": _frombuffer},
    "numpy._core.numeric": {"_frombuffer": _frombuffer},
    "joblib.numpy_pickle": {"NumpyArrayWrapper": _JoblibArray},
    "pathlib": {"PosixPath": PurePosixPath, "PurePosixPath": PurePosixPath},
    "pathlib._local": {"PosixPath": PurePosixPath, "PurePosixPath": PurePosixPath},
    "torch.storage": {"_load_from_bytes": _torch_storage},
    "torch._utils": {"_rebuild_tensor_v2": _torch_tensor},
}


class _Unpickler(pickle._Unpickler):
    """Python's own unpickler, with the table above for names. The pure Python one: joblib's arrays need its BUILD."""

    def __init__(self, file: BinaryIO):
        super().__init__(file, encoding="latin1")
        self._stream = file

    def find_class(self, module: str, name: str) -> Any:
        if name in _ALLOWED.get(module, ()):
            return _ALLOWED[module][name]
        package = module.partition(".")[0]
        if package == "chumpy":
            return _Chumpy
        if package == "scipy" and name.endswith(("_matrix", "_array")):
            kind = {"csc": _Csc, "csr": _Csr, "coo": _Sparse}.get(name[:3])
            if kind is not None:
                return kind
        raise _Refused(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("an object outside the file")

    def load_build(self) -> None:
        target = self.stack[-2]
        if not isinstance(target, _Stub | np.ndarray | np.dtype):
            raise _Refused(f"a change to {target!r}")
        super().load_build()
        if isinstance(target, _JoblibArray):
            self.stack[-1] = self._read_joblib_array(target.state)

    def _read_joblib_array(self, state: dict[str, Any]) -> np.ndarray:
        dtype, shape = np.dtype(state["dtype"]), tuple(state["shape"])
        if dtype.hasobject:
            return _Unpickler(self._stream).load()
        if state.get("numpy_array_alignment_bytes") is not None:
            self._stream.read(self._stream.read(1)[0])
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        data = self._stream.read(size)
        if len(data) != size:
            raise EOFError("the file ends inside an array")
        return np.frombuffer(data, dtype).reshape(shape, order=state["order"]).copy()

    dispatch = pickle._Unpickler.dispatch | {pickle.BUILD[0]: load_build}


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if any(name.endswith("/data.pkl") for name in names):
            return plain(_load_torch(path), strict=False)
        arrays = {}
        for name in names:
            with archive.open(name) as member:
                arrays[name.removesuffix(".npy")] = _read_npy(member)
        return arrays


def _load_torch(path: Path) -> Any:
    torch = _import_torch()
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"{path}: holds more than tensors and plain containers; nothing in it was run ({reason})"
        ) from error


def _read_npy(file: Any) -> Any:
    version = np.lib.format.read_magic(file)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran_order, dtype = reader(file)
    if dtype.hasobject:
        array = plain(_Unpickler(file).load(), strict=False)
        return array.item() if isinstance(array, np.ndarray) and array.ndim == 0 else array
    count = int(np.prod(shape, dtype=np.int64))
    data = file.read(count * dtype.itemsize)
    if len(data) != count * dtype.itemsize:
        raise EOFError("the file ends inside an array")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran_order else "C").copy()
