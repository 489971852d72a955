#!/usr/bin/env python3
"""Writes a checkpoint directory of champ_jax as the `pretrained_models/` tree that PyTorch users load.

The command is champ_jax/commands/export.py; this file runs it from a checkout.
"""

from champ_jax.commands.export import main
from champ_jax.common.cli import run

if __name__ == "__main__":
    run(main)
