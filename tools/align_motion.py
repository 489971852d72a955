"""Puts a driving motion onto the body of a reference picture (parametric shape alignment).

The command is champ_jax/commands/align.py; this file runs it from a checkout.
"""

from champ_jax.commands.align import main
from champ_jax.common.cli import run

if __name__ == "__main__":
    run(main)
