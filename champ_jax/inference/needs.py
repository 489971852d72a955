"""Compares the memory that a run will need, by its sizes alone, with what is available, before anything is loaded.

The figures are lower bounds: of each program only the arrays that must be alive together at its widest layer. A run
that needs more than is available would be killed by the system, or fail on its device after minutes of compilation.
"""

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from champ_jax.common.errors import InputError
from champ_jax.common.limits import available_memory, size_text
from champ_jax.diffusion.samplers import SAMPLERS
from champ_jax.inference.settings import Settings
from champ_jax.models.champ import ChampConfig


@dataclasses.dataclass(frozen=True)
class Needs:
    """Bytes that a run needs at least.

    Attributes:
      device: Bytes on each device, while `stage` runs.
      host: Bytes on the host, besides what the devices need.
      stage: what needs the most on a device, in words.
    """

    device: int
    host: int
    stage: str


def estimate(
    model: ChampConfig,
    settings: Settings,
    size: tuple[int, int],
    frames: int,
    *,
    dtype: DTypeLike,
    devices: int,
    parameters: int = 0,
) -> Needs:
    """The memory that a clip takes at least.

    Args:
      model: sizes of the networks.
      settings: how the clip is made.
      size: (width, height) of the video.
      frames: its length.
      dtype: The dtype of parameters and computation.
      devices: number of devices.
      parameters: number of parameters of all networks, 0 if unknown.
    """
    item = jnp.dtype(dtype).itemsize
    pixels = size[0] * size[1]
    latent = pixels // model.vae.downscale**2
    width = model.unet.block_out_channels[0]
    window = min(settings.windows.frames, frames)
    rows = settings.batch * window * (2 if settings.guided else 1)
    if settings.guided and devices > 1:
        rows //= 2  # the halves of guidance may be on different devices
    fine, coarser = (*model.vae.block_out_channels, model.vae.block_out_channels[0])[:2]
    stages = {
        # The input and the output of the widest convolution, and of the feed-forward layer, which is 8 times as wide.
        f"decoding {settings.chunk} frames at once (chunk)": settings.chunk * pixels * (fine + coarser) * item,
        f"drawing guidance from {settings.chunk} frames at once (chunk)": settings.chunk
        * pixels
        * (3 * len(model.conditions) + 2 * model.guidance.block_out_channels[0] * item),
        "encoding the picture": pixels * 2 * fine * item,
        f"denoising {settings.batch} windows of {window} frames at once (windows.batch)": rows
        * latent
        * 9
        * width
        * item,
    }
    stage, peak = max(stages.items(), key=lambda entry: entry[1])
    copies = 3 + SAMPLERS[settings.sampler].memory  # the sample, the prediction, the next sample
    clip = frames * latent * (copies * model.unet.in_channels * 4 + width * item)
    chunk = min(settings.chunk * devices, max(frames, settings.chunk))
    # Two chunks of conditions are in memory while one is encoded, and two of frames while one is written.
    host = chunk * pixels * 3 * 2 * max(len(model.conditions), 4)
    return Needs(parameters * item + clip + peak, host, stage)


def require(needs: Needs, devices: Sequence[jax.Device], size: tuple[int, int]) -> None:
    """Raises InputError, with both numbers, if a run cannot fit in memory."""
    subject = f"a video of {size[0]}x{size[1]}"
    remedy = f"the most goes into {needs.stage}: choose a smaller size, or less at once"
    limit = None if devices[0].platform == "cpu" else _device_memory(devices[0])
    if limit is not None and needs.device > limit:
        raise InputError(
            f"{subject}: needs at least {size_text(needs.device)} of memory on each device, "
            f"which has {size_text(limit)}; {remedy}"
        )
    host = needs.host + (needs.device * len(devices) if devices[0].platform == "cpu" else 0)
    available = available_memory()
    if host > available:
        raise InputError(
            f"{subject}: needs at least {size_text(host)} of memory, {size_text(available)} are available; {remedy}"
        )


def _device_memory(device: jax.Device) -> int | None:
    """Bytes that JAX may take on a device; None where it does not say."""
    statistics = device.memory_stats() or {}
    return statistics.get("bytes_limit")
