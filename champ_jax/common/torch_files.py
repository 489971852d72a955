"""PyTorch's files, read without PyTorch: the zip archives since 1.6 and the pickles before.

Formats: `torch/serialization.py`. Tensors are views of storages; storages are raw bytes in the file, which is mapped
into memory and read when a tensor is. A tensor's place in its storage is checked before.
"""

import dataclasses
import io
import math
import os
import zipfile
from collections.abc import Iterable
from typing import Any, BinaryIO

import ml_dtypes
import numpy as np

from champ_jax.common.arrays import DamagedError, Stream, check_members
from champ_jax.common.errors import InputError
from champ_jax.common.files import open_input
from champ_jax.common.pickle_machine import Global, Record
from champ_jax.common.pickle_meanings import BASIC, Meaning, Opaque, Vocabulary, arguments_of, read_pickle

MAGIC = 0x1950A86A20F9469CFC6C
"""What the first pickle of a file before PyTorch 1.6 holds."""

_PROTOCOL = 1001
_DTYPES: dict[str, np.dtype] = {
    "float64": np.dtype("<f8"),
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<f2"),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int64": np.dtype("<i8"),
    "int32": np.dtype("<i4"),
    "int16": np.dtype("<i2"),
    "int8": np.dtype("i1"),
    "uint8": np.dtype("u1"),
    "uint16": np.dtype("<u2"),
    "uint32": np.dtype("<u4"),
    "uint64": np.dtype("<u8"),
    "bool": np.dtype("?"),
    "complex64": np.dtype("<c8"),
    "complex128": np.dtype("<c16"),
}
_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "UntypedStorage": "uint8",
}
_MAX_EXPANDED = 2**20  # elements of a tensor that shows few numbers many times


@dataclasses.dataclass(eq=False)
class Storage:
    """The numbers that tensors are views of.

    Attributes:
      dtype: PyTorch's name.
      count: how many numbers.
      data: (bytes,) uint8, mapped or in memory; None until its place in the file is known.
    """

    dtype: str
    count: int
    data: np.ndarray | None = None

    @property
    def nbytes(self) -> int:
        """Its size in the file."""
        return self.count * _DTYPES[self.dtype].itemsize


@dataclasses.dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor that has not been read yet.

    Attributes:
      storage: where its numbers are.
      dtype: PyTorch's name, for example 'float32'.
      offset: The place of its first number in the storage, counted in numbers, as the strides.
      shape, strides: Those of PyTorch.
    """

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def numpy_dtype(self) -> np.dtype:
        """Its dtype in NumPy, of ml_dtypes for bfloat16."""
        return _DTYPES[self.dtype]

    @property
    def size(self) -> int:
        """How many numbers it shows."""
        return math.prod(self.shape)

    def read(self) -> np.ndarray:
        """Its numbers, copied out of the file."""
        dtype = self.numpy_dtype
        if not self.size:
            return np.empty(self.shape, dtype)
        if self.storage.data is None:
            raise DamagedError("holds a tensor without its numbers")
        strides = tuple(stride * dtype.itemsize for stride in self.strides)
        data = np.ascontiguousarray(self.storage.data).data
        return np.ndarray(self.shape, dtype, data, self.offset * dtype.itemsize, strides).copy()


def read_torch(path: str | os.PathLike, harmless: Iterable[str] = ()) -> Any:
    """What a PyTorch file holds: plain Python values, with a `Tensor` for every strided tensor.

    Args:
      path: The file.
      harmless: names of classes whose objects become `Opaque`; they are not imported, nor run.

    Raises:
      InputError: no such file, a TorchScript program, or one that decompresses to more than is plausible.
      RefusedError: it names something that is neither tensor nor plain container, nor harmless.
      DamagedError, or another of `arrays.BROKEN`: it is truncated or damaged.
    """
    vocabulary = VOCABULARY.extended({name: _opaque(f"an object of {name}") for name in harmless})
    with open_input(path) as file:
        size = os.fstat(file.fileno()).st_size
        is_zip = file.read(2) == b"PK"
        file.seek(0)
        if is_zip:
            return _read_archive(path, file, size, vocabulary)
        return _read_stream(Stream(file, size), lambda: _map(path), vocabulary)


def is_torch_archive(archive: zipfile.ZipFile) -> bool:
    """Whether a zip archive is one that PyTorch saved."""
    return any(name.endswith("/data.pkl") or name == "data.pkl" for name in archive.namelist())


def to_arrays(value: Any) -> Any:
    """Reads the tensors in plain containers and object arrays; bfloat16 becomes float32, which NumPy has."""
    known: dict[int, Any] = {}

    def convert(one: Any) -> Any:
        if not isinstance(one, Tensor | dict | list | tuple | np.ndarray):
            return one
        if id(one) not in known:
            known[id(one)] = _convert(one, convert)
        return known[id(one)]

    return convert(value)


def _convert(one: Any, convert: Any) -> Any:
    if isinstance(one, Tensor):
        array = one.read()
        return array.astype(np.float32) if one.dtype == "bfloat16" else array
    if isinstance(one, dict):
        return {key: convert(item) for key, item in one.items()}
    if isinstance(one, list | tuple):
        return type(one)([convert(item) for item in one])
    if one.dtype == object:
        array = np.empty(one.shape, object)
        for index, item in np.ndenumerate(one):
            array[index] = convert(item)
        return array
    return one


def _map(path: str | os.PathLike) -> np.ndarray:
    return np.memmap(path, np.uint8, mode="r")


def _read_archive(path: str | os.PathLike, file: BinaryIO, size: int, vocabulary: Vocabulary) -> Any:
    with zipfile.ZipFile(file) as archive:
        members = {member.filename: member for member in check_members(path, archive, size)}
        if any(name.endswith("/constants.pkl") for name in members):
            raise InputError(f"{path}: is a TorchScript program, not weights; save its state_dict")
        content = next((name for name in members if name.endswith("/data.pkl") or name == "data.pkl"), None)
        if content is None:
            raise DamagedError("is a zip archive that PyTorch did not save")
        folder = content.removesuffix("data.pkl")
        if f"{folder}byteorder" in members and archive.read(f"{folder}byteorder")[:3] == b"big":
            raise InputError(f"{path}: was saved on a big-endian machine; save it on a little-endian one")
        mapped = _map(path)
        storages: dict[str, Storage] = {}

        def storage_of(identity: Any) -> Storage:
            key, storage = _identified(identity)
            if key in storages:
                return storages[key]
            member = members.get(f"{folder}data/{key}")
            if member is None or member.file_size != storage.nbytes:
                raise DamagedError(f"lacks the numbers of its storage {key[:40]}")
            if member.compress_type == zipfile.ZIP_STORED:
                start = _data_start(file, member, size)
                storage.data = mapped[start : start + storage.nbytes]
            else:
                storage.data = np.frombuffer(archive.read(member), np.uint8)
            storages[key] = storage
            return storage

        with archive.open(members[content]) as entry:
            return read_pickle(Stream(entry, members[content].file_size), vocabulary, storage_of, outside=size)


def _data_start(file: BinaryIO, member: zipfile.ZipInfo, size: int) -> int:
    """Where the bytes of an entry that is not compressed begin: after its local header, whose length varies."""
    position = file.tell()
    file.seek(member.header_offset)
    header = file.read(30)
    file.seek(position)
    names = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    start = member.header_offset + 30 + names
    if header[:4] != b"PK\x03\x04" or start + member.file_size > size:
        raise DamagedError("is a damaged zip archive")
    return start


def _read_stream(stream: Stream, get_data: Any, vocabulary: Vocabulary) -> Any:
    """The format before 1.6: pickles of a magic number, a version, the system, and the content; then the storages.

    Args:
      stream: The stream, at its start.
      get_data: gives all bytes of the stream, (bytes,) uint8.
    """
    length = stream.left
    if read_pickle(stream, vocabulary) != MAGIC:
        raise DamagedError("is a pickle, but not one that PyTorch saved")
    if read_pickle(stream, vocabulary) != _PROTOCOL:
        raise DamagedError("is of an unknown version of PyTorch's format")
    read_pickle(stream, vocabulary)  # the sizes of C types where it was saved
    storages: dict[str, Storage] = {}

    def storage_of(identity: Any) -> Storage:
        key, storage = _identified(identity)
        return storages.setdefault(key, storage)

    value = read_pickle(stream, vocabulary, storage_of)
    keys = read_pickle(stream, vocabulary)
    if not isinstance(keys, list) or set(map(str, keys)) != set(storages):
        raise DamagedError("is damaged (its list of storages)")
    data = get_data()
    for key in map(str, keys):
        storage = storages[key]
        if int.from_bytes(stream.read(8), "little") != storage.count:
            raise DamagedError(f"is damaged (the length of its storage {key[:40]})")
        start = length - stream.left
        stream.skip(storage.nbytes)
        storage.data = data[start : start + storage.nbytes]
    return value


def _identified(identity: Any) -> tuple[str, Storage]:
    """(key, storage) of a persistent id: ('storage', class, key, device, count[, the view it is of another])."""
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
        raise DamagedError("is damaged (an object outside of its pickle)")
    _, kind, key, _, count, *view = identity
    name = kind.name.rpartition(".")[2] if isinstance(kind, Global) else ""
    if name not in _STORAGES or not isinstance(key, str) or type(count) is not int or not 0 <= count < 2**48:
        raise DamagedError("is damaged (a storage of an unknown kind)")
    if view and view[0] is not None:
        raise DamagedError("holds storages that are views of others; save it with PyTorch 1.6 or later")
    return key, Storage(_STORAGES[name], count)


def _tensor(meaning: Meaning, record: Record) -> Any:
    """torch._utils._rebuild_tensor_v2(storage, offset, shape, strides, ...), and _v3, which names the dtype."""
    storage, offset, shape, strides, *rest = arguments_of(meaning, record, 4, 9)
    if not isinstance(storage, Storage):
        raise DamagedError("is damaged (a tensor without a storage)")
    dtype = storage.dtype
    if record.name.endswith("_v3"):
        named = rest[2].name.removeprefix("torch.") if len(rest) > 2 and isinstance(rest[2], Global) else ""
        if named not in _DTYPES:
            return Opaque(f"a tensor of type {named}")
        dtype = named
    if any(isinstance(one, dict) and any(one.values()) for one in rest):
        return Opaque("a tensor whose numbers are to be conjugated or negated")
    if not isinstance(shape, tuple) or not isinstance(strides, tuple) or len(shape) != len(strides):
        raise DamagedError("is damaged (a tensor without a shape)")
    if any(type(number) is not int or not 0 <= number < 2**48 for number in (offset, *shape, *strides)):
        raise DamagedError("is damaged (a tensor's shape)")
    tensor = Tensor(storage, dtype, offset, shape, strides)
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides)) if tensor.size else 0
    count = storage.nbytes // tensor.numpy_dtype.itemsize
    if (tensor.size and last >= count) or tensor.size > max(count, _MAX_EXPANDED):
        raise DamagedError(f"holds a tensor of shape {str(shape)[:60]} in a storage of {count:,} numbers")
    return tensor


def _first_argument(meaning: Meaning, record: Record) -> Any:
    """Parameters and tensors with attributes: the tensor itself."""
    return arguments_of(meaning, record, 1, 5)[0]


def _of_another_class(meaning: Meaning, record: Record) -> Any:
    """torch._tensor._rebuild_from_type_v2(function, class, arguments, state)."""
    if len(record.arguments) != 4 or not isinstance(record.arguments[2], tuple):
        raise DamagedError("is damaged (a tensor of a class)")
    return meaning.call(record.arguments[0], record.arguments[2])


def _shape(meaning: Meaning, record: Record) -> Any:
    return tuple(arguments_of(meaning, record, 0, 1)[0]) if record.arguments else ()


def _storage_from_bytes(meaning: Meaning, record: Record) -> Any:
    """torch.storage._load_from_bytes(bytes): a whole file in a tensor that was pickled without PyTorch's own saving."""
    data = arguments_of(meaning, record, 1, 1)[0]
    if isinstance(data, str):
        data = data.encode("latin1")
    if not isinstance(data, bytes):
        raise DamagedError("is damaged (a storage without its bytes)")
    if data.startswith(b"PK"):
        raise DamagedError("holds a tensor pickled in a form that is not read; save it with torch.save")
    return _read_stream(Stream(io.BytesIO(data), len(data)), lambda: np.frombuffer(data, np.uint8), VOCABULARY)


def _opaque(name: str) -> Any:
    return lambda meaning, record: Opaque(name)


VOCABULARY = BASIC.extended(
    {
        "torch.storage._load_from_bytes": _storage_from_bytes,
        "torch._utils._rebuild_tensor": _tensor,
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_tensor_v3": _tensor,
        "torch._utils._rebuild_parameter": _first_argument,
        "torch._utils._rebuild_parameter_with_state": _first_argument,
        "torch._tensor._rebuild_from_type_v2": _of_another_class,
        "torch._utils._rebuild_sparse_tensor": _opaque("a sparse tensor"),
        "torch._utils._rebuild_sparse_csr_tensor": _opaque("a sparse tensor"),
        "torch._utils._rebuild_qtensor": _opaque("a quantized tensor"),
        "torch._utils._rebuild_meta_tensor_no_storage": _opaque("a tensor without numbers"),
        "torch.serialization._get_layout": _opaque("a layout"),
        "torch.Size": _shape,
        "torch.device": _opaque("a device"),
    },
    names=[
        *(f"torch.{name}" for name in (*_STORAGES, *_DTYPES)),
        "torch.storage.UntypedStorage",
        "torch.storage.TypedStorage",
        "torch.Tensor",
        "torch.nn.parameter.Parameter",
        *(f"torch.{name}" for name in ("float8_e4m3fn", "float8_e5m2", "qint8", "quint8", "qint32")),
    ],
)
"""What PyTorch's files name, besides what other pickles do."""
