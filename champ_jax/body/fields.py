"""Arrays of files from anywhere, checked against what their fields must be: one schema a kind of file.

    FIELDS = {
        "vertices": Field(("frames", "vertices", 3), np.float32, Number(minimum=-1_000_000, maximum=1_000_000)),
        "focal": Field(("frames",), np.float32, Number(above=0, maximum=10_000_000)),
    }
    arrays = read_fields("mesh.npz", data, FIELDS)

Whatever the data holds (None, text, ragged lists, objects, complex numbers), only `InputError` comes out.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Integer, Number

MAX_FRAMES = 300_000
"""Frames of the longest motion: almost three hours at 30 frames per second."""

LARGEST_SIZES = {"frames": MAX_FRAMES, "vertices": 2_000_000, "faces": 4_000_000}
"""The largest sizes that a plausible file has, by the names that shapes give them."""

ANY = Number(minimum=-1_000_000_000, maximum=1_000_000_000)
METERS = Number(minimum=-1_000_000, maximum=1_000_000)
FOCAL = Number(above=0, maximum=10_000_000)
FPS = Number(minimum=0.001, maximum=1000)
SIDE = Number(minimum=1, maximum=65_535)
BETA = Number(minimum=-1000, maximum=1000)


@dataclasses.dataclass(frozen=True)
class Field:
    """What an array must be.

    Attributes:
      shape: its sizes. A name stands for the same size in all fields that are read together; '*' is any size.
      dtype: what it is converted to. Whole numbers and booleans are converted from floating point if nothing is lost.
      values: the range of its values. NaN and infinity are never allowed; an `Integer` takes no floating point at all.
      reshape: whether an array of another shape is taken if it can be reshaped to (-1, *rest of the shape); an array of
        one value for a shape without sizes.
      optional: whether it may be missing.
    """

    shape: tuple[int | str, ...]
    dtype: Any = np.float64
    values: Number = ANY
    reshape: bool = False
    optional: bool = False


def read_fields(
    source: str,
    data: Any,
    fields: Mapping[str, Field],
    sizes: Mapping[str, int] | None = None,
) -> dict[str, np.ndarray]:
    """Converts and checks the fields of a file.

    Args:
      source: the file, which begins every message.
      data: what was read. Fields that the schema does not name are passed over.
      fields: the schema, {name: field}. Where it has a field `valid` of (frames,), the values of other frames than the
        valid ones are not checked.
      sizes: sizes that are known already, by name.

    Returns:
      {name: array}; a field that is optional and missing, or None, is left out.

    Raises:
      InputError: names the first field that is missing or does not fit, and the frame where one holds a bad value.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"{source}: holds {_describe(data)}, fields with names are expected")
    required = [name for name, field in fields.items() if not field.optional]
    missing = [name for name in required if name not in data]
    if missing:
        raise InputError(f"{source}: lacks {', '.join(missing)}")
    known = dict(sizes or {})
    shaped = {
        name: _shape(source, name, to_array(source, name, data.get(name)), field, known)
        for name, field in fields.items()
        if data.get(name) is not None or not field.optional
    }
    valid = _convert(source, "valid", shaped["valid"], fields["valid"], None) if "valid" in fields else None
    return {name: _convert(source, name, array, fields[name], valid) for name, array in shaped.items()}


def read_field(source: str, name: str, value: Any, field: Field) -> np.ndarray:
    """Converts and checks one value, as `read_fields`."""
    return read_fields(source, {name: value}, {name: field})[name]


def to_array(source: str, name: str, value: Any) -> np.ndarray:
    """An array of booleans, real numbers or text from anything.

    Raises:
      InputError: it is not one; the message says what it is.
    """
    if value is None:
        raise InputError(f"{source}: {name} is None, numbers are expected")
    try:
        array = np.asarray(value)
        if array.dtype == object:  # arrays in lists in arrays
            array = np.array(array.tolist(), np.float64)
    except (ValueError, OverflowError) as error:
        reason = "rows of different lengths" if "inhomogeneous" in str(error) else "something that is not a number"
        raise InputError(f"{source}: {name} holds {reason}") from error
    except (TypeError, RecursionError, AttributeError) as error:
        raise InputError(f"{source}: {name} holds {_describe(value)}, numbers are expected") from error
    if array.dtype.kind == "c":
        raise InputError(f"{source}: {name} holds complex numbers, real ones are expected")
    if array.dtype.kind not in "biufUS":
        raise InputError(f"{source}: {name} holds {array.dtype}, numbers are expected")
    return array


def check_frame_count(source: str, count: int) -> None:
    """Raises InputError for a motion of no frames, or of more than `MAX_FRAMES`."""
    if count < 1:
        raise InputError(f"{source}: the motion has no frames")
    if count > MAX_FRAMES:
        raise InputError(f"{source}: the motion would have {count:,} frames; at most {MAX_FRAMES:,} are read")


def _shape(source: str, name: str, array: np.ndarray, field: Field, known: dict[str, int]) -> np.ndarray:
    """The array in the field's shape; sizes met for the first time are added to `known`."""
    if array.dtype.kind in "US" and np.dtype(field.dtype).kind != "U":
        raise InputError(f"{source}: {name} holds text, numbers are expected")
    sizes = [known.get(size, size) if isinstance(size, str) else size for size in field.shape]
    if field.reshape and array.shape != tuple(sizes):
        rest = sizes[1:]
        known_rest = [size for size in rest if isinstance(size, int)]
        if not sizes and array.size == 1:
            array = array.reshape(())
        elif sizes and len(known_rest) == len(rest) and array.size % math.prod(known_rest) == 0:
            array = array.reshape(-1, *known_rest)
        elif rest == ["*"] and array.ndim:
            array = array.reshape(len(array), -1) if array.size else array.reshape(0, 0)
    fits = array.ndim == len(sizes) and all(
        isinstance(size, str) or size == have for size, have in zip(sizes, array.shape)
    )
    if not fits:
        expected = ", ".join("any" if size == "*" else str(size) for size in sizes)
        raise InputError(
            f"{source}: {name} has shape {array.shape}, it should be ({expected}{',' if len(sizes) == 1 else ''})"
        )
    for size, have in zip(sizes, array.shape):
        if not isinstance(size, str):
            continue
        if size == "frames":
            check_frame_count(source, have)
        elif have > LARGEST_SIZES.get(size, have):
            raise InputError(f"{source}: {name} has {have:,} {size}; at most {LARGEST_SIZES[size]:,} are read")
        if size != "*":
            known[size] = have
    return array


def _convert(source: str, name: str, array: np.ndarray, field: Field, valid: np.ndarray | None) -> np.ndarray:
    dtype = np.dtype(field.dtype)
    if dtype.kind == "U":
        return array.astype(np.str_)
    if isinstance(field.values, Integer) and array.dtype.kind not in "iu":
        raise InputError(f"{source}: {name} holds {array.dtype}, integers are expected")
    per_frame = field.shape[:1] == ("frames",)
    good, expected = _allowed(array, field.values, whole=dtype.kind in "iu")
    if per_frame and valid is not None:
        good |= ~valid.reshape(-1, *[1] * (array.ndim - 1))
    if not good.all():
        bad = np.unravel_index(int(np.argmin(good)), array.shape)
        frame = f"frame {bad[0]}: " if per_frame else ""
        value = array[bad]
        if array.dtype.kind == "f" and not np.isfinite(value):
            raise InputError(f"{source}: {frame}{name} holds a number that is not finite")
        raise InputError(f"{source}: {frame}{name} {'holds' if array.ndim else 'is'} {value:g}, expected {expected}")
    with np.errstate(all="ignore"):
        return array.astype(dtype, copy=False)


def _allowed(array: np.ndarray, values: Number, *, whole: bool) -> tuple[np.ndarray, str]:
    """Which values are allowed, an array of booleans; and what is expected."""
    good = np.isfinite(array) if array.dtype.kind == "f" else np.ones(array.shape, bool)
    expected = str(values)
    # NumPy would bring a Python number to the array's dtype, where a bound can overflow (float16, uint8).
    minimum, above, maximum = (
        None if bound is None else np.float64(bound) for bound in (values.minimum, values.above, values.maximum)
    )
    with np.errstate(invalid="ignore"):
        if minimum is not None:
            good &= array >= minimum
        if above is not None:
            good &= array > above
        if maximum is not None:
            good &= array <= maximum
        if whole and array.dtype.kind == "f":
            good &= array == np.rint(array)
            expected = expected.replace("a number", "a whole number")
    return good, expected


def _describe(value: Any) -> str:
    """What a value is, in the words of a message."""
    if isinstance(value, str | bytes):
        return "text"
    if isinstance(value, Mapping):
        return "named values"
    return f"{type(value).__name__} objects" if not isinstance(value, list | tuple) else "a list of other things"
