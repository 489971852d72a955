"""Draws the maps that guide the animation: depth, normal, semantic_map, dwpose and mask.

The command is champ_jax/commands/render.py; this file runs it from a checkout.
"""

from champ_jax.commands.render import main
from champ_jax.common.cli import run

if __name__ == "__main__":
    run(main)
