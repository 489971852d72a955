"""What each kernel of an optimized GPU program moves and computes, and the module and source line it comes from.

A kernel reads its operands and writes its result once; a fusion reads of an operand what its slices take. That is the
least that goes between memory and the chip: what a cache keeps is not known, nor what a kernel reads twice.
"""

import dataclasses
import math
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence

from champ_jax.planning.hlo import Computation, Instruction, Place, Program

# Instructions that no kernel runs for.
_FREE = {
    *("parameter", "bitcast", "get-tuple-element", "tuple", "constant", "after-all", "partition-id", "replica-id"),
    *("copy-done", "async-done", "opt-barrier", "domain"),
}
_CALLS = {"call", "conditional", "async-start"}
_SHAPING = {"parameter", "bitcast", "constant", "reshape", "broadcast", "tuple", "get-tuple-element", "iota"}
_MOVING = {"transpose", "copy", "slice", "dynamic-slice", "pad", "dynamic-update-slice", "concatenate"}
_PACKAGE = "champ_jax/"


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel, as often as the program runs it.

    Attributes:
      name: The instruction's name.
      kind: what runs it: a library, or what a fusion does.
      module: the part of the network that it belongs to.
      source: the innermost line of this package that asks for it, as 'models/layers.py:12'; '' if none does.
      count: how often it runs.
      read, written: bytes from and to memory, of all runs.
      flops: FLOPs of its products and convolutions, of all runs.
    """

    name: str
    kind: str
    module: str
    source: str
    count: int
    read: int
    written: int
    flops: int

    @property
    def moved(self) -> int:
        return self.read + self.written


def kernels_of(program: Program) -> list[Kernel]:
    """The kernels of a program in order. A loop's count as often as XLA knows that it goes round, or once."""
    return list(_walk(program, program.computations[program.entry], 1))


def _walk(program: Program, computation: Computation, count: int) -> Iterator[Kernel]:
    for instruction in computation.values():
        if instruction.operation in _FREE:
            continue
        if instruction.operation == "while":
            rounds = re.search(r'"known_trip_count":\{"n":"(\d+)"', instruction.attributes)
            body = program.computations[instruction.called("body")]
            yield from _walk(program, body, count * (int(rounds[1]) if rounds else 1))
        elif instruction.operation in _CALLS and instruction.called() in program.computations:
            yield from _walk(program, program.computations[instruction.called()], count)
        else:
            yield _kernel(program, computation, instruction, count)


def _kernel(program: Program, computation: Computation, instruction: Instruction, count: int) -> Kernel:
    operands = [computation[name] for name in instruction.operands if name in computation]
    inside = program.computations.get(instruction.called()) if instruction.operation == "fusion" else None
    if inside is not None:
        reads = _fusion_reads(inside)
        read = sum(reads.get(number, 0) for number in range(len(instruction.operands)))
        written, flops = _fusion_writes(inside), _flops_inside(program, inside)
    else:
        # A library's workspace is an output, of bytes, that nobody reads.
        shapes = [shape for shape in instruction.shapes if not (instruction.target and shape.dtype in ("s8", "u8"))]
        read, written = sum(operand.bytes for operand in operands), sum(shape.bytes for shape in shapes)
        flops = _flops(instruction, operands)
    stack = program.stack(instruction)
    kind = _kind(program, instruction)
    module = "weights, laid out anew" if kind == "transposes" and _of_weights(instruction) else module_of(stack)
    return Kernel(instruction.name, kind, module, _source(stack), count, read * count, written * count, flops * count)


def _fusion_reads(inside: Computation) -> dict[int, int]:
    """{operand's number: bytes that are read of it}."""
    users = defaultdict(list)
    for instruction in inside.values():
        for name in instruction.operands:
            users[name].append(instruction)

    def needed(instruction: Instruction) -> int:
        total = 0
        for user in users[instruction.name]:
            first = user.operands[0] == instruction.name
            if user.operation in ("slice", "dynamic-slice") or (user.operation == "gather" and first):
                total += user.bytes
            elif user.operation == "dynamic-update-slice" and first:
                pass  # what is not overwritten stays in its place
            elif user.operation == "bitcast":
                total += needed(user)
            else:
                return instruction.bytes
        return min(instruction.bytes, total)

    parameters = (each for each in inside.values() if each.operation == "parameter")
    return {int(each.operands[0]): needed(each) for each in parameters}


def _fusion_writes(inside: Computation) -> int:
    (root,) = (each for each in inside.values() if each.root)
    results = [inside[name] for name in root.operands if name in inside] if root.operation == "tuple" else [root]
    return sum(
        inside[each.operands[1]].bytes if each.operation == "dynamic-update-slice" else each.bytes for each in results
    )


def _flops_inside(program: Program, inside: Computation) -> int:
    total = 0
    for instruction in inside.values():
        total += _flops(instruction, [inside[name] for name in instruction.operands if name in inside])
        called = program.computations.get(instruction.called()) if instruction.operation == "fusion" else None
        total += _flops_inside(program, called) if called is not None else 0
    return total


def _flops(instruction: Instruction, operands: Sequence[Instruction]) -> int:
    """Of a product, a convolution or fused attention; 0 of others."""
    target, result = instruction.target, instruction.shapes[0].size if instruction.shapes else 0
    first = operands[0].shapes[0] if operands and operands[0].shapes else None
    if first is None:
        return 0
    if instruction.operation == "dot":
        return 2 * result * math.prod(first.dims[axis] for axis in instruction.numbers("lhs_contracting_dims"))
    if "gemm" in target or "matmul" in target:
        axes = instruction.numbers("lhs_contracting_dimensions")
        return 2 * result * math.prod(first.dims[axis] for axis in axes)
    second = operands[1].shapes[0] if len(operands) > 1 and operands[1].shapes else first
    if "fmha" in target:
        # (batch, queries, heads, size) in the forward kernel; backward has five products for two.
        batch, queries, heads, size = first.dims
        forward = 4 * batch * queries * second.dims[1] * heads * size
        return forward * 5 // 2 if "Backward" in target else forward
    if instruction.operation == "convolution" or "conv" in target:
        return _convolution_flops(instruction, first.dims, second.dims)
    return 0


def _convolution_flops(instruction: Instruction, first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """Two for each tap of each output element and input channel of the forward convolution that it belongs to."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    if not labels:
        return 0
    kernel, result = labels[2], instruction.shapes[0].dims
    if "BackwardFilter" in instruction.target:
        # The result is the kernel's gradient, the second operand the output's.
        taps = math.prod(size for size, label in zip(result, kernel) if label != "o")
        return 2 * math.prod(second) * taps
    taps = math.prod(size for size, label in zip(second, kernel) if label not in "io")
    inputs = second[kernel.index("i")]
    if "BackwardInput" in instruction.target:
        return 2 * math.prod(first) * taps * inputs  # the first operand is the output's gradient
    return 2 * math.prod(result) * taps * inputs


def _kind(program: Program, instruction: Instruction) -> str:
    target, attributes = instruction.target, instruction.attributes
    if target:
        if "conv" in target:
            return "cuDNN convolutions"
        if "fmha" in target:
            return "cuDNN attention"
        if "gemm" in target or "matmul" in target:
            return "cuBLAS products"
        return f"custom call {target}"
    if instruction.operation != "fusion":
        return {"copy": "transposes", "transpose": "transposes"}.get(instruction.operation, instruction.operation)
    if "__cudnn$fusion" in attributes:
        return "cuDNN fusions"
    kind = re.search(r'"kind":"(\w+)"', attributes)
    if kind and "gemm" in kind[1]:
        return "Triton products"
    if kind and "triton" in kind[1]:
        return "Triton norms and softmax"
    core = _operations(program, instruction.called()) - _SHAPING - {"convert"}
    if "scatter" in core:
        return "scatters"
    if "concatenate" in core:
        return "concatenations"
    if "reduce" in core:
        return "reductions"
    if not core:
        return "conversions and broadcasts"
    if core <= {"transpose", "copy"}:
        return "transposes"
    if core <= _MOVING:
        return "slices"
    return "elementwise with transposes" if "transpose" in core else "elementwise"


def _operations(program: Program, name: str) -> set[str]:
    found = set()
    for instruction in program.computations.get(name, {}).values():
        found.add(instruction.operation)
        if instruction.operation == "fusion":
            found |= _operations(program, instruction.called())
    return found


def _of_weights(instruction: Instruction) -> bool:
    return all(re.match(r"(param|parameters|p)[._]|.*kernel", name) for name in instruction.operands)


# (classes or functions of which one is on the stack, part); the first that fits names the module.
_PARTS: dict[str, Sequence[tuple[tuple[str, ...], str]]] = {
    "motion": (
        (("GroupNorm", "LayerNorm"), "norms"),
        (("FeedForward",), "feed-forward"),
        (("attention", "_attend"), "attention"),
        (("TemporalAttention",), "projections of attention"),
    ),
    "spatial": (
        (("GroupNorm", "LayerNorm"), "norms"),
        (("FeedForward",), "feed-forward"),
        (("attention", "_attend", "_with_bank"), "attention"),
        (("Attention",), "projections of attention"),
    ),
    "ResNets": ((("GroupNorm",), "norms"), (("ResNetBlock",), "convolutions")),
}
_MODULES = (
    (("MotionModule", "TemporalTransformer"), "motion"),
    (("SpatialTransformer",), "spatial"),
    (("ResNetBlock",), "ResNets"),
    (("Upsample", "Downsample"), "up and down"),
    (("UpBlock",), "skips"),
    (("GuidanceEncoder",), "guidance"),
    (("CLIP",), "image encoder"),
    (("VAE",), "autoencoder"),
)


def module_of(stack: Sequence[Place]) -> str:
    """The part of the networks that the functions on a stack belong to, as 'motion: norms'."""
    names = [place.function for place in stack]

    def on_stack(words: tuple[str, ...]) -> bool:
        return any(name.startswith(words) for name in names)

    for words, module in _MODULES:
        if on_stack(words):
            part = next((part for words, part in _PARTS.get(module, ()) if on_stack(words)), "")
            return f"{module}: {part or 'rest'}" if module in _PARTS else module
    return "rest"


def _source(stack: Sequence[Place]) -> str:
    for place in stack:
        if _PACKAGE in place.file:
            return f"{place.file.rsplit(_PACKAGE, 1)[1]}:{place.line}"
    return ""
