"""First values of what a source lacks, by the networks' own initialisation: Gaussian, with zero output layers.

Champ section 3.3: a guidance encoder's last convolution is zero, so that training starts from Stable Diffusion's
denoiser; the motion modules' last linears are zero likewise (AnimateDiff).
"""

import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from champ_jax.models.champ import ChampConfig
from champ_jax.models.guidance import GuidanceEncoder
from champ_jax.models.keys import InitKeys
from champ_jax.models.motion_module import MotionModule
from champ_jax.weights.names import Path, TensorName, flatten


def initial_values(
    stem: str, names: Mapping[str, TensorName], config: ChampConfig, seed: int
) -> dict[Path, np.ndarray]:
    """{path: array} of all tensors of 'motion_module' or 'guidance_encoder_*'; they follow from `seed` and `stem`."""
    keys = InitKeys(jax.random.fold_in(jax.random.key(seed), zlib.crc32(stem.encode()) & 0x7FFFFFFF))
    if stem != "motion_module":
        prefix = next(iter(names.values())).path[:2]  # encoders, condition
        return _arrays(GuidanceEncoder(config.guidance, rngs=keys), prefix)
    values: dict[Path, np.ndarray] = {}
    for name in names.values():
        if name.path[-3:] == ("temporal_transformer", "norm", "scale"):
            module = MotionModule(
                name.shape[0],
                config.motion,
                groups=config.unet.norm_num_groups,
                kernel="xla",
                platform=None,
                dtype=jnp.float32,
                param_dtype=jnp.float32,
                rngs=keys,
            )
            values |= _arrays(module, name.path[:-3])
    return values


def _arrays(module: nnx.Module, prefix: Path) -> dict[Any, np.ndarray]:
    return {(*prefix, *path): np.asarray(leaf) for path, leaf in flatten(nnx.to_pure_dict(nnx.state(module)))}
