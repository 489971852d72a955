"""How a network computes, apart from its sizes: dtypes, attention kernels, recomputation."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from champ_jax.common.errors import InputError

REMAT_POLICIES: dict[str, Callable[..., bool] | None] = {
    # Recompute everything inside a block: least memory, a third more compute.
    "full": jax.checkpoint_policies.nothing_saveable,
    # Keep the results of matrix products without batch dimensions (linears), recompute norms, activations, attention.
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    # Keep all matrix products, recompute only what is elementwise.
    "all_dots": jax.checkpoint_policies.dots_saveable,
}


@dataclasses.dataclass(frozen=True)
class AttentionKernels:
    """The kernel of every attention in the model (`champ_jax.models.attention`), and the platform they are chosen for.

    Attributes:
      spatial: Kernels for the UNet's levels, finest first; the middle block takes the last one's.
      temporal: The kernel for the motion modules.
      guidance: The kernel for the guidance encoders.
      vae: The kernel for the VAE's middle block (one head as wide as the block: 512 in SD's, too wide for cuDNN).
      image_encoder: The kernel for the CLIP tower.
      platform: 'cpu', 'gpu' or 'tpu' to compile for; None takes JAX's default backend.
    """

    spatial: tuple[str, ...] = ("xla", "xla", "xla", "xla")
    temporal: str = "xla"
    guidance: str = "xla"
    vae: str = "xla"
    image_encoder: str = "xla"
    platform: str | None = None

    def at_level(self, level: int) -> str:
        """The kernel of UNet level `level`; a level past the end takes the last one's."""
        return self.spatial[min(level, len(self.spatial) - 1)]


@dataclasses.dataclass(frozen=True)
class NetworkOptions:
    """How a network computes.

    Attributes:
      dtype: dtype of the computation; norms and softmax reduce in float32 in any case.
      param_dtype: dtype of the parameters.
      kernels: attention kernels, and the platform to compile for.
      remat: 'none', or the name in REMAT_POLICIES of what the backward pass may keep of each ResNet, transformer and
        motion module; the VAE and the image encoder take none.
      scan: whether layers that repeat (the image encoder's) run as one scanned body, which compiles faster and runs
        slower on a CPU.

    Raises:
      InputError: an unknown remat policy.
    """

    dtype: DTypeLike = jnp.float32
    param_dtype: DTypeLike = jnp.float32
    kernels: AttentionKernels = AttentionKernels()
    remat: str = "none"
    scan: bool = False

    def __post_init__(self) -> None:
        if self.remat != "none" and self.remat not in REMAT_POLICIES:
            raise InputError(f"remat={self.remat}: unknown policy; choose none, {', '.join(REMAT_POLICIES)}")
