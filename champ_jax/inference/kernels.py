"""Which attention kernels a pipeline's programs use."""

import math
from typing import Any

import jax

from champ_jax.common.errors import InputError
from champ_jax.models.attention import check_kernel, recommended_kernels
from champ_jax.models.champ import ChampConfig
from champ_jax.models.options import AttentionKernels


def fitting_kernels(config: ChampConfig, size: tuple[int, int], dtype: Any, device: jax.Device) -> AttentionKernels:
    """The recommended kernels of a device's platform, with XLA's wherever one cannot run at this picture size.

    Args:
      config: The model's sizes.
      size: (width, height) of the pictures.
      dtype: The dtype of the computation.
      device: The device, for its platform and compute capability.
    """
    platform = device.platform
    best = recommended_kernels(platform, getattr(device, "compute_capability", None))
    width, height = (side // config.vae.downscale for side in size)

    def fitting(kernel: str, shrink: int, heads: int, channels: int) -> str:
        tokens = math.ceil(height / shrink) * math.ceil(width / shrink)
        queries = (1, tokens, heads, channels // heads)
        try:
            for keys in (tokens, 2 * tokens):  # alone, and with the bank
                check_kernel(kernel, queries, (1, keys, heads, channels // heads), dtype, platform)
        except InputError:
            return "xla"
        return kernel

    spatial = tuple(
        fitting(best.at_level(level), 2**level, config.unet.heads[level], channels)
        for level, channels in enumerate(config.unet.block_out_channels)
    )
    guidance = fitting(best.guidance, 1, config.guidance.heads, config.guidance.block_out_channels[-1])
    return AttentionKernels(spatial, best.temporal, guidance, best.vae, best.image_encoder, platform=best.platform)
