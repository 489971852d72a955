"""Digests of arrays, by which damage on a disk is noticed: the same for every way of splitting an array over devices.

The digest of an array is the sum over its elements of bits * (2 * place + 1) modulo 2**64, where `bits` are an
element's bits as a whole number and `place` is its position in row-major order. An odd factor has an inverse modulo
2**64, so a change of any single element always changes the sum; other damage goes unnoticed once in about 2**64 times.
The sum of the pieces' digests is the digest of the whole. It protects from accidents, not from forgery.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from champ_jax.common.errors import InputError

_BLOCK = 2**18  # elements that are widened to 64 bits at once: they stay in the processor's cache


def digest(array: np.ndarray) -> str:
    """The digest of a whole array, 16 hexadecimal digits."""
    return to_hex(digest_of_piece(array, (0,) * array.ndim, array.shape))


def digest_of_piece(piece: np.ndarray, start: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """What a rectangular piece adds to the digest of its array, modulo 2**64.

    Args:
      piece: its values, of any dtype of 1, 2, 4 or 8 bytes.
      start: the position of its first element in the array.
      shape: The shape of the array.
    """
    if not piece.size:
        return 0
    if not piece.ndim:
        piece, start, shape = piece.reshape(1), (0,), (1,)
    bits = np.ascontiguousarray(piece).view(f"u{piece.dtype.itemsize}").reshape(-1, piece.shape[-1])
    # The place of each row's first element, in row-major order of the rows.
    places = np.zeros((), np.uint64)
    for first, count, size in zip(start, piece.shape[:-1], shape[:-1]):
        places = (places * np.uint64(size))[..., None] + np.arange(first, first + count, dtype=np.uint64)
    places = places.reshape(-1) * np.uint64(shape[-1]) + np.uint64(start[-1])
    columns = 2 * np.arange(piece.shape[-1], dtype=np.uint64) + np.uint64(1)
    total = 0
    rows = max(_BLOCK // piece.shape[-1], 1)
    for begin in range(0, len(bits), rows):
        block = bits[begin : begin + rows].astype(np.uint64)
        # bits * (2 * (place of the row + column) + 1), summed; unsigned arithmetic wraps around as it should.
        row_sums = block.sum(axis=1)
        total += int((2 * places[begin : begin + rows] * row_sums).sum()) + int((block @ columns).sum())
    return total % 2**64


def to_hex(value: int) -> str:
    """A digest in its written form."""
    return f"{value:016x}"


def digest_of_json(fields: Any) -> str:
    """The digest of what a JSON file holds, whatever its spacing and order."""
    read = json.loads(json.dumps(fields))  # keys become text, as they will be when the file is read
    return hashlib.sha256(json.dumps(read, sort_keys=True).encode()).hexdigest()


def check_digests(arrays: Mapping[str, str], expected: Any, source: Any) -> None:
    """Compares digests with those that were stored.

    Args:
      arrays: {name: digest of what was read}.
      expected: {name: digest of what was written}.
      source: what was read, for the message.

    Raises:
      InputError: names the first array that differs.
    """
    if not isinstance(expected, Mapping) or set(arrays) != set(expected):
        raise InputError(f"{source}: is damaged (its digests are of other arrays)")
    for name, value in arrays.items():
        if value != expected[name]:
            raise InputError(f"{source}: is damaged ({name} is not what was saved)")
