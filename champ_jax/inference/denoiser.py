"""One denoising step over a clip of any length: windows, classifier-free guidance, several devices.

The network only ever sees batches of W windows of L frames, so its program is compiled once for a picture size and
serves clips of every length; the programs around it (taking windows out, adding predictions up) are small.

Devices form a mesh of `windows` x `guidance`: each runs the single-device program on its own windows. Where windows are
fewer than devices, the conditional and the unconditional half of guidance go to different devices.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from champ_jax.diffusion.guidance import guided_prediction, guided_share
from champ_jax.diffusion.windows import WindowPlan
from champ_jax.models.functional import PureNetwork
from champ_jax.models.unet import Reference

WINDOWS, GUIDANCE = "windows", "guidance"
EVERY = (WINDOWS, GUIDANCE)  # a leading axis split over all devices


def make_mesh(devices: Sequence[jax.Device], halves: int = 1) -> Mesh:
    """A mesh (len(devices) / halves, halves) with the axes 'windows' and 'guidance'."""
    shape = (len(devices) // halves, halves)
    return jax.make_mesh(shape, EVERY, axis_types=(AxisType.Auto,) * 2, devices=devices)


def denoising_mesh(devices: Sequence[jax.Device], windows: int, batch: int, guided: bool) -> Mesh:
    """The mesh for a clip of `windows` windows, `batch` of which a device takes at once."""
    split = guided and len(devices) % 2 == 0 and windows < batch * len(devices)
    return make_mesh(devices, 2 if split else 1)


@dataclasses.dataclass(frozen=True, eq=False)
class WindowDenoiser:
    """The compiled programs of a denoising step.

    Attributes:
      mesh: the devices.
      slots: windows in flight, over all devices.
      program: the compiled network on `slots` windows, from `lower_denoiser`.
    """

    mesh: Mesh
    slots: int
    program: Callable[..., jax.Array]

    def __call__(
        self,
        parameters: nnx.State,
        reference: Reference,
        latents: jax.Array,
        features: jax.Array,
        plan: WindowPlan,
        timestep: int,
        guidance_scale: float,
    ) -> jax.Array:
        """The model's prediction for every frame.

        Args:
          parameters: the denoiser's.
          reference: What `UNet.prepare_reference` returned.
          latents: (F, h, w, C) float32.
          features: (F or more, h, w, C0) guidance of every frame.
          plan: this step's windows, of the size compiled for.
          timestep: the noise level.
          guidance_scale: weight of the conditional half; without effect if compiled without guidance.

        Returns:
          (F, h, w, C) float32, overlaps averaged by the plan's weights.
        """
        length = latents.shape[0]
        # The clip may come on a mesh of another shape over the same devices: no copy, but one mesh for all below.
        latents, features = jax.device_put((latents, features), NamedSharding(self.mesh, P()))
        rows = NamedSharding(self.mesh, P(WINDOWS))
        prediction = jnp.zeros_like(latents)
        for start in range(0, len(plan.frames), self.slots):
            frames, shares = _padded(plan, start, self.slots, length)
            windows, guidance = _take(self.mesh, latents, features, jax.device_put(frames, rows))
            noisy = self.program(
                parameters, reference, windows, guidance, np.int32(timestep), np.float32(guidance_scale)
            )
            prediction = _add(self.mesh, prediction, noisy, shares)
        return prediction


def lower_denoiser(
    network: PureNetwork,
    parameters: nnx.State,
    reference: Reference,
    latents: tuple[int, ...],
    features: jax.ShapeDtypeStruct,
    *,
    mesh: Mesh,
    guided: bool,
) -> jax.stages.Lowered:
    """Lowers the network for batches of windows; the latents' memory is donated to the prediction.

    Args:
      network: the denoiser.
      parameters, reference: its arguments, or their shapes with shardings.
      latents: shape (W, L, h, w, C) of the windows in flight, over all devices; they are float32.
      features: shape and dtype (W, L, h, w, C0) of their guidance.
      mesh: The mesh from `denoising_mesh`.
      guided: whether classifier-free guidance is on.
    """
    run = partial(_predict, network, guided, mesh.shape[GUIDANCE] == 2)
    # check_vma: Pallas kernels inside do not say along which axes their outputs vary.
    sharded = jax.shard_map(
        run, mesh=mesh, in_specs=(P(), P(), P(WINDOWS), P(WINDOWS), P(), P()), out_specs=P(WINDOWS), check_vma=False
    )
    rows = NamedSharding(mesh, P(WINDOWS))
    return jax.jit(sharded, donate_argnums=2).lower(
        parameters,
        reference,
        jax.ShapeDtypeStruct(latents, jnp.float32, sharding=rows),
        jax.ShapeDtypeStruct(features.shape, features.dtype, sharding=rows),
        jax.ShapeDtypeStruct((), jnp.int32),
        jax.ShapeDtypeStruct((), jnp.float32),
    )


def _predict(
    network: PureNetwork,
    guided: bool,
    split: bool,
    parameters: nnx.State,
    reference: Reference,
    windows: jax.Array,
    guidance: jax.Array,
    timestep: jax.Array,
    scale: jax.Array,
) -> jax.Array:
    """What one device does: (W, L, h, w, C) windows -> predictions, guided (Ho & Salimans 2022) if asked."""
    denoiser = network.bind(parameters)

    def predict(windows: jax.Array, guidance: jax.Array, unconditional: int | jax.Array = 0) -> jax.Array:
        return denoiser(windows, timestep, reference, guidance, unconditional=unconditional)

    if not guided:
        return predict(windows, guidance).astype(jnp.float32)
    if split:
        return guided_share(predict, windows, guidance, scale, GUIDANCE)
    return guided_prediction(predict, windows, guidance, scale)


def _padded(plan: WindowPlan, start: int, slots: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows start..start + slots of a plan: frames (slots, L), and each prediction's share in each frame of the clip,
    (slots, L, length). Missing windows repeat one and have no share."""
    frames, weights = plan.frames[start : start + slots], plan.weights[start : start + slots]
    missing = slots - len(frames)
    frames = np.concatenate([frames, np.repeat(frames[:1], missing, axis=0)])
    weights = np.concatenate([weights, np.zeros((missing, frames.shape[1]), np.float32)])
    shares = np.zeros((*frames.shape, length), np.float32)
    np.put_along_axis(shares, frames[..., None], weights[..., None], axis=-1)
    return frames, shares


@partial(jax.jit, static_argnums=0)
def _take(mesh: Mesh, latents: jax.Array, features: jax.Array, frames: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Frames (slots, L) of the clip's latents and guidance, each device its own windows."""

    def local(latents: jax.Array, features: jax.Array, frames: jax.Array) -> tuple[jax.Array, jax.Array]:
        return latents[frames], features[frames]

    specs = (P(), P(), P(WINDOWS))
    return jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=(P(WINDOWS),) * 2)(latents, features, frames)


@partial(jax.jit, static_argnums=0, donate_argnums=1)
def _add(mesh: Mesh, prediction: jax.Array, windows: jax.Array, shares: jax.Array) -> jax.Array:
    """Adds predictions (slots, L, h, w, C) to (F, h, w, C) by their shares (slots, L, F).

    As a matrix product, because a scatter with repeated frames adds up in no fixed order on a GPU.
    """
    added = jnp.einsum("slf,slhwc->fhwc", shares, windows, precision="highest")
    return jax.lax.with_sharding_constraint(prediction + added, NamedSharding(mesh, P()))
