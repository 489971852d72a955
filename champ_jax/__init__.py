"""Champ in JAX and Flax: animates a picture of a person with 3D body guidance."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Imported when asked for: tools that read a file need no networks.
    if name == "ChampPipeline":
        from champ_jax.inference.pipeline import ChampPipeline

        return ChampPipeline
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
