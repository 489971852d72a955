"""Fits a body to a person: a video, a picture, or what another tracker saw becomes a motion.npz.

The command is champ_jax/commands/fit.py; this file runs it from a checkout.
"""

from champ_jax.commands.fit import main
from champ_jax.common.cli import run

if __name__ == "__main__":
    run(main)
