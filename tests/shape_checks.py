"""Checks calls of the networks and the diffusion functions against the shapes in their signatures (jaxtyping)."""

from collections.abc import Callable

import jaxtyping
from beartype import BeartypeConf, beartype

# Dataclasses of settings check their values themselves and raise InputError; those of arrays may hold shapes as well.
_UNCHECKED = "__init__"


def install() -> None:
    """Checks what is imported from now on."""
    jaxtyping.install_import_hook(("champ_jax.models", "champ_jax.diffusion"), "shape_checks.check")


def check(function: Callable) -> Callable:
    """The checker that the import hook wraps functions in: a whole number may stand for a float."""
    if function.__qualname__.endswith(f".{_UNCHECKED}"):
        return function
    return beartype(function, conf=BeartypeConf(is_pep484_tower=True))
