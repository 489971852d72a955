"""What devices send to each other in a step, read from the compiled program."""

import dataclasses
import math
import re
from collections import Counter
from collections.abc import Iterator

_BITS = {"pred": 8, "bf16": 16, "f16": 16, "f32": 32, "f64": 64, "c64": 64, "c128": 128}

_OPERATION = re.compile(
    r"= (?P<result>.*?) "
    r"(?P<kind>all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute)(?P<start>-start)?\("
)
_CALL = re.compile(r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'known_trip_count"?[=:]\{"?n"?[=:]"?(\d+)')
_LOOP = re.compile(r" while\(.*condition=%?([\w.\-]+), body=%?([\w.\-]+)")
_DEFINITION = re.compile(r"^\s*(?:ROOT )?%([\w.\-]+) = .*? ([\w\-]+)\((.*?)\)(?:,|$)")
# Loops in which the compiler passes pieces of a gradient or a parameter round while it multiplies.
_WINDOWED = {"windowed_dot_general_body_rs": "reduce-scatter", "windowed_dot_general_body_ag": "all-gather"}
_HEADER = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")


@dataclasses.dataclass(frozen=True)
class Collective:
    """All collectives of one kind among groups of one size.

    Attributes:
      kind: 'all-gather', 'reduce-scatter', 'all-reduce', 'all-to-all' or 'collective-permute'.
      group: devices that take part in each.
      count: how many a step runs.
      payload: bytes of all their whole tensors: gathered, to be reduced, exchanged.
    """

    kind: str
    group: int
    count: int
    payload: int

    @property
    def sent(self) -> float:
        """Bytes that a device sends in a step, by the ring algorithms."""
        share = (self.group - 1) / self.group
        return self.payload * {"all-reduce": 2 * share, "collective-permute": 1.0}.get(self.kind, share)


def parse_collectives(text: str, devices: int) -> tuple[Collective, ...]:
    """The collectives in a compiled program (`compiled.as_text()`), by kind and group, the largest first.

    One collective that is spread over several fused operations counts once (they share a channel); one inside a loop
    counts as often as the loop runs, as far as its condition says. XLA's TPU compiler writes a reduce-scatter as a
    fusion named all-reduce-scatter, or as a loop of products and permutations of pieces, each of which counts here.

    Args:
      text: the program.
      devices: The number of devices that it runs on.
    """
    computations = dict(_computations(text))
    runs = _runs(computations, _entry(text))
    seen: set[tuple[str, str]] = set()
    counts: Counter[tuple[str, int]] = Counter()
    payloads: Counter[tuple[str, int]] = Counter()
    for name, lines in computations.items():
        for line in lines:
            found = _OPERATION.search(line)
            if found is None:
                continue
            kind = found["kind"]
            channel = re.search(r"channel_id=(\d+)", line)
            if channel is not None:
                if (kind, channel[1]) in seen:
                    continue
                seen.add((kind, channel[1]))
            sizes = [_bytes(*shape) for shape in re.findall(r"([a-z]+\d*)\[([\d,]*)\]", found["result"])]
            if found["start"] and kind in ("all-gather", "collective-permute"):
                sizes = sizes[len(sizes) // 2 :] if kind == "all-gather" else sizes[:1]  # (operands, results)
            group = _group(line, devices)
            windowed = next((kind for loop, kind in _WINDOWED.items() if loop in name), None)
            if kind == "collective-permute" and windowed is not None:
                # What is permuted is sent whole; of a whole tensor a ring sends all but one piece.
                kind, sizes = windowed, [size * group // (group - 1) for size in sizes]
            if found["kind"] == "reduce-scatter":
                sizes = [group * size for size in sizes]
            elif kind == "all-reduce" and name.startswith("all-reduce-scatter"):
                kind = "reduce-scatter"
            counts[kind, group] += runs[name]
            payloads[kind, group] += runs[name] * sum(sizes)
    found = (Collective(*key, count, payloads[key]) for key, count in counts.items())
    return tuple(sorted(found, key=lambda one: -one.sent))


def _computations(text: str) -> Iterator[tuple[str, list[str]]]:
    name, lines = None, []
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            name, lines = header[1], []
        elif line.rstrip() == "}" and name is not None:  # strings within a line may be broken, and begin so
            yield name, lines
            name = None
        elif name is not None:
            lines.append(line)


def _entry(text: str) -> str:
    return re.search(r"^ENTRY %?([\w.\-]+) ", text, re.MULTILINE)[1]


def _runs(computations: dict[str, list[str]], entry: str) -> Counter[str]:
    """How often a step runs each computation."""
    calls: dict[str, Counter[str]] = {}
    for name, lines in computations.items():
        calls[name] = Counter()
        for line in lines:
            trips = 1
            if loop := _LOOP.search(line):
                known = _TRIPS.search(line)
                trips = int(known[1]) if known else _trips(computations[loop[1]], computations[loop[2]])
            called = _CALL.findall(line)
            for branches in _BRANCHES.findall(line):
                called += re.findall(r"[\w.\-]+", branches)
            for callee in called:
                calls[name][callee] += trips
    runs: Counter[str] = Counter()

    def visit(name: str, times: int) -> None:
        runs[name] += times
        for callee, trips in calls.get(name, {}).items():
            visit(callee, times * trips)

    visit(entry, 1)
    return runs


def _trips(condition: list[str], body: list[str]) -> int:
    """How often a loop runs that counts from 0 by a constant up to a constant; 1 where that cannot be seen."""
    limits = re.findall(r"= [su]32\[\][^=]* constant\((\d+)\)", "\n".join(condition))
    counter = re.findall(r"= [su]32\[\][^=]* get-tuple-element\(.*?\), index=(\d+)", "\n".join(condition))
    if len(limits) != 1 or len(counter) != 1:
        return 1
    defined = {found[1]: (found[2], found[3]) for found in map(_DEFINITION.match, body) if found}
    result = next((line for line in body if line.lstrip().startswith("ROOT")), "")
    outputs = re.findall(r"%([\w.\-]+)", result.partition(" tuple(")[2].partition("), ")[0])
    if int(counter[0]) >= len(outputs):
        return 1
    operation, operands = defined.get(outputs[int(counter[0])], ("", ""))
    steps = [defined.get(name, ("", ""))[1] for name in re.findall(r"%([\w.\-]+)", operands)]
    step = next((int(value) for value in steps if value.isdecimal()), 0) if operation == "add" else 0
    return -(-int(limits[0]) // step) if step else 1


def _bytes(dtype: str, shape: str) -> int:
    digits = re.search(r"\d+", dtype)
    bits = _BITS.get(dtype) or (int(digits[0]) if digits else 0)
    return math.prod(int(side) for side in shape.split(",") if side) * bits // 8


def _group(line: str, devices: int) -> int:
    """Devices in a group, in any of the ways that XLA writes them."""
    named = re.search(r"replica_groups=mesh\[([^\]]*)\].*? \{([^}]*)\}", line)
    if named:
        sizes = dict(re.findall(r"'?(\w+)'?=(\d+)", named[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"\w+", named[2]) if axis in sizes)
    grid = re.search(r"replica_groups=\[(\d+),(\d+)\]", line)
    if grid:
        return int(grid[2])
    listed = re.search(r"replica_groups=\{\{([\d,]+)\}", line)
    return len(listed[1].split(",")) if listed else devices
