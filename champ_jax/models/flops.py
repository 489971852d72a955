"""Floating-point operations of a traced program: what MFU and TFLOP/s are taken against.

The matrix products and convolutions of a program's jaxpr are counted, a multiply-add as two; elementwise work and norms
are not. Bodies of scans count once a round, operations whose results nothing reads do not count. (XLA's own count takes
a loop's body once and a Pallas or cuDNN kernel for nothing.)

Training's count is of useful work: forward, and for every product one more of its size for each operand that a gradient
flows into. What the backward pass recomputes is not in it, whatever a program's checkpointing is.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var


def count_flops(function: Callable[..., Any], *arguments: Any) -> int:
    """FLOPs of `function(*arguments)`; arguments are pytrees of arrays or jax.ShapeDtypeStructs, nothing is run.

    Raises:
      NotImplementedError: the program has products where their number is unknown: in a while loop, or in a fused
        kernel. Trace networks with their 'xla' kernels.
    """
    program = jax.make_jaxpr(function)(*arguments)
    live = [True] * len(program.jaxpr.outvars)
    return _count(program.jaxpr, live, [False] * len(program.jaxpr.invars))[0]


def count_training_flops(function: Callable[..., Any], parameters: Any, trained: Any, *arguments: Any) -> int:
    """Useful FLOPs of `function(parameters, *arguments)` and of its gradient by some of the parameters.

    Args:
      function: A function from parameters and arguments to what the loss is taken of.
      parameters: a pytree of arrays or jax.ShapeDtypeStructs.
      trained: a bool for each leaf of `parameters`, in a list or a pytree of the same structure.
      arguments: pytrees of arrays or jax.ShapeDtypeStructs that no gradient is taken by.

    Raises:
      NotImplementedError: as `count_flops`.
    """
    program = jax.make_jaxpr(function)(parameters, *arguments)
    flows = jax.tree.leaves(trained)
    flows += [False] * (len(program.jaxpr.invars) - len(flows))
    return _count(program.jaxpr, [True] * len(program.jaxpr.outvars), flows)[0]


def _count(jaxpr: Jaxpr, live: Sequence[bool], flows: Sequence[bool]) -> tuple[int, list[bool]]:
    """(FLOPs, whether a gradient flows through each output).

    Args:
      jaxpr: what is counted.
      live: whether each output is read.
      flows: whether a gradient flows into each input.
    """
    total = 0
    gradients = {var for var, flow in zip(jaxpr.invars, flows, strict=True) if flow}
    for eqn, outputs in _live_equations(jaxpr, live):
        inputs = [isinstance(var, Var) and var in gradients for var in eqn.invars]
        flops, through = _count_equation(eqn, outputs, inputs)
        total += flops
        gradients |= {var for var, flow in zip(eqn.outvars, through, strict=True) if flow}
    return total, [isinstance(var, Var) and var in gradients for var in jaxpr.outvars]


def _live_equations(jaxpr: Jaxpr, live: Sequence[bool]) -> list[tuple[JaxprEqn, list[bool]]]:
    """The equations whose results are read, in order, and which of their results are."""
    read = {var for var, alive in zip(jaxpr.outvars, live, strict=True) if alive and isinstance(var, Var)}
    found = []
    for eqn in reversed(jaxpr.eqns):
        outputs = [var in read for var in eqn.outvars]
        if any(outputs):
            found.append((eqn, outputs))
            read |= {var for var in eqn.invars if not isinstance(var, Literal)}
    return found[::-1]


def _count_equation(eqn: JaxprEqn, live: list[bool], flows: list[bool]) -> tuple[int, list[bool]]:
    """As `_count`, of one equation."""
    name, params = eqn.primitive.name, eqn.params
    bodies = [_open(value) for value in jax.tree.leaves(params, is_leaf=_is_jaxpr) if _is_jaxpr(value)]
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        size = math.prod(eqn.invars[0].aval.shape[axis] for axis in contracted)
        return _product(eqn, size, flows)
    if name == "conv_general_dilated":
        kernel = eqn.invars[1].aval.shape
        return _product(eqn, math.prod(kernel) // kernel[params["dimension_numbers"].rhs_spec[0]], flows)
    if name == "scan":
        return _count_scan(eqn, bodies[0], flows)
    if name == "cond":
        counted = [_count(body, live, flows[1:]) for body in bodies]
        return max(flops for flops, _ in counted), [any(flow) for flow in zip(*(flows for _, flows in counted))]
    if len(bodies) == 1 and len(bodies[0].invars) == len(flows) and len(bodies[0].outvars) == len(live):
        return _count(bodies[0], live, flows)  # jit, checkpoint, custom derivatives: a call
    if any(_count(body, [True] * len(body.outvars), [False] * len(body.invars))[0] for body in bodies):
        raise NotImplementedError(f"the number of products inside {name} cannot be determined")
    return 0, [any(flows)] * len(live)


def _product(eqn: JaxprEqn, size: int, flows: list[bool]) -> tuple[int, list[bool]]:
    """Of a product whose output elements are sums of `size` products."""
    flops = 2 * math.prod(eqn.outvars[0].aval.shape) * size
    return flops * (1 + sum(flows)), [any(flows)]


def _count_scan(eqn: JaxprEqn, body: Jaxpr, flows: list[bool]) -> tuple[int, list[bool]]:
    constants, carried = eqn.params["num_consts"], eqn.params["num_carry"]
    live = [True] * len(body.outvars)
    while True:  # a gradient that enters the carry in one round flows into the next
        flops, through = _count(body, live, flows)
        carry = slice(constants, constants + carried)
        entered = [before or after for before, after in zip(flows[carry], through[:carried])]
        if entered == flows[carry]:
            return eqn.params["length"] * flops, through
        flows = [*flows[:constants], *entered, *flows[constants + carried :]]


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, (ClosedJaxpr, Jaxpr))


def _open(value: Any) -> Jaxpr:
    return value.jaxpr if isinstance(value, ClosedJaxpr) else value
