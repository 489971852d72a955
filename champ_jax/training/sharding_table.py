"""The sharding table: where every tensor of a run is stored, from shapes alone."""

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import jax

from champ_jax.training.state import TrainState
from champ_jax.weights.flat import Flat

MIB = 2**20


def sharding_table(state: TrainState, frozen: Flat) -> str:
    """A line for every parameter: shape, dtype, PartitionSpec, and MiB on each device of the parameter itself, the
    optimizer's state for it and its moving average; then totals.

    Args:
      state: A state of jax.ShapeDtypeStructs with shardings, as `state.abstract_state` makes it.
      frozen: the same of the parameters that are not trained.
    """
    optimizer: dict[str | None, int] = defaultdict(int)
    for path, leaf in jax.tree_util.tree_leaves_with_path(state.opt_state):
        optimizer[_owner(path, state.params)] += device_bytes(leaf)
    rows = [("parameter", "shape", "dtype", "spec", "MiB/device", "optimizer", "average")]
    totals = {"trained": [0, 0, 0, 0], "frozen": [0, 0, 0, 0]}
    for kind, arrays in (("trained", state.params), ("frozen", frozen)):
        for name, leaf in arrays.items():
            average = device_bytes(state.average[name]) if name in state.average else 0
            sizes = (device_bytes(leaf), optimizer[name] if kind == "trained" else 0, average)
            rows.append((name, "x".join(map(str, leaf.shape)), leaf.dtype.name, _spec(leaf), *map(_mib, sizes)))
            for place, value in enumerate((math.prod(leaf.shape), *sizes)):
                totals[kind][place] += value
    rest = optimizer[None]
    for kind, (count, *sizes) in totals.items():
        rows.append((f"{kind}: {count / 1e6:.2f} M parameters", "", "", "", *map(_mib, sizes)))
    whole = sum(sum(sizes[1:]) for sizes in totals.values()) + rest
    rows.append(("all, with the optimizer's counters", "", "", "", _mib(whole), "", ""))
    return "\n".join(_aligned(rows))


def device_bytes(leaf: jax.ShapeDtypeStruct | jax.Array) -> int:
    """Bytes of an array on each of its devices."""
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


def _owner(path: tuple[Any, ...], params: Flat) -> str | None:
    """The parameter that a leaf of the optimizer's state belongs to."""
    return next((entry.key for entry in reversed(path) if getattr(entry, "key", None) in params), None)


def _spec(leaf: jax.ShapeDtypeStruct) -> str:
    return ",".join("-" if axis is None else str(axis) for axis in leaf.sharding.spec) or "whole"


def _mib(size: int) -> str:
    return f"{size / MIB:.3f}"


def _aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        words = [word.ljust(width) for word, width in zip(row[:4], widths)]
        numbers = [word.rjust(width) for word, width in zip(row[4:], widths[4:])]
        yield "  ".join([*words, *numbers]).rstrip()
