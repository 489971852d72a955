"""Files that may hold pickles, read without their danger: only arrays and plain containers come out.

Motion and body files of this field are often pickles, and a pickle is a program. `pickle_machine` runs it without
calling anything, `pickle_meanings` turns the records of what it asked for into arrays. joblib's form (raw arrays
between the opcodes, the whole perhaps compressed), object arrays inside .npy and .npz, and PyTorch's files are read
too, without joblib and PyTorch.
"""

import io
import os
import zipfile
from typing import Any, BinaryIO

import numpy as np

from champ_jax.common.arrays import (
    DamagedError,
    Stream,
    decompress,
    explain,
    is_compressed,
    open_npz,
    read_npy_stream,
)
from champ_jax.common.contents import HEAD, describe
from champ_jax.common.errors import InputError
from champ_jax.common.files import open_input
from champ_jax.common.limits import require_memory
from champ_jax.common.pickle_machine import RefusedError
from champ_jax.common.pickle_meanings import Opaque, read_pickle
from champ_jax.common.torch_files import MAGIC, VOCABULARY, is_torch_archive, read_torch, to_arrays

__all__ = ["Opaque", "read_arrays"]


def read_arrays(path: str | os.PathLike) -> Any:
    """Reads .npy, .npz, .pkl, joblib and PyTorch files, told apart by content.

    Returns:
      What the file holds, with every array, sparse matrix and tensor as a NumPy array: of an .npz a dict. bfloat16
      becomes float32. Objects of chumpy that are not stored arrays are `Opaque`.

    Raises:
      InputError: no such file, a broken one, or one that names anything but arrays and plain containers.
    """
    try:
        with open_input(path) as file, explain(path, "a file of arrays"):
            return _read(path, file)
    except RefusedError as error:
        raise InputError(
            f"{path}: names {error}, which is not an array; it was not read and nothing in it was run"
        ) from error


def _read(path: str | os.PathLike, file: BinaryIO) -> Any:
    head = file.read(HEAD)
    file.seek(0)
    size = os.fstat(file.fileno()).st_size
    if head.startswith(b"PK"):
        with zipfile.ZipFile(file) as archive:
            if is_torch_archive(archive):
                return to_arrays(read_torch(path))
        with open_npz(path, _read_objects) as (names, read):
            return {name: read(name) for name in names}
    if is_compressed(head):
        data = decompress(path, file.read())
        return _read_objects(Stream(io.BytesIO(data), len(data)))
    require_memory(size, f"{path}: reading it", "use a machine with more memory")
    if head.startswith(b"\x93NUMPY"):
        return read_npy_stream(Stream(file, size), _read_objects)
    try:
        value = _read_objects(Stream(file, size))
        return to_arrays(read_torch(path)) if type(value) is int and value == MAGIC else value
    except DamagedError as error:
        what = describe(head)
        if what is None or what == "is a pickle":
            raise
        if what == "is text":
            raise DamagedError(f"is text that cannot be read as arrays (it {error})") from error
        raise DamagedError(f"{what}; a file of arrays is expected") from error


def _read_objects(stream: Stream) -> Any:
    value = to_arrays(read_pickle(stream, VOCABULARY))
    # NumPy saves an object that is not an array as an array of no dimensions.
    is_boxed = isinstance(value, np.ndarray) and value.shape == () and value.dtype == object
    return value.item() if is_boxed else value
