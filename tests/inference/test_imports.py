"""The animation needs no training code and no optional library."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
UNWANTED = ("optax", "grain", "torch", "tensorflow", "tensorflow_datasets", "champ_jax.training", "champ_jax.data")


def test_animate_loads_neither_training_nor_what_it_needs():
    # Flax itself loads optax, so what counts is what comes on top of Flax.
    code = (
        "import sys, flax.nnx; before = set(sys.modules); import champ_jax.animate; "
        "print('\\n'.join(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = done.stdout.split()
    assert "champ_jax.inference.pipeline" in loaded
    assert [name for name in loaded if name in UNWANTED or name.startswith(tuple(f"{one}." for one in UNWANTED))] == []
