"""Reads the text of a program that XLA has optimized: its computations, their instructions, and where they come from.

The text is what `jax.stages.Compiled.as_text` gives. Only what costs are reckoned from is read.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

from champ_jax.common.errors import InputError

# Bytes of an element; types of less than a byte are rarely worth more care.
_BYTES = {
    **dict.fromkeys(("pred", "s8", "u8", "s4", "u4", "f8e4m3fn", "f8e5m2", "f8e8m0fnu"), 1),
    **dict.fromkeys(("s16", "u16", "f16", "bf16"), 2),
    **dict.fromkeys(("s32", "u32", "f32"), 4),
    **dict.fromkeys(("s64", "u64", "f64", "c64"), 8),
    "c128": 16,
}
_SHAPE = re.compile(r"\b([a-z][a-z0-9]*)\[([0-9,]*)\]")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_OPERATION = re.compile(r" ?([a-z][a-z0-9\-]*)\(")
_TABLES = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
_FIELD = re.compile(r"(\w+)=(\d+)")


@dataclasses.dataclass(frozen=True)
class Shape:
    """An array's type.

    Attributes:
      dtype: XLA's name of the element type.
      dims: The sizes of its axes.
    """

    dtype: str
    dims: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.dims)

    @property
    def bytes(self) -> int:
        return self.size * _BYTES.get(self.dtype, 0)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One instruction.

    Attributes:
      name: unique in its computation.
      operation: XLA's name of what it does, 'fusion' or 'dot'.
      shapes: the arrays it gives; more than one for a tuple.
      operands: names of instructions of the same computation; of a parameter, its number.
      attributes: the rest of the line.
      root: whether its result is the computation's.
    """

    name: str
    operation: str
    shapes: tuple[Shape, ...]
    operands: tuple[str, ...]
    attributes: str
    root: bool

    @property
    def bytes(self) -> int:
        return sum(shape.bytes for shape in self.shapes)

    @property
    def target(self) -> str:
        """What a custom call calls; ''."""
        found = re.search(r'custom_call_target="([^"]*)"', self.attributes)
        return found[1] if found else ""

    def called(self, *names: str) -> str:
        """The computation that one of the attributes names; ''."""
        found = re.search(rf"\b(?:{'|'.join(names or ('calls', 'to_apply'))})=%?([\w.\-]+)", self.attributes)
        return found[1] if found else ""

    def numbers(self, attribute: str) -> tuple[int, ...]:
        """The numbers of an attribute such as lhs_contracting_dims={1,2} or "lhs_contracting_dimensions":["1"]."""
        found = re.search(rf'{attribute}"?[=:][\[{{]([^\]}}]*)[\]}}]', self.attributes)
        return tuple(int(number) for number in re.findall(r"\d+", found[1])) if found else ()


Computation = Mapping[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Place:
    """A place in the source that an instruction comes from."""

    file: str
    function: str
    line: int


@dataclasses.dataclass(frozen=True)
class Program:
    """An optimized program.

    Attributes:
      computations: every computation by name, its instructions by name in order.
      entry: The name of the computation that runs.
      stacks: the places of each frame of the trace, the innermost first.
    """

    computations: Mapping[str, Computation]
    entry: str
    stacks: Mapping[int, tuple[Place, ...]]

    @classmethod
    def parse(cls, text: str) -> "Program":
        """Reads a program; raises InputError if there is none in the text."""
        computations: dict[str, dict[str, Instruction]] = {}
        entry = ""
        tables: dict[str, dict[int, str]] = {name: {} for name in _TABLES}
        table, current = "", None
        for line in text.splitlines():
            if current is not None:
                if line.startswith("}"):
                    current = None
                elif instruction := _parse_instruction(line):
                    current[instruction.name] = instruction
                continue
            head = _HEAD.match(line)
            if head:
                table, current = "", computations.setdefault(head[2], {})
                entry = head[2] if head[1] else entry
            elif line.strip() in tables:
                table = line.strip()
            elif table and (row := re.match(r"^(\d+) (.*)$", line)):
                tables[table][int(row[1])] = row[2]
        if not entry:
            raise InputError("this is no text of a program that XLA has optimized: it has no entry")
        return cls(computations, entry, _stacks(tables))

    def stack(self, instruction: Instruction) -> tuple[Place, ...]:
        """Where an instruction comes from, innermost first; a fusion without a place has that of what is in it."""
        found = re.search(r"stack_frame_id=(\d+)", instruction.attributes)
        if found:
            return self.stacks.get(int(found[1]), ())
        inside = self.computations.get(instruction.called(), {}) if instruction.operation == "fusion" else {}
        return next((stack for each in reversed(inside.values()) if (stack := self.stack(each))), ())


def _parse_instruction(line: str) -> Instruction | None:
    head = _INSTRUCTION.match(line)
    if not head:
        return None
    rest = line[head.end() :]
    kind_end = _closing(rest, 0) if rest.startswith("(") else rest.find(" ")
    operation = _OPERATION.match(rest, kind_end)
    if kind_end <= 0 or not operation:
        return None
    end = _closing(rest, operation.end() - 1)
    operands = tuple(_split(rest[operation.end() : end - 1]))
    if operation[1] not in ("parameter", "constant"):
        operands = tuple(operand.rsplit(" ", 1)[-1].lstrip("%") for operand in operands)
    shapes = tuple(
        Shape(dtype, tuple(int(size) for size in sizes.split(",") if size))
        for dtype, sizes in _SHAPE.findall(rest[:kind_end])
    )
    return Instruction(head[2], operation[1], shapes, operands, rest[end:], bool(head[1]))


def _closing(text: str, start: int) -> int:
    """The position after the bracket that closes the one at `start`."""
    depth = 0
    for position in range(start, len(text)):
        if text[position] in "([{":
            depth += 1
        elif text[position] in ")]}":
            depth -= 1
            if not depth:
                return position + 1
    return len(text)


def _split(text: str) -> Iterator[str]:
    """The parts between commas that are in no brackets."""
    depth, start = 0, 0
    for position, letter in enumerate(text):
        if letter in "([{":
            depth += 1
        elif letter in ")]}":
            depth -= 1
        elif letter == "," and not depth:
            yield text[start:position].strip()
            start = position + 1
    if text[start:].strip():
        yield text[start:].strip()


def _stacks(tables: Mapping[str, Mapping[int, str]]) -> dict[int, tuple[Place, ...]]:
    files, functions = (
        {number: text.strip('"') for number, text in tables[name].items()} for name in ("FileNames", "FunctionNames")
    )
    places, frames = {}, {}
    for number, text in tables["FileLocations"].items():
        fields = {name: int(value) for name, value in _FIELD.findall(text)}
        file, function = (
            files.get(fields.get("file_name_id", 0), ""),
            functions.get(fields.get("function_name_id", 0), ""),
        )
        places[number] = Place(file, function, fields.get("line", 0))
    for number, text in tables["StackFrames"].items():
        fields = {name: int(value) for name, value in _FIELD.findall(text)}
        # The printer writes a parent's number one too high, and 1 for none.
        frames[number] = fields.get("file_location_id", 0), fields.get("parent_frame_id", 1) - 1
    stacks: dict[int, tuple[Place, ...]] = {}
    for number in frames:
        stack, at, seen = [], number, set()
        while at in frames and at not in seen:
            seen.add(at)
            location, at = frames[at]
            if location in places:
                stack.append(places[location])
        stacks[number] = tuple(stack)
    return stacks
