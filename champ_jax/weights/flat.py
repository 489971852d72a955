"""All arrays of a model as one flat dict by dotted path, and the way to and from trees a component."""

from collections.abc import Hashable, Mapping
from typing import Any

import jax.numpy as jnp
from jax.typing import DTypeLike

from champ_jax.models.champ import COMPONENTS
from champ_jax.weights.names import flatten, unflatten

Flat = dict[str, Any]
"""{dotted path: array}."""


def cast(arrays: Flat, dtype: DTypeLike) -> Flat:
    """Floating-point arrays in `dtype`; position tables ('.pe') and integers as they are."""

    def one(name: str, array: Any) -> Any:
        if not jnp.issubdtype(array.dtype, jnp.floating) or name.endswith(".pe"):
            return array
        return array.astype(dtype)

    return {name: one(name, array) for name, array in arrays.items()}


def dotted(path: tuple[Hashable, ...]) -> str:
    """('down_blocks', 0, 'bias') -> 'down_blocks.0.bias'."""
    return ".".join(map(str, path))


def path_of(name: str) -> tuple[str | int, ...]:
    """'down_blocks.0.bias' -> ('down_blocks', 0, 'bias')."""
    return tuple(int(part) if part.isdigit() else part for part in name.split("."))


def from_components(components: Mapping[str, Mapping[Any, Any]]) -> Flat:
    """{component: nested dict} -> {dotted path: array}."""
    return {dotted(path): leaf for path, leaf in flatten(components)}


def to_components(arrays: Flat) -> dict[str, dict[Any, Any]]:
    """{dotted path: array} -> {component: nested dict}, components in the order of COMPONENTS."""
    nested = unflatten((path_of(name), array) for name, array in arrays.items())
    return {name: nested[name] for name in COMPONENTS if name in nested}
