"""The compiled programs of a pipeline: the stages of the method, lowered for a picture size and spread over devices.

Frames are split over all devices of the mesh; what every device needs (the clip's latents and guidance, the picture) is
on all of them.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from champ_jax.diffusion.samplers import SAMPLERS, Memory, Path
from champ_jax.diffusion.schedules import Schedule
from champ_jax.diffusion.windows import plan_windows
from champ_jax.inference import stages
from champ_jax.inference.denoiser import EVERY, WINDOWS, WindowDenoiser, denoising_mesh, lower_denoiser, make_mesh
from champ_jax.inference.kernels import fitting_kernels
from champ_jax.inference.settings import Settings
from champ_jax.models.champ import COMPONENTS, ChampConfig, build_component
from champ_jax.models.functional import PureNetwork
from champ_jax.models.options import AttentionKernels, NetworkOptions
from champ_jax.models.unet import Reference

Networks = Mapping[str, PureNetwork]
Parameters = Mapping[str, nnx.State]


@dataclasses.dataclass(frozen=True)
class Programs:
    """The compiled programs of a picture size; each is JAX's `Compiled`.

    Attributes:
      picture: (parameters, small, picture) -> Reference.
      conditions: (guidance parameters, {condition: (chunk, H, W, 3) bytes}) -> features (chunk, h, w, C0).
      denoiser: predicts for a whole clip.
      decoder: (VAE parameters, latents (chunk, h, w, C)) -> pictures (chunk, H, W, 3) in [0, 1].
    """

    picture: Callable[..., Reference]
    conditions: Callable[..., jax.Array]
    denoiser: WindowDenoiser
    decoder: Callable[..., jax.Array]


class ProgramCache:
    """Programs are compiled when a picture size first comes up and kept. The denoiser's serves clips of any length (a
    clip shorter than a window has its own).

    Attributes:
      mesh: all devices.
      everywhere: the sharding of arrays that every device holds whole.
      compiled: {(what, picture size, ...): JAX's `Compiled`}, so far.
    """

    def __init__(
        self,
        config: ChampConfig,
        dtype: Any,
        devices: Sequence[jax.Device],
        kernels: AttentionKernels | None,
        compiler_options: Mapping[str, Any] | None,
    ):
        """`kernels` None: the recommended ones wherever they can run, XLA's elsewhere. The rest as in
        `ChampPipeline`."""
        self._config, self._dtype, self._devices = config, dtype, list(devices)
        self._kernels, self._options = kernels, None if compiler_options is None else dict(compiler_options)
        self.mesh = make_mesh(self._devices)
        self.everywhere = NamedSharding(self.mesh, P())
        self.compiled: dict[tuple, Any] = {}

    def kernels(self, size: tuple[int, int]) -> AttentionKernels:
        """The attention kernels of the programs for videos of size (width, height)."""
        return self._kernels or fitting_kernels(self._config, size, self._dtype, self._devices[0])

    def get(
        self,
        parameters: Parameters,
        size: tuple[int, int],
        conditions: Sequence[str],
        settings: Settings,
        length: int,
    ) -> Programs:
        """The programs for videos of size (width, height) and `length` frames; those that are new are compiled side by
        side."""
        mesh, slots, recipes = self.recipes(parameters, size, conditions, settings, length)
        missing = {key: recipe() for key, recipe in recipes.items() if key not in self.compiled}
        with ThreadPoolExecutor() as pool:
            done = pool.map(lambda lowered: lowered.compile(self._options), missing.values())
            self.compiled.update(zip(missing, done))
        picture, encoder, denoiser, decoder = (self.compiled[key] for key in recipes)
        return Programs(picture, encoder, WindowDenoiser(mesh, slots, denoiser), decoder)

    def recipes(
        self,
        parameters: Parameters,
        size: tuple[int, int],
        conditions: Sequence[str],
        settings: Settings,
        length: int,
    ) -> tuple[Mesh, int, dict[tuple, Callable[[], jax.stages.Lowered]]]:
        """What lowers each program of `get`.

        Returns:
          The denoiser's mesh, the windows it has in flight, and {key: function}; a key begins with the program's name
          ('picture', 'conditions', 'denoiser', 'decoder'), in this order.
        """
        windows = len(plan_windows(settings.windows, length).frames)
        mesh = denoising_mesh(self._devices, windows, settings.batch, settings.guided)
        slots, frames = settings.batch * mesh.shape[WINDOWS], min(settings.windows.frames, length)
        chunk = settings.chunk * len(self._devices)
        kernels, config = self.kernels(size), self._config
        networks = {
            name: PureNetwork.split(abstract_network(name, config, self._dtype, kernels))[0] for name in COMPONENTS
        }
        recipes: dict[tuple, Callable[[], jax.stages.Lowered]] = {
            ("picture", size): partial(lower_picture_encoder, networks, parameters, config, size, self.mesh),
            ("conditions", size, chunk, tuple(conditions)): partial(
                lower_condition_encoder,
                networks["guidance"],
                parameters["guidance"],
                conditions,
                size,
                chunk,
                self.mesh,
            ),
            ("denoiser", size, slots, frames, settings.guided, mesh): partial(
                self._lower_denoiser, networks, parameters, size, (slots, frames), settings.guided, mesh
            ),
            ("decoder", size, chunk): partial(
                lower_decoder, networks["vae"], parameters["vae"], config, size, chunk, self.mesh
            ),
        }
        return mesh, slots, recipes

    def _lower_denoiser(
        self,
        networks: Networks,
        parameters: Parameters,
        size: tuple[int, int],
        batch: tuple[int, int],
        guided: bool,
        mesh: Mesh,
    ) -> jax.stages.Lowered:
        config = self._config
        shape = (*batch, *latent_size(config, size))
        shapes = reference_shapes(networks, parameters, config, size)
        reference = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.everywhere), shapes)
        return lower_denoiser(
            networks["denoising_unet"],
            parameters["denoising_unet"],
            reference,
            (*shape, config.unet.in_channels),
            jax.ShapeDtypeStruct((*shape, config.guidance.out_channels), self._dtype),
            mesh=mesh,
            guided=guided,
        )


def abstract_network(name: str, config: ChampConfig, dtype: Any, kernels: AttentionKernels | None = None) -> nnx.Module:
    """One of COMPONENTS without values: its parameters are shapes, in `dtype` as is its computation."""
    return build_component(name, config, NetworkOptions(dtype, dtype, kernels or AttentionKernels()))


def lower_picture_encoder(
    networks: Networks, parameters: Parameters, config: ChampConfig, size: tuple[int, int], mesh: Mesh
) -> jax.stages.Lowered:
    """Lowers (parameters, small, picture) -> Reference: what the denoiser reads of a picture.

    `small` is the picture at the image encoder's size, (1, S, S, 3) uint8, `picture` at the video's, (1, H, W, 3).
    """

    def run(parameters: Parameters, small: jax.Array, picture: jax.Array) -> Reference:
        image_encoder, vae, reference_unet, denoiser = (
            networks[name].bind(parameters[name])
            for name in ("image_encoder", "vae", "reference_unet", "denoising_unet")
        )
        token = stages.embed_pictures(image_encoder, small)
        return stages.read_reference(reference_unet, denoiser, stages.picture_latents(vae, picture), token)

    everywhere = NamedSharding(mesh, P())
    shapes = ((1, *(config.image_encoder.image_size,) * 2, 3), (1, size[1], size[0], 3))
    pictures = (jax.ShapeDtypeStruct(shape, jnp.uint8, sharding=everywhere) for shape in shapes)
    return jax.jit(run, out_shardings=everywhere).lower(parameters, *pictures)


def reference_shapes(
    networks: Networks, parameters: Parameters, config: ChampConfig, size: tuple[int, int]
) -> Reference:
    """Shapes of what the denoiser reads of a picture for videos of size (width, height)."""

    def run(parameters: Parameters, latents: jax.Array, token: jax.Array) -> Reference:
        reference_unet, denoiser = (
            networks[name].bind(parameters[name]) for name in ("reference_unet", "denoising_unet")
        )
        return stages.read_reference(reference_unet, denoiser, latents, token)

    latents = jax.ShapeDtypeStruct((1, *latent_size(config, size), config.unet.in_channels), jnp.float32)
    token = jax.ShapeDtypeStruct((1, config.unet.cross_attention_dim), jnp.float32)
    return jax.eval_shape(run, parameters, latents, token)


def latent_size(config: ChampConfig, size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) of the latents of pictures of size (width, height)."""
    return size[1] // config.vae.downscale, size[0] // config.vae.downscale


def lower_condition_encoder(
    network: PureNetwork,
    parameters: nnx.State,
    conditions: Sequence[str],
    size: tuple[int, int],
    chunk: int,
    mesh: Mesh,
) -> jax.stages.Lowered:
    """Lowers (parameters, {condition: (chunk, H, W, 3) uint8}) -> guidance (chunk, h, w, C0) on every device.

    The frames come split over the devices, and each encodes its share.
    """

    def local(parameters: nnx.State, frames: Mapping[str, jax.Array]) -> jax.Array:
        return stages.encode_conditions(network.bind(parameters), frames)

    frames = jax.ShapeDtypeStruct((chunk, size[1], size[0], 3), jnp.uint8, sharding=NamedSharding(mesh, P(EVERY)))
    run = jax.jit(_over_frames(local, mesh), out_shardings=NamedSharding(mesh, P()))
    return run.lower(parameters, dict.fromkeys(conditions, frames))


def lower_decoder(
    network: PureNetwork, parameters: nnx.State, config: ChampConfig, size: tuple[int, int], chunk: int, mesh: Mesh
) -> jax.stages.Lowered:
    """Lowers (parameters, latents (chunk, h, w, 4)) -> pictures (chunk, H, W, 3) float32 in [0, 1], split likewise."""

    def local(parameters: nnx.State, latents: jax.Array) -> jax.Array:
        return stages.decode_latents(network.bind(parameters), latents)

    shape = (chunk, *latent_size(config, size), config.vae.latent_channels)
    latents = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, P(EVERY)))
    return jax.jit(_over_frames(local, mesh)).lower(parameters, latents)


def _over_frames(local: Any, mesh: Mesh) -> Any:
    # check_vma: Pallas kernels inside do not say along which axes their outputs vary.
    return jax.shard_map(local, mesh=mesh, in_specs=(P(), P(EVERY)), out_specs=P(EVERY), check_vma=False)


@jax.jit
def all_finite(x: jax.Array) -> jax.Array:
    """Whether all numbers are finite."""
    return jnp.isfinite(x).all()


@partial(jax.jit, donate_argnums=0)
def write_frames(clip: jax.Array, chunk: jax.Array, start: jax.Array) -> jax.Array:
    """Puts (n, ...) into (F, ...) at frame `start`, in place."""
    return jax.lax.dynamic_update_slice_in_dim(clip, chunk.astype(clip.dtype), start, axis=0)


@partial(jax.jit, static_argnums=(0, 1))
def take_frames(mesh: Mesh, count: int, clip: jax.Array, start: jax.Array) -> jax.Array:
    """`count` frames of (F, ...) from `start` on, split over the devices; past the end the last one is repeated."""
    frames = jnp.minimum(start + jnp.arange(count), clip.shape[0] - 1)
    return jax.lax.with_sharding_constraint(clip[frames], NamedSharding(mesh, P(EVERY)))


def make_update(schedule: Schedule, sampler: str, path: Path, seed: int, everywhere: NamedSharding) -> Any:
    """The jitted sampler step (i, x, prediction, memory) -> (x, memory); x and memory are donated."""

    def update(i: jax.Array, x: jax.Array, prediction: jax.Array, memory: Memory) -> tuple[jax.Array, Memory]:
        denoised = schedule.denoised(prediction, x, jnp.asarray(path.timesteps)[i])
        noisy = path.eta or SAMPLERS[sampler].needs_noise
        noise = _frame_noise(jax.random.fold_in(jax.random.key(seed), i + 1), x.shape) if noisy else None
        return SAMPLERS[sampler].step(path, i, x, denoised, memory, noise)

    return jax.jit(update, donate_argnums=(1, 3), out_shardings=everywhere)


def initial_noise(seed: int, shape: tuple[int, ...], everywhere: NamedSharding) -> jax.Array:
    """Normal noise (F, h, w, C) float32. A frame's depends on the seed and its number, not on the clip's length."""
    draw = jax.jit(lambda key: _frame_noise(jax.random.fold_in(key, 0), shape), out_shardings=everywhere)
    return draw(jax.random.key(seed))


def _frame_noise(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    keys = jax.vmap(partial(jax.random.fold_in, key))(jnp.arange(shape[0]))
    return jax.vmap(lambda key: jax.random.normal(key, shape[1:], jnp.float32))(keys)
