"""What the records of a pickle stand for: plain Python values and NumPy arrays, by a short table of what is known.

Arrays are made by `champ_jax.common.arrays` from a dtype of its list and bytes that are there. chumpy, which no longer
installs, and scipy's sparse matrices are read by their records; joblib's arrays lie between the opcodes.
"""

import dataclasses
import math
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from champ_jax.common.arrays import DamagedError, Order, Stream, from_bytes, parse_dtype
from champ_jax.common.pickle_machine import Global, Items, Machine, Pairs, Record, RefusedError

MAX_DENSE = 2**24
"""Elements of the largest sparse matrix that is written out."""

_MAX_DEPTH = 64  # levels of nested containers
_SHARED = 2**20  # elements that values which are named repeatedly may amount to, besides 8 for each byte of the file
_OBJECTS = "objects"  # in place of a dtype
_OBJECT_FLAGS = 63  # NumPy's, of a dtype that holds references to objects


@dataclasses.dataclass(frozen=True)
class Opaque:
    """An object that is not an array, and that nobody may need.

    Attributes:
      name: what it is, for messages: 'an object of chumpy'.
    """

    name: str


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The classes and functions that a pickle may name.

    Attributes:
      meanings: {name: function (meaning, record) that gives the value of its records}.
      names: those that are only arguments of others.
    """

    meanings: Mapping[str, Callable[["Meaning", Record], Any]]
    names: frozenset[str]

    def knows(self, name: str) -> bool:
        """Whether a pickle may name it."""
        return name in self.meanings or name in self.names or name.startswith("chumpy.") or _sparse_form(name) != ""

    def extended(
        self, meanings: Mapping[str, Callable[["Meaning", Record], Any]], names: Iterable[str] = ()
    ) -> "Vocabulary":
        """This one with more names."""
        return Vocabulary({**self.meanings, **meanings}, self.names | frozenset(names))


def read_pickle(
    stream: Stream, vocabulary: Vocabulary, persistent: Callable[[Any], Any] | None = None, outside: int = 0
) -> Any:
    """The value of a pickle: numbers, text, bytes, plain containers and arrays.

    Objects of chumpy that are not stored arrays are `Opaque`; classes that it names alone are `Global`.

    Args:
      stream: The stream, at its start; afterwards at its end.
      vocabulary: what it may name.
      persistent: gives the value of an object outside of the pickle by its id; None refuses these.
      outside: bytes of the objects outside of the pickle, which its values may amount to as well.

    Raises:
      RefusedError: it names something that is not in the vocabulary.
      DamagedError: it is truncated or damaged.
    """
    size = stream.left + outside

    states = Meaning(vocabulary, 2**16)  # one for all wrappers, for they can share a state

    def read_joblib_array(record: Record, stream: Stream) -> None:
        if record.name == _JOBLIB:
            record.value = _joblib_array(states.of(record.state), stream, vocabulary)

    machine = Machine(stream, vocabulary.knows, after_build=read_joblib_array, with_persistent=persistent is not None)
    return Meaning(vocabulary, size, persistent).of(machine.run())


class Meaning:
    """Turns what a pickle recorded into values. Every record is turned once, however often it is named."""

    def __init__(self, vocabulary: Vocabulary, size: int, persistent: Callable[[Any], Any] | None = None):
        """
        Args:
          vocabulary: what records stand for.
          size: bytes of the pickle; bounds what its values can amount to.
          persistent: the value of an object outside of the pickle, by its id.
        """
        self._vocabulary = vocabulary
        self._limit = _SHARED + 8 * size
        self._persistent = persistent
        self._known: dict[int, tuple[Any, Any, int]] = {}  # id: (the record, kept alive; its value; elements)
        self._open: set[int] = set()
        self._made = 0  # elements of all that records were turned into

    def of(self, raw: Any) -> Any:
        """The value of a record.

        Raises:
          DamagedError: it is damaged, nested too deeply, contains itself, or amounts to too much.
          RefusedError: it is known but used for something that is not allowed.
        """
        return self._value(raw)[0]

    def _value(self, raw: Any) -> tuple[Any, int]:
        """The value and how many elements it amounts to, with everything that is in it."""
        if isinstance(raw, str | bytes):
            return raw, _count(raw)
        if raw is None or isinstance(raw, bool | int | float | Global):
            return raw, 1
        key = id(raw)
        if key in self._known:
            return self._known[key][1:]
        if key in self._open:
            raise DamagedError("holds a container that contains itself")
        if len(self._open) >= _MAX_DEPTH:
            raise DamagedError(f"is nested more than {_MAX_DEPTH} deep")
        self._open.add(key)
        value, elements = self._make(raw)
        self._open.remove(key)
        self._check(elements)
        self._known[key] = raw, value, elements
        return value, elements

    def _make(self, raw: Any) -> tuple[Any, int]:
        if isinstance(raw, list | tuple):
            return self._sequence(raw)
        if isinstance(raw, Pairs):
            return self._dict(raw.pairs)
        if isinstance(raw, Items):
            values, elements = self._sequence(raw.items)
            return set(values), elements
        if isinstance(raw, Record):
            if raw.value is not None:
                return self._value(raw.value)
            value = self._object(raw)
            if isinstance(value, np.ndarray | str | bytes | dict | list | tuple | set):
                self._made += _count(value)  # thousands of records can copy one argument
                self._check(self._made)
            if not isinstance(value, dict | list | tuple | set):
                return value, _count(value)
            inside = [*raw.arguments, *raw.items, *(item for pair in raw.pairs for item in pair)]
            return value, self._sequence(inside)[1]
        if isinstance(raw, np.ndarray):
            return raw, raw.size
        raise DamagedError(f"holds a {type(raw).__name__}")

    def _check(self, elements: int) -> None:
        if elements > self._limit:
            raise DamagedError(f"names its values so often that they amount to {elements:,} elements")

    def _sequence(self, raw: Any) -> tuple[Any, int]:
        pairs = [self._value(item) for item in raw]
        values = [value for value, _ in pairs]
        return (tuple(values) if isinstance(raw, tuple) else values), 1 + sum(count for _, count in pairs)

    def _dict(self, pairs: list[tuple[Any, Any]]) -> tuple[dict, int]:
        result, elements = {}, 1
        for raw_key, raw_value in pairs:
            (key, one), (value, more) = self._value(raw_key), self._value(raw_value)
            result[key] = value
            elements += one + more
        return result, elements

    def _object(self, record: Record) -> Any:
        name = record.name
        if name == "persistent id":
            if self._persistent is None:
                raise RefusedError("an object outside the file")
            return self._persistent(self.of(record.arguments[0]))
        if name in _RECONSTRUCTORS:  # protocols 0 and 1: copyreg._reconstructor(class, base, state)
            if not record.arguments or not isinstance(record.arguments[0], Global):
                raise DamagedError("is a damaged pickle (an object of no class)")
            name = record.arguments[0].name
        if name.startswith("chumpy."):
            return self._chumpy(record)
        if _sparse_form(name):
            return _dense(_sparse_form(name), self.of(record.state))
        if name in self._vocabulary.meanings:
            return self._vocabulary.meanings[name](self, record)
        raise RefusedError(name)

    def _chumpy(self, record: Record) -> Any:
        before = set(self._open)
        try:
            return _chumpy_array(self.of(record.state))
        except (DamagedError, KeyError, TypeError, ValueError, IndexError):
            self._open = before
            return Opaque("an object of chumpy that is not a stored array")

    def call(self, function: Any, arguments: tuple[Any, ...]) -> Any:
        """The value of a call that is an argument of another one (torch._tensor._rebuild_from_type_v2)."""
        if not isinstance(function, Global):
            raise DamagedError("is a damaged pickle (a call of nothing)")
        return self._object(Record(function.name, arguments))


def _count(value: Any) -> int:
    """How many elements a value amounts to, without what is in it."""
    if isinstance(value, str | bytes):
        return 1 + len(value) // 8
    if isinstance(value, dict | list | tuple | set):
        return 1 + len(value)
    return getattr(value, "size", 1)


def arguments_of(meaning: Meaning, record: Record, least: int, most: int) -> list[Any]:
    if not least <= len(record.arguments) <= most:
        raise DamagedError(f"is a damaged pickle ({record.name} of {len(record.arguments)} arguments)")
    return [meaning.of(argument) for argument in record.arguments]


# What the globals of a pickle stand for: {name: function (meaning, record) -> value}.


def _dtype(meaning: Meaning, record: Record) -> Any:
    """numpy.dtype(name, align, copy) with a state of (version, byte order, subarray, names, fields, size, ...)."""
    name = meaning.of(record.arguments[0]) if record.arguments else None
    state = meaning.of(record.state)
    order, size, flags = "", -1, None
    if state is not None:
        if not isinstance(state, tuple) or len(state) not in (8, 9) or state[1] not in ("<", ">", "|", "="):
            raise DamagedError("is a damaged pickle (a dtype's state)")
        if any(item is not None for item in state[2:5]):
            raise DamagedError("holds an array of records; only arrays of numbers and strings are read")
        order, size, flags = state[1], state[5], state[7]
    bare = name.lstrip("<>|=") if isinstance(name, str) else name
    if bare in ("O", "O8", "O4"):
        if flags not in (None, _OBJECT_FLAGS):
            raise DamagedError("is a forged pickle (a dtype of objects that says that it holds none)")
        return _OBJECTS
    dtype = parse_dtype(f"{order}{bare}")
    if size not in (-1, dtype.itemsize):
        raise DamagedError("is a damaged pickle (a dtype's size)")
    return dtype


def _reconstruct(meaning: Meaning, record: Record) -> np.ndarray:
    """numpy's array with a state of ([version], shape, dtype, whether in Fortran's order, bytes or list of objects)."""
    state = meaning.of(record.state)
    if not isinstance(state, tuple) or len(state) not in (4, 5):
        raise DamagedError("is a damaged pickle (an array without its state)")
    shape, dtype, fortran_order, data = state[-4:]
    order: Order = "F" if fortran_order else "C"
    shape = _shape(shape)
    if dtype is _OBJECTS:
        if not isinstance(data, list) or len(data) != math.prod(shape):
            raise DamagedError("is a damaged pickle (an array of objects without its objects)")
        array = np.empty(len(data), object)
        for index, item in enumerate(data):
            array[index] = item
        return array.reshape(shape, order=order)
    if isinstance(data, str):  # of Python 2
        data = data.encode("latin1")
    if not isinstance(dtype, np.dtype) or not isinstance(data, bytes):
        raise DamagedError("is a damaged pickle (an array without its bytes)")
    return from_bytes(data, dtype, shape, order)


def _shape(value: Any) -> tuple[int, ...]:
    shape = (value,) if type(value) is int else value
    if not isinstance(shape, tuple) or not all(type(length) is int and length >= 0 for length in shape):
        raise DamagedError("is a damaged pickle (an array's shape)")
    return shape


def _scalar(meaning: Meaning, record: Record) -> Any:
    """numpy's scalar(dtype, bytes)."""
    dtype, data = arguments_of(meaning, record, 2, 2)
    if isinstance(data, str):  # of Python 2
        data = data.encode("latin1")
    if not isinstance(dtype, np.dtype) or not isinstance(data, bytes):
        raise DamagedError("is a damaged pickle (a number without its bytes)")
    return from_bytes(data, dtype, ())[()]


def _frombuffer(meaning: Meaning, record: Record) -> np.ndarray:
    """numpy's _frombuffer(buffer, dtype, shape, order), of protocol 5."""
    buffer, dtype, shape, order = arguments_of(meaning, record, 4, 4)
    if not isinstance(buffer, bytes) or not isinstance(dtype, np.dtype) or order not in ("C", "F"):
        raise DamagedError("is a damaged pickle (an array without its bytes)")
    return from_bytes(buffer, dtype, _shape(shape), order)


def _joblib_array(state: Any, stream: Stream, vocabulary: Vocabulary) -> Any:
    """The array of joblib's NumpyArrayWrapper; its bytes, or a pickle of its objects, follow the wrapper's state."""
    if not isinstance(state, dict):
        raise DamagedError("is a damaged joblib file")
    dtype, shape, order = state.get("dtype"), _shape(state.get("shape")), state.get("order", "C")
    if dtype is _OBJECTS:
        return read_pickle(stream, vocabulary)
    if not isinstance(dtype, np.dtype) or order not in ("C", "F"):
        raise DamagedError("is a damaged joblib file")
    if state.get("numpy_array_alignment_bytes") is not None:
        stream.read(stream.read(1)[0])
    return stream.read_array(dtype, shape, order)


def _joblib_wrapper(meaning: Meaning, record: Record) -> Any:
    raise DamagedError("is a damaged joblib file (an array without its bytes)")


def _mapping(meaning: Meaning, record: Record) -> dict:
    """dict, OrderedDict, Counter (their items may be an argument) and defaultdict (its factory is not wanted)."""
    result: dict = {}
    for argument in record.arguments[record.name.endswith("defaultdict") :]:
        value = meaning.of(argument)
        pairs = value.items() if isinstance(value, dict) else value
        for pair in pairs:
            key, item = pair
            result[key] = item
    result.update(meaning.of(Pairs(record.pairs)))
    return result


def _sequence(make: Callable[[list], Any]) -> Callable[[Meaning, Record], Any]:
    def meaning_of(meaning: Meaning, record: Record) -> Any:
        items = arguments_of(meaning, record, 0, 1)
        if items and not isinstance(items[0], list | tuple | set):
            raise DamagedError(f"is a damaged pickle ({record.name} of a {type(items[0]).__name__})")
        return make([*(items[0] if items else ()), *meaning.of(record.items)])

    return meaning_of


def _bytes(meaning: Meaning, record: Record) -> bytes:
    """bytes() and bytearray(), of bytes, of a list of numbers, or of text and its encoding; never of a length."""
    arguments = arguments_of(meaning, record, 0, 2)
    if not arguments:
        return b""
    if isinstance(arguments[0], str):
        return arguments[0].encode("latin1")
    if not isinstance(arguments[0], bytes | list):
        raise DamagedError(f"is a damaged pickle ({record.name} of a {type(arguments[0]).__name__})")
    return bytes(arguments[0])


def _number(make: type) -> Callable[[Meaning, Record], Any]:
    def meaning_of(meaning: Meaning, record: Record) -> Any:
        values = arguments_of(meaning, record, 0, 2 if make is complex else 1)
        if not all(isinstance(value, bool | int | float) for value in values):
            raise DamagedError(f"is a damaged pickle ({record.name} of something that is not a number)")
        return make(*values)

    return meaning_of


def _text(meaning: Meaning, record: Record) -> str:
    values = arguments_of(meaning, record, 0, 1)
    if not all(isinstance(value, str) for value in values):
        raise DamagedError("is a damaged pickle (str of something that is not text)")
    return "".join(values)


def _encode(meaning: Meaning, record: Record) -> bytes:
    """_codecs.encode(text, 'latin1'): how protocols before 3 write bytes."""
    text, encoding = [*arguments_of(meaning, record, 1, 2), "latin1"][:2]
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise DamagedError("is a damaged pickle (bytes of something that is not text)")
    return text.encode("latin1")


def _slice(meaning: Meaning, record: Record) -> slice:
    values = arguments_of(meaning, record, 1, 3)
    if not all(value is None or type(value) is int for value in values):
        raise DamagedError("is a damaged pickle (a slice of something that is not numbers)")
    return slice(*values)


def _path(meaning: Meaning, record: Record) -> str:
    parts = arguments_of(meaning, record, 0, 1000)
    if not all(isinstance(part, str) for part in parts):
        raise DamagedError("is a damaged pickle (a path of something that is not text)")
    return os.path.join(*parts) if parts else "."


def _sparse_form(name: str) -> str:
    """'csc', 'csr' or 'coo' for the classes of scipy.sparse, '' for others."""
    package, _, kind = name.rpartition(".")
    if not package.startswith("scipy.") or not kind.endswith(("_matrix", "_array")):
        return ""
    return kind[:3] if kind[:4] in ("csc_", "csr_", "coo_") else ""


def _dense(form: str, state: Any) -> np.ndarray:
    """The array of a sparse matrix's state; entries at the same place add up."""
    shape = _shape(state["_shape"] if "_shape" in state else state["shape"])
    values = np.asarray(state["data"])
    if len(shape) != 2 or shape[0] * shape[1] > MAX_DENSE:
        raise DamagedError(f"holds a sparse matrix of shape {str(shape)[:60]}; up to {MAX_DENSE:,} elements are read")
    if form == "coo":
        rows, columns = (np.asarray(one) for one in state.get("coords") or (state["row"], state["col"]))
    else:
        starts, minor = np.asarray(state["indptr"]), np.asarray(state["indices"])
        lengths = np.diff(starts)
        count = shape[1] if form == "csc" else shape[0]
        if starts.shape != (count + 1,) or starts[0] != 0 or (lengths < 0).any() or starts[-1] != len(values):
            raise DamagedError("holds a damaged sparse matrix")
        major = np.repeat(np.arange(count), lengths)
        rows, columns = (minor, major) if form == "csc" else (major, minor)
    for index, length in ((rows, shape[0]), (columns, shape[1])):
        if index.dtype.kind not in "iu" or index.shape != values.shape or values.ndim != 1:
            raise DamagedError("holds a damaged sparse matrix")
        if index.size and not 0 <= index.min() <= index.max() < length:
            raise DamagedError("holds a sparse matrix with an index outside of it")
    if values.dtype.kind not in "biufc":
        raise DamagedError("holds a sparse matrix without numbers")
    array = np.zeros(shape, values.dtype)
    np.add.at(array, (rows, columns), values)
    return array


def _chumpy_array(state: Any) -> np.ndarray:
    """The array of a chumpy object's state. A leaf (Ch) keeps it in x; a view (Select, reshape) what it views in a."""
    if not isinstance(state, dict):
        raise TypeError("no state")
    value = np.asarray(state["x"] if "x" in state else state["a"])
    if value.dtype.kind not in "biuf":
        raise TypeError("holds no numbers")
    if state.get("idxs") is not None:
        value = value.ravel()[np.asarray(state["idxs"])]
    if state.get("preferred_shape") is not None:
        value = value.reshape(state["preferred_shape"])
    return value


_JOBLIB = "joblib.numpy_pickle.NumpyArrayWrapper"
_RECONSTRUCTORS = frozenset({"copyreg._reconstructor", "copy_reg._reconstructor"})
_MEANINGS: dict[str, Callable[[Meaning, Record], Any]] = {
    "numpy.dtype": _dtype,
    "collections.OrderedDict": _mapping,
    "collections.defaultdict": _mapping,
    "collections.Counter": _mapping,
    "_codecs.encode": _encode,
    _JOBLIB: _joblib_wrapper,
}
for _module in ("numpy.core", "numpy._core"):
    _MEANINGS[f"{_module}.multiarray._reconstruct"] = _reconstruct
    _MEANINGS[f"{_module}.multiarray.scalar"] = _scalar
    _MEANINGS[f"{_module}.numeric._frombuffer"] = _frombuffer
for _module in ("builtins", "__builtin__"):
    _MEANINGS |= {f"{_module}.{_name}": _number(_kind) for _name, _kind in {"int": int, "float": float}.items()}
    _MEANINGS |= {
        f"{_module}.long": _number(int),
        f"{_module}.bool": _number(bool),
        f"{_module}.complex": _number(complex),
        f"{_module}.str": _text,
        f"{_module}.unicode": _text,
        f"{_module}.bytes": _bytes,
        f"{_module}.bytearray": _bytes,
        f"{_module}.dict": _mapping,
        f"{_module}.list": _sequence(list),
        f"{_module}.tuple": _sequence(tuple),
        f"{_module}.set": _sequence(set),
        f"{_module}.frozenset": _sequence(set),
        f"{_module}.slice": _slice,
    }
for _module in ("pathlib", "pathlib._local"):
    _MEANINGS |= {f"{_module}.{_name}": _path for _name in ("PosixPath", "PurePosixPath", "WindowsPath")}

BASIC = Vocabulary(
    _MEANINGS,
    frozenset({"numpy.ndarray", "numpy.memmap", "numpy.matrix", "builtins.object", "__builtin__.object"})
    | _RECONSTRUCTORS,
)
"""NumPy, scipy's sparse matrices, joblib, chumpy, and Python's own plain types."""
