"""Champ in JAX and Flax: animates a picture of a person with 3D body guidance."""

__version__ = "0.1.0"
