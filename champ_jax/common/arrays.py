"""Arrays from files that may come from strangers: .npy and .npz without pickles.

Shapes and dtypes in a header are claims; they are compared with the bytes that follow before anything is allocated.
Dtypes come from a short list: booleans, integers, floats and complex numbers of fixed sizes, and strings.
"""

import bz2
import lzma
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, Literal

import numpy as np

from champ_jax.common.contents import HEAD, describe
from champ_jax.common.errors import InputError
from champ_jax.common.files import open_input
from champ_jax.common.limits import require_memory, size_text

BASE_SIZE = 2**27
"""Bytes that any file may grow to when it is decompressed ..."""

MAX_RATIO = 100
"""... and how many times its own size besides."""

MAX_MEMBERS = 100_000
"""Entries of the largest zip archive."""

_DTYPE = re.compile(r"([<>|=]?)(\?|b1|[iu][1248]|f[248]|c8|c16|[SU]\d{1,9})")
_NPY = b"\x93NUMPY"
_MAX_HEADER = 2**16
_MAX_DIMENSIONS = 32
_CHUNK = 2**24
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)

BROKEN = (
    ArithmeticError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,  # and RecursionError, NotImplementedError
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
"""What damaged bytes make Python's readers raise."""


Order = Literal["C", "F"]
"""How an array's elements lie: rows first (C) or columns first (Fortran)."""


class DamagedError(ValueError):
    """The bytes are not what their format says; the message follows the file's name."""


class Stream:
    """A file that is read forward, never beyond its known end.

    Attributes:
      left: bytes up to the end.
    """

    def __init__(self, file: IO[bytes], size: int):
        self._file = file
        self.left = size

    def read(self, size: int) -> bytes:
        """Exactly `size` bytes.

        Raises:
          DamagedError: there are fewer.
        """
        if not 0 <= size <= self.left:
            raise DamagedError("is truncated")
        data = self._file.read(size)
        if len(data) != size:
            raise DamagedError("is truncated")
        self.left -= size
        return data

    def skip(self, size: int) -> None:
        """Skips `size` bytes of a seekable file."""
        if not 0 <= size <= self.left:
            raise DamagedError("is truncated")
        self._file.seek(size, os.SEEK_CUR)
        self.left -= size

    def read_line(self) -> bytes:
        """Up to the next newline, which is consumed but not returned."""
        line = self._file.readline(self.left)
        if not line.endswith(b"\n"):
            raise DamagedError("is truncated")
        self.left -= len(line)
        return line[:-1]

    def read_array(self, dtype: np.dtype, shape: tuple[int, ...], order: Order = "C") -> np.ndarray:
        """The array whose bytes come next; it is allocated once they are known to be there."""
        count = count_elements(shape, dtype, self.left)
        array = np.empty(count, dtype)
        view = array.view(np.uint8).data if array.nbytes else memoryview(b"")
        for start in range(0, array.nbytes, _CHUNK):
            part = self.read(min(_CHUNK, array.nbytes - start))
            view[start : start + len(part)] = part
        return array.reshape(shape, order=order)

    def read_rest(self) -> None:
        """Reads what is left and one byte more, because a zip archive checks its checksums at the end of an entry."""
        while self.left:
            self.read(min(_CHUNK, self.left))
        self._file.read(1)


def parse_dtype(text: Any) -> np.dtype:
    """The dtype of a name like '<f4', if it is on the list.

    Raises:
      DamagedError: it is not.
    """
    found = _DTYPE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise DamagedError(f"holds an array of type {str(text)[:40]}; only numbers and strings are read")
    return np.dtype(text)


def count_elements(shape: tuple[int, ...], dtype: np.dtype, size: int) -> int:
    """The number of elements of a shape, which is checked against the bytes that follow.

    Raises:
      DamagedError: the shape is impossible, or its elements take more than `size` bytes (both numbers are given).
    """
    if len(shape) > _MAX_DIMENSIONS or not all(type(length) is int and 0 <= length < 2**48 for length in shape):
        raise DamagedError(f"holds an array of the impossible shape {str(shape)[:80]}")
    count = math.prod(shape)
    if count * max(dtype.itemsize, 1) > size:
        raise DamagedError(
            f"holds an array of shape {str(shape)[:80]} and type {dtype}, which takes "
            f"{size_text(count * max(dtype.itemsize, 1))}, but only {size_text(size)} follow"
        )
    return count


def from_bytes(data: bytes | bytearray, dtype: np.dtype, shape: tuple[int, ...], order: Order = "C") -> np.ndarray:
    """The array in `data`, copied.

    Raises:
      DamagedError: the shape does not fit the bytes.
    """
    count = count_elements(shape, dtype, len(data))
    if count * dtype.itemsize != len(data):
        raise DamagedError(f"holds {len(data):,} bytes for an array of shape {shape} and type {dtype}")
    return np.frombuffer(data, dtype, count).reshape(shape, order=order).copy(order="K")


def read_npy_stream(stream: Stream, read_objects: Callable[[Stream], Any] | None = None) -> Any:
    """Reads one .npy from a stream.

    Args:
      stream: The stream, at the start of the array.
      read_objects: reads the pickle of an object array; None refuses these.

    Raises:
      DamagedError: it is not a .npy, is truncated, or holds what is not read.
    """
    if stream.read(6) != _NPY:
        raise DamagedError("is not a NumPy array (.npy)")
    major, minor = stream.read(2)
    if (major, minor) not in ((1, 0), (2, 0), (3, 0)):
        raise DamagedError(f"is a .npy file of the unknown version {major}.{minor}")
    length = int.from_bytes(stream.read(2 if major == 1 else 4), "little")
    if length > _MAX_HEADER:
        raise DamagedError(f"has a .npy header of {length:,} bytes")
    name, fortran_order, shape = _parse_header(stream.read(length).decode("latin1"))
    if name.lstrip("<>|=") in ("O", "O8", "O4"):
        if read_objects is None:
            raise DamagedError("holds Python objects, where numbers are expected")
        return read_objects(stream)
    return stream.read_array(parse_dtype(name), shape, "F" if fortran_order else "C")


def _parse_header(text: str) -> tuple[str, bool, tuple[int, ...]]:
    """(dtype's name, whether in Fortran's order, shape) of a .npy header, the text of a Python dict.

    Read by patterns: `ast.literal_eval`, which NumPy uses, can overflow the stack.
    """
    name = re.search(r"['\"]descr['\"]\s*:\s*['\"]([^'\"]*)['\"]", text)
    order = re.search(r"['\"]fortran_order['\"]\s*:\s*(True|False)", text)
    shape = re.search(r"['\"]shape['\"]\s*:\s*\(([\d\sL,]*)\)", text)  # simple, for a search must not backtrack
    if re.search(r"['\"]descr['\"]\s*:\s*[\[(]", text):
        raise DamagedError("holds an array of records; only arrays of numbers and strings are read")
    if not (name and order and shape):
        raise DamagedError("has a damaged .npy header")
    lengths = [length.strip() for length in shape[1].split(",") if length.strip()]
    if not all(re.fullmatch(r"\d{1,20}L?", length) for length in lengths):
        raise DamagedError("has a damaged .npy header")
    return name[1], order[1] == "True", tuple(int(length.rstrip("L")) for length in lengths)


def check_members(path: str | os.PathLike, archive: zipfile.ZipFile, size: int) -> list[zipfile.ZipInfo]:
    """The entries of a zip archive, none of which is more than it can plausibly hold.

    Args:
      path: what a message calls it.
      size: The size of the archive's file, in bytes.

    Raises:
      InputError: entries are encrypted, packed by an unknown method, or decompress to too much.
    """
    members = archive.infolist()
    if len(members) > MAX_MEMBERS:
        raise InputError(f"{path}: holds {len(members):,} entries, more than {MAX_MEMBERS:,}")
    for member in members:
        if member.flag_bits & 0x41:
            raise InputError(f"{path}: its entry {member.filename[:80]} is encrypted; save it without a password")
        if member.compress_type not in _METHODS:
            raise InputError(
                f"{path}: its entry {member.filename[:80]} is packed by method {member.compress_type}, which is not "
                "supported; pack it again"
            )
    check_growth(path, sum(member.file_size for member in members), size)
    return members


def check_growth(path: str | os.PathLike, size: int, packed: int) -> None:
    """Refuses what decompresses to more than a plausible file can hold, or than there is memory.

    Args:
      path: what a message calls it.
      size: bytes when decompressed.
      packed: bytes of the file.
    """
    limit = BASE_SIZE + MAX_RATIO * packed
    if size > limit:
        raise InputError(
            f"{path}: its {size_text(packed)} decompress to {size_text(size)} or more, beyond the {size_text(limit)} "
            "that are plausible; nothing was read"
        )
    require_memory(size, f"{path}: reading it", "use a smaller file or a machine with more memory")


def decompress(path: str | os.PathLike, data: bytes) -> bytes:
    """Decompresses gzip, bzip2, xz, lzma or zlib data, by its first bytes; bounded as `check_growth` says.

    Raises:
      InputError: it decompresses to too much.
      DamagedError: it is truncated or damaged.
    """
    make = next(make for start, make in _DECOMPRESSORS if data.startswith(start))
    limit = BASE_SIZE + MAX_RATIO * len(data)
    out = bytearray()
    rest = data
    while rest:
        machine = make()
        while not machine.eof:
            part = machine.decompress(rest, _CHUNK)
            out += part
            rest = getattr(machine, "unconsumed_tail", b"")  # zlib's keep no input themselves
            if len(out) > limit:
                check_growth(path, len(out), len(data))
            if not part and not machine.eof and not rest:
                raise DamagedError("is truncated")
        rest = machine.unused_data.lstrip(b"\x00")
    return bytes(out)


def is_compressed(head: bytes) -> bool:
    """Whether a file that starts so is read by `decompress`."""
    return head.startswith(tuple(start for start, _ in _DECOMPRESSORS))


def _lzma(form: int) -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(form, memlimit=2**28)


_DECOMPRESSORS: tuple[tuple[bytes, Callable[[], Any]], ...] = (
    (b"\x1f\x8b", lambda: zlib.decompressobj(31)),
    (b"BZh", bz2.BZ2Decompressor),
    (b"\xfd7zXZ", lambda: _lzma(lzma.FORMAT_XZ)),
    (b"\x5d\x00", lambda: _lzma(lzma.FORMAT_ALONE)),
    (b"\x78", zlib.decompressobj),
)


@contextmanager
def explain(path: str | os.PathLike, what: str) -> Iterator[None]:
    """Turns what damaged bytes raise in the block into InputError.

    Args:
      path: The file.
      what: What the file should be, with its article: 'a .npz file'.
    """
    try:
        yield
    except InputError:
        raise
    except DamagedError as error:
        raise InputError(f"{path}: {error}") from error
    except BROKEN as error:
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"{path}: is damaged or not {what} ({detail})") from error


def read_npy(path: str | os.PathLike) -> np.ndarray:
    """Reads a .npy file that holds an array of numbers or strings.

    Raises:
      InputError: no such file, another kind of file (which is named), a damaged one, or one that holds Python objects.
    """
    with open_input(path) as file, explain(path, "a .npy file"):
        _check_head(path, file, _NPY, "a .npy file")
        size = os.fstat(file.fileno()).st_size
        require_memory(size, f"{path}: reading it", "use a machine with more memory")
        return read_npy_stream(Stream(file, size))


@contextmanager
def open_npz(
    path: str | os.PathLike, read_objects: Callable[[Stream], Any] | None = None
) -> Iterator[tuple[list[str], Callable[[str], Any]]]:
    """Gives the names of a .npz file's arrays and a function that reads one.

    Args:
      path: The file.
      read_objects: reads the pickle of an object array; None refuses these.

    Raises:
      InputError: no such file, another kind of file (which is named), a damaged one, or one that decompresses to more
        than is plausible; when an array is read, that it is damaged or holds what is not read.
    """
    with open_input(path) as file, explain(path, "a .npz file"):
        _check_head(path, file, b"PK", "a .npz file")
        size = os.fstat(file.fileno()).st_size
        with zipfile.ZipFile(file) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in check_members(path, archive, size)}

            def read(name: str) -> Any:
                member = members[name]
                with explain(f"{path}: {name[:80]}", "an array"), archive.open(member) as entry:
                    stream = Stream(entry, member.file_size)
                    value = read_npy_stream(stream, read_objects)
                    stream.read_rest()
                    return value

            yield list(members), read


def _check_head(path: str | os.PathLike, file: BinaryIO, start: bytes, what: str) -> None:
    head = file.read(HEAD)
    file.seek(0)
    if not head.startswith(start):
        raise InputError(f"{path}: {describe(head) or 'is of an unknown kind'}; {what} is expected")
