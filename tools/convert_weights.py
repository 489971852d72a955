#!/usr/bin/env python3
"""Converts the weights people have to a checkpoint directory of champ_jax.

The command is champ_jax/commands/convert.py; this file runs it from a checkout.
"""

from champ_jax.commands.convert import main
from champ_jax.common.cli import run

if __name__ == "__main__":
    run(main)
