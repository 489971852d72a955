"""Layers that several networks share."""

from flax import nnx


class Unused(nnx.Variable):
    """A tensor that files carry and no forward pass reads: kept for the way back, invisible to optimizers."""


class Buffer(nnx.Variable):
    """A table that is not trained, such as the position encoding of the motion modules."""
