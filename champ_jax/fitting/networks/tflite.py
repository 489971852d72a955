"""Reads the constants of a TensorFlow Lite file in the order of its graph; tools/build_pose_networks.py needs them.

A .tflite is a FlatBuffer of the schema that TensorFlow publishes (lite/schema/schema.fbs). What the layers do is
written in this package's networks, so of an operator only its kind and its tensors are read, and none of its options.
"""

import dataclasses
import math
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from champ_jax.common.errors import InputError

CONV, DEPTHWISE, DEQUANTIZE, DENSE, PRELU, DENSIFY = 3, 4, 6, 9, 54, 124
"""Numbers of operators (enum BuiltinOperator)."""

_DTYPES = {0: np.float32, 1: np.float16, 2: np.int32, 4: np.int64}
_INDICES = {1: np.int32, 2: np.uint16, 3: np.uint8}  # SparseIndexVector
_LARGEST = 2**26  # values of a tensor


class Operator(NamedTuple):
    """An operator of the graph: its kind, and the numbers of the tensors that it reads and writes."""

    kind: int
    inputs: list[int]
    outputs: list[int]


@dataclasses.dataclass(frozen=True)
class Graph:
    """A network.

    Attributes:
      operators: in an order in which they can run.
      constants: {tensor: array}, sparse ones made dense.
      outputs: numbers of the output tensors.
    """

    operators: list[Operator]
    constants: dict[int, np.ndarray]
    outputs: list[int]

    def leading_to(self, outputs: list[int]) -> list[Operator]:
        """The operators that these outputs depend on, in order."""
        wanted, found = set(outputs), []
        for operator in reversed(self.operators):
            if wanted.intersection(operator.outputs):
                wanted.update(operator.inputs)
                found.append(operator)
        return found[::-1]


def read_graph(path: Path, data: bytes) -> Graph:
    """Reads a .tflite file.

    Raises:
      InputError: it is not one, or is damaged.
    """
    if data[4:8] != b"TFL3":
        raise InputError(f"{path}: is not a TensorFlow Lite file")
    try:
        return _read(_Table.root(data))
    except (struct.error, ValueError, KeyError, IndexError, RecursionError, OverflowError) as error:
        raise InputError(f"{path}: is a damaged TensorFlow Lite file ({error}); unpack it again") from error


@dataclasses.dataclass(frozen=True)
class _Table:
    """A table of a FlatBuffer: fields by their numbers in the schema; offsets count from where they stand."""

    data: bytes
    place: int

    @classmethod
    def root(cls, data: bytes) -> "_Table":
        return cls(data, struct.unpack_from("<I", data)[0])

    def _field(self, number: int) -> int | None:
        table = self.place - struct.unpack_from("<i", self.data, self.place)[0]
        size = struct.unpack_from("<H", self.data, table)[0]
        offset = struct.unpack_from("<H", self.data, table + 4 + 2 * number)[0] if 4 + 2 * number < size else 0
        return self.place + offset if offset else None

    def number(self, number: int, form: str) -> int:
        place = self._field(number)
        return 0 if place is None else struct.unpack_from(f"<{form}", self.data, place)[0]

    def table(self, number: int) -> "_Table":
        place = self._field(number)
        if place is None:
            raise ValueError(f"a table lacks field {number}")
        return _Table(self.data, place + struct.unpack_from("<I", self.data, place)[0])

    def has(self, number: int) -> bool:
        return self._field(number) is not None

    def array(self, number: int, dtype: type) -> np.ndarray:
        place = self._field(number)
        if place is None:
            return np.zeros(0, dtype)
        start = place + struct.unpack_from("<I", self.data, place)[0]
        count = struct.unpack_from("<I", self.data, start)[0]
        return np.frombuffer(self.data, np.dtype(dtype).newbyteorder("<"), count, start + 4)

    def tables(self, number: int) -> list["_Table"]:
        start = self._field(number)
        offsets = self.array(number, np.uint32)
        if start is None:
            return []
        start += struct.unpack_from("<I", self.data, start)[0] + 4
        return [_Table(self.data, start + 4 * index + int(offset)) for index, offset in enumerate(offsets)]


def _read(model: _Table) -> Graph:
    kinds = [max(code.number(0, "b"), code.number(3, "i")) for code in model.tables(1)]
    (graph,) = model.tables(2)
    buffers = model.tables(4)
    constants = {}
    for index, tensor in enumerate(graph.tables(0)):
        raw = buffers[tensor.number(2, "I")].array(0, np.uint8)
        if len(raw):
            constants[index] = _constant(tensor, raw)
    operators = []
    for table in graph.tables(3):
        operator = Operator(
            kinds[table.number(0, "I")], table.array(1, np.int32).tolist(), table.array(2, np.int32).tolist()
        )
        if operator.kind in (DEQUANTIZE, DENSIFY) and operator.inputs[0] in constants:
            constants[operator.outputs[0]] = constants[operator.inputs[0]]
        else:
            operators.append(operator)
    return Graph(operators, constants, graph.array(2, np.int32).tolist())


def _constant(tensor: _Table, raw: np.ndarray) -> np.ndarray:
    shape, dtype = tuple(tensor.array(0, np.int32).tolist()), _DTYPES[tensor.number(1, "b")]
    if not 0 < math.prod(shape) <= _LARGEST and shape:
        raise ValueError(f"a tensor of shape {shape}")
    values = raw.view(dtype)
    return _dense(tensor.table(6), values, shape) if tensor.has(6) else values.reshape(shape)


def _dense(sparsity: _Table, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A sparse tensor made dense: its axes are walked in an order of its own, the last ones within blocks."""
    order, blocked = sparsity.array(0, np.int32).tolist(), sparsity.array(1, np.int32).tolist()
    axes = sparsity.tables(2)
    sizes = [axis.number(1, "i") for axis in axes]
    block = dict(zip(blocked, sizes[len(shape) :]))
    # The place of every stored value, axis by axis: `parents` numbers the entries of the axes walked so far.
    parents, places = np.zeros(1, np.int64), np.zeros((1, len(shape)), np.int64)
    for level, (axis, target) in enumerate(zip(axes, order, strict=True)):
        if axis.number(0, "b") == 0:
            size = sizes[level]
            entries = np.tile(np.arange(size), len(parents))
            numbers, repeats = (parents[:, None] * size + np.arange(size)).ravel(), np.full(len(parents), size)
        else:
            segments, indices = (
                axis.table(value).array(0, _INDICES[axis.number(kind, "B")]).astype(np.int64)
                for kind, value in ((2, 3), (4, 5))
            )
            starts, repeats = segments[parents], segments[parents + 1] - segments[parents]
            within = np.arange(repeats.sum()) - np.repeat(np.cumsum(repeats) - repeats, repeats)
            numbers = np.repeat(starts, repeats) + within
            entries = indices[numbers]
        parents, places = numbers, np.repeat(places, repeats, axis=0)
        axis_number = target if target < len(shape) else blocked[target - len(shape)]
        places[:, axis_number] += entries * (block.get(axis_number, 1) if target < len(shape) else 1)
        if len(parents) > _LARGEST:
            raise ValueError("a sparse tensor is too large")
    result = np.zeros(shape, values.dtype)
    result[tuple(places.T)] = values[: len(places)]
    return result
