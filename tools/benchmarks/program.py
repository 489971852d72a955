"""What the operations of a compiled program are and which module they come from, read from its text (optimized HLO)."""

import dataclasses
import re
from collections.abc import Iterator

_TABLES = ("FileNames", "FunctionNames", "FileLocations", "StackFrames")
_COMPUTATION = re.compile(r"(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_OPERATION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (?:\((?:[^()]|\([^()]*\))*\)|\S+) ([a-z][a-z0-9\-]*)\(")
_TARGETS = (
    ("fmha", "attention (cuDNN)"),
    ("conv", "convolution"),
    ("gemm", "matrix product"),
    ("matmul", "matrix product"),
    ("tpu_custom_call", "Pallas kernel"),
    ("triton", "Pallas kernel"),
)
# What gives a fusion its kind, the most telling first.
_TELLING = (
    ("convolution", "convolution"),
    ("dot", "matrix product"),
    ("reduce", "reduction"),
    ("concatenate", "concatenation"),
    ("transpose", "transposition"),
    ("gather", "gather or scatter"),
    ("scatter", "gather or scatter"),
)
_MOVES = {"copy", "slice", "dynamic-slice", "dynamic-update-slice", "pad", "reverse", "broadcast", "iota", "reshape"}
_NOTHING = {"parameter", "constant", "bitcast", "tuple", "get-tuple-element"}
# Modules of the networks, the outermost first, and the parts of them that are told apart.
_MODULES = ("MotionModule", "SpatialTransformer", "ResNetBlock", "Downsample", "Upsample", "TimeEmbedding")
_OTHERS = ("PixelAttention", "Guidance", "Decoder", "Encoder", "UpBlock", "DownBlock", "UNet")
_PARTS = (
    "FeedForward",
    "PositionEncoder",
    "GroupNorm",
    "LayerNorm",
    "CrossAttention",
    "TemporalAttention",
    "Attention",
)


@dataclasses.dataclass(frozen=True)
class Operation:
    """An operation of a program.

    Attributes:
      kind: 'convolution', 'matrix product', 'elementwise' and so on.
      module: the module of the networks that it computes, with the part: 'MotionModule, FeedForward'.
    """

    kind: str
    module: str


def operations(text: str) -> dict[str, Operation]:
    """{name: Operation} of all operations in a compiled program's text, those inside of fusions excepted."""
    frames = _StackFrames()
    bodies: dict[str, list[str]] = {}
    body: list[str] | None = None
    table = ""
    for line in text.splitlines():
        if body is not None:
            if line.startswith("}"):
                body = None
            else:
                body.append(line)
        elif line in _TABLES:
            table = line
        elif match := _COMPUTATION.match(line):
            body = bodies.setdefault(match[1], [])
        elif table and line[:1].isdigit():
            frames.add(table, line)
    fused = {name for lines in bodies.values() for line in lines for name in _called(line, "calls")}
    found = {}
    for computation, lines in bodies.items():
        if computation in fused:
            continue
        for line in lines:
            if (match := _OPERATION.match(line)) and match[2] not in _NOTHING:
                inside = [other for name in _called(line, "calls") for other in bodies.get(name, ())]
                found[match[1]] = Operation(_kind(match[2], line, inside), frames.module([line, *inside]))
    return found


def _called(line: str, field: str) -> Iterator[str]:
    yield from re.findall(rf"\b{field}=%?([\w.\-]+)", line)


def _kind(opcode: str, line: str, inside: list[str]) -> str:
    if opcode == "custom-call":
        target = re.search(r'custom_call_target="([^"]*)"', line)
        name = "" if target is None else target[1]
        return next((kind for word, kind in _TARGETS if word in name), f"call of {name}")
    if opcode != "fusion":
        return dict(_TELLING).get(opcode, "movement" if opcode in _MOVES else opcode)
    if "__cudnn$fusion" in line:
        return "attention (cuDNN)"
    opcodes = {match[2] for other in inside if (match := _OPERATION.match(other))} - _NOTHING
    telling = next((kind for word, kind in _TELLING if word in opcodes), None)
    if telling is not None:
        return telling
    return "movement" if opcodes <= _MOVES | {"convert"} else "elementwise"


class _StackFrames:
    """The call stacks that the operations' `stack_frame_id` name."""

    def __init__(self) -> None:
        self._tables: dict[str, dict[int, str]] = {name: {} for name in _TABLES}

    def add(self, table: str, line: str) -> None:
        number, _, rest = line.partition(" ")
        self._tables[table][int(number)] = rest.strip('"')

    def _functions(self, frame: int) -> Iterator[str]:
        """The names of the functions of a frame and of those that called it, the innermost first."""
        seen: set[int] = set()
        while frame in self._tables["StackFrames"] and frame not in seen:
            seen.add(frame)
            fields = _numbers(self._tables["StackFrames"][frame])
            location = _numbers(self._tables["FileLocations"].get(fields.get("file_location_id", 0), ""))
            yield self._tables["FunctionNames"].get(location.get("function_name_id", 0), "")
            frame = fields.get("parent_frame_id", 1) - 1  # XLA prints it one too high

    def module(self, lines: list[str]) -> str:
        """The module of an operation, by the first of its lines that says where it comes from."""
        for line in lines:
            if match := re.search(r"stack_frame_id=(\d+)", line):
                classes = {name.split(".")[0] for name in self._functions(int(match[1]))}
                module = next((name for name in (*_MODULES, *_OTHERS) if name in classes), "rest")
                part = next((name for name in _PARTS if name in classes), "")
                return f"{module}, {part}" if part else module
        return "rest"


def _numbers(text: str) -> dict[str, int]:
    return {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", text)}
