"""Runs a pickle's opcodes without building anything: what the pickle asks for is recorded, nothing is called.

A pickle is a program for a small stack machine (Python's `pickletools` lists its opcodes). This machine knows numbers,
text, bytes and containers. Every name of a class or function becomes a `Global`, every use of one a `Record` of its
arguments: no attribute is looked up, no module imported. What the records stand for is decided afterwards, in
`champ_jax.common.pickles`.
"""

import codecs
import dataclasses
import pickle
import struct
from collections.abc import Callable
from typing import Any

from champ_jax.common.arrays import DamagedError, Stream

MAX_OPCODES = 2**25
"""Opcodes of the longest pickle; each can take some 60 bytes of memory."""

_MAX_INTEGER = 512  # bytes
_MAX_NAME = 300  # characters of a global's name


class RefusedError(Exception):
    """The pickle asks for something that is not allowed; the message follows the file's name."""


@dataclasses.dataclass(frozen=True)
class Global:
    """A class or function that a pickle names, as text: 'numpy.dtype'."""

    name: str


class Record:
    """An object that a pickle wants made.

    Attributes:
      name: The class or function, or 'persistent id' for an object outside of the pickle.
      arguments: what the pickle calls it with.
      state: what BUILD would set, None if there is none.
      items: what would be appended or added to it.
      pairs: (key, value) of what would be set in it.
      value: what it was found to stand for while the pickle was read, None otherwise.
    """

    __slots__ = ("arguments", "items", "name", "pairs", "state", "value")

    def __init__(self, name: str, arguments: tuple[Any, ...]):
        self.name, self.arguments = name, arguments
        self.state: Any = None
        self.items: list[Any] = []
        self.pairs: list[tuple[Any, Any]] = []
        self.value: Any = None


class Pairs:
    """A dict as a pickle lists it: keys can be records, which are not yet known to be equal or hashable."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: list[tuple[Any, Any]] | None = None):
        self.pairs: list[tuple[Any, Any]] = pairs or []


class Items:
    """A set or frozenset as a pickle lists it."""

    __slots__ = ("items",)

    def __init__(self, items: list[Any] | None = None):
        self.items: list[Any] = items or []


class Machine:
    """Reads one pickle from a stream."""

    def __init__(
        self,
        stream: Stream,
        is_allowed: Callable[[str], bool],
        *,
        after_build: Callable[[Record, Stream], None] | None = None,
        with_persistent: bool = False,
    ):
        """
        Args:
          stream: The stream, at the pickle's start; afterwards at its end.
          is_allowed: whether a class or function may be named at all.
          after_build: called when an object's state is known; may read on in the stream (joblib puts arrays there) and
            set the record's `value`.
          with_persistent: whether objects outside of the pickle may be named.
        """
        self._stream = stream
        self._is_allowed = is_allowed
        self._after_build = after_build
        self._with_persistent = with_persistent
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The pickle's value, of numbers, text, bytes, tuples, lists, `Pairs`, `Items`, `Global` and `Record`.

        Raises:
          RefusedError: it names something that is not allowed.
          DamagedError: it is truncated, damaged, or too long.
        """
        for _ in range(MAX_OPCODES):
            code = self._stream.read(1)
            if code == pickle.STOP:
                return self._pop()
            handler = _HANDLERS.get(code)
            if handler is None:
                raise DamagedError(f"is not a pickle (unknown opcode {code!r})")
            handler(self)
        raise DamagedError(f"is a pickle of more than the {MAX_OPCODES:,} steps that are plausible")

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _floor(self) -> int:
        return self._marks[-1] if self._marks else 0

    def _pop(self) -> Any:
        if len(self._stack) <= self._floor():
            raise DamagedError("is a damaged pickle (nothing on its stack)")
        return self._stack.pop()

    def _top(self) -> Any:
        if len(self._stack) <= self._floor():
            raise DamagedError("is a damaged pickle (nothing on its stack)")
        return self._stack[-1]

    def _pop_to_mark(self) -> list[Any]:
        if not self._marks:
            raise DamagedError("is a damaged pickle (no mark)")
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _pop_pairs(self) -> list[tuple[Any, Any]]:
        items = self._pop_to_mark()
        if len(items) % 2:
            raise DamagedError("is a damaged pickle (a key without a value)")
        return list(zip(items[::2], items[1::2]))

    def _number(self, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self._stream.read(size), "little", signed=signed)

    def _line(self) -> str:
        return self._stream.read_line().decode("latin1").strip()

    def _global(self, module: Any, name: Any) -> Global:
        if not (isinstance(module, str) and isinstance(name, str)) or len(module) + len(name) > _MAX_NAME:
            raise DamagedError("is a damaged pickle (a name that is not text)")
        full = f"{module}.{name}"
        if not self._is_allowed(full):
            raise RefusedError(full)
        return Global(full)

    def _record(self, function: Any, arguments: Any) -> None:
        if not isinstance(function, Global) or not isinstance(arguments, tuple):
            raise DamagedError("is a damaged pickle (a call of nothing)")
        self._push(Record(function.name, arguments))

    def _append(self, items: list[Any]) -> None:
        target = self._top()
        if isinstance(target, list):
            target.extend(items)
        elif isinstance(target, Record | Items):
            target.items.extend(items)
        else:
            raise RefusedError(f"a change to {_kind(target)}")

    def _set(self, pairs: list[tuple[Any, Any]]) -> None:
        target = self._top()
        if not isinstance(target, Record | Pairs):
            raise RefusedError(f"a change to {_kind(target)}")
        target.pairs.extend(pairs)

    def _build(self) -> None:
        state, target = self._pop(), self._top()
        if not isinstance(target, Record):
            raise RefusedError(f"a change to {_kind(target)}")
        target.state = state
        if self._after_build is not None:
            self._after_build(target, self._stream)

    def _remember(self, index: int) -> None:
        self._memo[index] = self._top()

    def _recall(self, index: int) -> None:
        if index not in self._memo:
            raise DamagedError("is a damaged pickle (it refers to something that it has not stored)")
        self._push(self._memo[index])

    def _persistent(self, value: Any) -> None:
        if not self._with_persistent:
            raise RefusedError("an object outside the file")
        self._push(Record("persistent id", (value,)))

    def _long(self, size: int) -> None:
        if size > _MAX_INTEGER:
            raise DamagedError(f"holds an integer of {size:,} bytes")
        self._push(self._number(size, signed=True))

    def _integer_line(self) -> None:
        line = self._line()
        if line in ("00", "01"):  # how protocol 1 and before write booleans
            self._push(line == "01")
            return
        digits = line.removesuffix("L")
        if len(digits) > 2 * _MAX_INTEGER:
            raise DamagedError(f"holds an integer of {len(digits):,} digits")
        self._push(int(digits))

    def _string_line(self) -> None:
        line = self._stream.read_line().strip()
        if len(line) < 2 or line[:1] not in b"'\"" or line[:1] != line[-1:]:
            raise DamagedError("is a damaged pickle (a string without quotes)")
        self._push(codecs.escape_decode(line[1:-1])[0].decode("latin1"))

    def _new_with_names(self) -> None:
        names, arguments = self._pop(), self._pop()
        if not isinstance(names, Pairs) or names.pairs:
            raise DamagedError("is a pickle with named arguments")
        self._record(self._pop(), arguments)

    def _stack_global(self) -> None:
        name, module = self._pop(), self._pop()
        self._push(self._global(module, name))

    def _reduce(self) -> None:
        arguments = self._pop()
        self._record(self._pop(), arguments)

    def _object(self) -> None:
        function, *arguments = self._pop_to_mark() or [None]
        self._record(function, tuple(arguments))

    def _inst(self) -> None:
        function = self._global(self._line(), self._line())
        self._record(function, tuple(self._pop_to_mark()))

    def _pop_or_mark(self) -> None:
        if self._marks and len(self._stack) == self._marks[-1]:
            self._marks.pop()
        else:
            self._pop()

    def _tuple(self, length: int) -> None:
        items = [self._pop() for _ in range(length)]
        self._push(tuple(reversed(items)))

    def _extension(self) -> None:
        raise RefusedError("an object of the extension registry")


def _kind(value: Any) -> str:
    return value.name if isinstance(value, Global) else f"a {type(value).__name__.lower()}"


def _text(size: int) -> Callable[[Machine], None]:
    return lambda machine: machine._push(machine._stream.read(machine._number(size)).decode("utf-8", "surrogatepass"))


def _python2_text(size: int) -> Callable[[Machine], None]:
    return lambda machine: machine._push(machine._stream.read(machine._number(size)).decode("latin1"))


def _bytes(size: int) -> Callable[[Machine], None]:
    return lambda machine: machine._push(machine._stream.read(machine._number(size)))


def _constant(value: Any) -> Callable[[Machine], None]:
    return lambda machine: machine._push(value)


def _set_one(machine: Machine) -> None:
    value, key = machine._pop(), machine._pop()
    machine._set([(key, value)])


_HANDLERS: dict[bytes, Callable[[Machine], object]] = {  # what they return is of no use
    pickle.PROTO: lambda machine: machine._stream.read(1),
    pickle.FRAME: lambda machine: machine._stream.read(8),  # the stream needs no frames
    pickle.MARK: lambda machine: machine._marks.append(len(machine._stack)),
    pickle.POP: Machine._pop_or_mark,
    pickle.POP_MARK: lambda machine: machine._pop_to_mark(),
    pickle.DUP: lambda machine: machine._push(machine._top()),
    pickle.NONE: _constant(None),
    pickle.NEWTRUE: _constant(True),
    pickle.NEWFALSE: _constant(False),
    pickle.INT: Machine._integer_line,
    pickle.LONG: Machine._integer_line,
    pickle.BININT: lambda machine: machine._push(machine._number(4, signed=True)),
    pickle.BININT1: lambda machine: machine._push(machine._number(1)),
    pickle.BININT2: lambda machine: machine._push(machine._number(2)),
    pickle.LONG1: lambda machine: machine._long(machine._number(1)),
    pickle.LONG4: lambda machine: machine._long(machine._number(4)),
    pickle.FLOAT: lambda machine: machine._push(float(machine._line())),
    pickle.BINFLOAT: lambda machine: machine._push(struct.unpack(">d", machine._stream.read(8))[0]),
    pickle.STRING: Machine._string_line,
    pickle.BINSTRING: _python2_text(4),
    pickle.SHORT_BINSTRING: _python2_text(1),
    pickle.UNICODE: lambda machine: machine._push(machine._stream.read_line().decode("raw-unicode-escape")),
    pickle.BINUNICODE: _text(4),
    pickle.SHORT_BINUNICODE: _text(1),
    pickle.BINUNICODE8: _text(8),
    pickle.BINBYTES: _bytes(4),
    pickle.SHORT_BINBYTES: _bytes(1),
    pickle.BINBYTES8: _bytes(8),
    pickle.BYTEARRAY8: _bytes(8),
    pickle.EMPTY_LIST: lambda machine: machine._push([]),
    pickle.EMPTY_TUPLE: _constant(()),
    pickle.EMPTY_DICT: lambda machine: machine._push(Pairs()),
    pickle.EMPTY_SET: lambda machine: machine._push(Items()),
    pickle.LIST: lambda machine: machine._push(machine._pop_to_mark()),
    pickle.TUPLE: lambda machine: machine._push(tuple(machine._pop_to_mark())),
    pickle.DICT: lambda machine: machine._push(Pairs(machine._pop_pairs())),
    pickle.FROZENSET: lambda machine: machine._push(Items(machine._pop_to_mark())),
    pickle.TUPLE1: lambda machine: machine._tuple(1),
    pickle.TUPLE2: lambda machine: machine._tuple(2),
    pickle.TUPLE3: lambda machine: machine._tuple(3),
    pickle.APPEND: lambda machine: machine._append([machine._pop()]),
    pickle.APPENDS: lambda machine: machine._append(machine._pop_to_mark()),
    pickle.ADDITEMS: lambda machine: machine._append(machine._pop_to_mark()),
    pickle.SETITEM: _set_one,
    pickle.SETITEMS: lambda machine: machine._set(machine._pop_pairs()),
    pickle.GET: lambda machine: machine._recall(int(machine._line()[:20])),
    pickle.BINGET: lambda machine: machine._recall(machine._number(1)),
    pickle.LONG_BINGET: lambda machine: machine._recall(machine._number(4)),
    pickle.PUT: lambda machine: machine._remember(int(machine._line()[:20])),
    pickle.BINPUT: lambda machine: machine._remember(machine._number(1)),
    pickle.LONG_BINPUT: lambda machine: machine._remember(machine._number(4)),
    pickle.MEMOIZE: lambda machine: machine._remember(len(machine._memo)),
    pickle.GLOBAL: lambda machine: machine._push(machine._global(machine._line(), machine._line())),
    pickle.STACK_GLOBAL: Machine._stack_global,
    pickle.REDUCE: Machine._reduce,
    pickle.NEWOBJ: Machine._reduce,
    pickle.NEWOBJ_EX: Machine._new_with_names,
    pickle.INST: Machine._inst,
    pickle.OBJ: Machine._object,
    pickle.BUILD: Machine._build,
    pickle.PERSID: lambda machine: machine._persistent(machine._line()),
    pickle.BINPERSID: lambda machine: machine._persistent(machine._pop()),
    pickle.EXT1: Machine._extension,
    pickle.EXT2: Machine._extension,
    pickle.EXT4: Machine._extension,
}
