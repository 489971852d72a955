"""Weights and goldens of the evaluation networks: every tensor follows from its key (tests/golden/README.md)."""

import json
import zlib
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).parent.parent / "golden" / "eval"
GAINS = {"i3d": 1.6, "resnet3d": 1.0, "fid_inception": 1.6, "lpips_vgg": 1.5, "lpips_alex": 1.5}


def normal(key: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(key.encode("utf-8"))).standard_normal(shape)


def tensor(key: str, shape: tuple[int, ...], gain: float) -> np.ndarray:
    n = normal(key, shape)
    if key.endswith("running_mean"):
        value = 0.1 * n
    elif key.endswith("running_var"):
        value = 1 + 0.1 * np.abs(n)
    elif key.endswith("num_batches_tracked"):
        value = np.zeros(shape)
    elif key.startswith("lin") and ".model.1.weight" in key:
        value = np.abs(n)
    elif len(shape) >= 2:
        value = n * gain / np.sqrt(np.prod(shape[1:]))
    elif key.endswith(".weight"):
        value = 1 + 0.1 * n
    else:
        value = 0.1 * n
    return value.astype(np.float32)


def published(network: str) -> dict[str, np.ndarray]:
    """The tensors of `network` under the published files' keys."""
    shapes = json.loads((GOLDEN / "key_shapes.json").read_text())[network]
    return {key: tensor(key, tuple(shape), GAINS[network]) for key, shape in shapes.items()}
