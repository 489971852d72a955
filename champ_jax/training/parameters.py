"""The networks of a training run as a graph and flat dicts of arrays, and which of them are trained.

Outside the modules every variable is known by its dotted path, for example
'denoising_unet.down_blocks.0.motion_modules.0.temporal_transformer.proj_in.kernel': one name for the trainable-set
rules, the sharding rules, the weight-decay mask and the checkpoints.
"""

import dataclasses
import functools
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.sharding import Mesh, NamedSharding
from jax.typing import DTypeLike

from champ_jax.common.errors import InputError
from champ_jax.models.champ import Champ, ChampConfig
from champ_jax.models.functional import PureNetwork, Unused
from champ_jax.models.options import AttentionKernels, NetworkOptions
from champ_jax.training.sharding import gather, parameter_shardings
from champ_jax.weights.adapters import KERNEL, adapter_shapes
from champ_jax.weights.flat import Flat, dotted, path_of
from champ_jax.weights.names import tensor_name


@dataclasses.dataclass(frozen=True)
class TrainableSet:
    """A named choice of parameters to train: those that match `include` and not `exclude` (regular expressions).

    '{finest}' in a pattern stands for the index of the finest up block, 3 in Stable Diffusion.
    """

    include: str
    exclude: str | None = None

    def holds(self, name: str, config: ChampConfig) -> bool:
        """Whether the parameter `name` is trained."""
        include, exclude = (
            None if pattern is None else pattern.replace("{finest}", str(config.unet.levels - 1))
            for pattern in (self.include, self.exclude)
        )
        return bool(re.search(include, name)) and not (exclude and re.search(exclude, name))


# ReferenceNet's finest up block hardly reaches the bank (its last layers not at all): the published model froze it.
_STAGE1_EXCLUDED = r"\.motion_modules\.|^reference_unet\.up_blocks\.{finest}\."

TRAINABLE = {
    "autoencoder": TrainableSet(r"^vae\."),
    "decoder": TrainableSet(r"^vae\.(decoder|post_quant_conv)\."),
    "stage1": TrainableSet(r"^(denoising_unet|reference_unet|guidance)\.", _STAGE1_EXCLUDED),
    "stage1_image_encoder": TrainableSet(
        r"^(denoising_unet|reference_unet|guidance|image_encoder)\.", _STAGE1_EXCLUDED
    ),
    "stage1_pixels": TrainableSet(
        r"^(denoising_unet|reference_unet|guidance|image_encoder|vae\.decoder|vae\.post_quant_conv)\.", _STAGE1_EXCLUDED
    ),
    "stage2": TrainableSet(r"^denoising_unet\..*\.motion_modules\."),
}


LORA = "lora"  # in place of a name in TRAINABLE: adapters of kernels, which stay as they are
ADAPTABLE = ("denoising_unet", "reference_unet")
_REFERENCE = "reference:"


@dataclasses.dataclass(frozen=True)
class Lora:
    """Which layers get a low-rank adapter (Hu et al. 2021), and of which rank.

    Attributes:
      rank: of every adapter.
      targets: parts of the names that the denoiser's layers have in PyTorch's files, from dot to dot: 'to_q' for every
        such layer, 'attn1.to_q', 'motion_modules', 'down_blocks.0'. 'reference:to_q' for the ReferenceNet's.
    """

    rank: int
    targets: tuple[str, ...]

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "Lora":
        """That of a run's config."""
        return cls(config["lora"]["rank"], tuple(config["lora"]["targets"]))

    def kernels(self, variables: Mapping[str, nnx.Variable], config: ChampConfig) -> list[str]:
        """The names of the kernels that get an adapter; raises InputError for a target that names none."""
        modules = {}
        for name, variable in sorted(variables.items()):
            component, _, rest = name.partition(".")
            read = isinstance(variable, nnx.Param) and name.endswith(KERNEL) and component in ADAPTABLE
            if read and (component != "reference_unet" or TRAINABLE["stage1"].holds(name, config)):
                key = tensor_name(path_of(rest), tuple(variable.get_value().shape)).key
                modules[name] = component, f".{key.removesuffix('.weight')}."
        chosen = set()
        for target in self.targets:
            component = "reference_unet" if target.startswith(_REFERENCE) else "denoising_unet"
            part = f".{target.removeprefix(_REFERENCE)}."
            found = {name for name, (place, module) in modules.items() if place == component and part in module}
            if not found:
                raise InputError(
                    f"lora.targets={target}: names no layer of the {component} that is trained in this stage; name "
                    "parts such as to_q, attn1.to_v, ff, conv1 or motion_modules"
                )
            chosen |= found
        return sorted(chosen)


class SplitParam(nnx.Param):
    """A parameter whose pieces are on several devices; reading it gathers them, in the dtype of the computation.

    The modules know nothing of it. Where the backward pass recomputes a block, it gathers the block's parameters again:
    no device holds more than a few whole ones at a time.

    Attributes:
      pieces: how it is stored, jax.sharding.NamedSharding.
      whole_dtype: The dtype that it is gathered in.
    """

    def get_value(self, **options: Any) -> jax.Array:
        return gather(super().get_value(**options), self.pieces, self.whole_dtype)


@dataclasses.dataclass(frozen=True)
class Network:
    """The networks of a run without their arrays.

    Attributes:
      config: The model's sizes; `config.motion` is None in stage 1, whose denoiser has no motion modules.
      network: what binds arrays to the modules.
      variables: every variable by name, holding a jax.ShapeDtypeStruct; parameters are float32.
      trainable: the names of the trained parameters, sorted.
      frozen: the names of the other variables that the forward pass reads, sorted.
      unused: the names of the variables that users' files hold and that nothing reads, sorted.
      dtype: The dtype of the computation.
      adapters: {kernel: the names of its adapter's two arrays} where those alone are trained.
      rank: that of the adapters.
      split: how parameters that are split over several devices are stored, by name.
    """

    config: ChampConfig
    network: PureNetwork
    variables: Mapping[str, nnx.Variable]
    trainable: tuple[str, ...]
    frozen: tuple[str, ...]
    unused: tuple[str, ...]
    dtype: DTypeLike
    adapters: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    rank: int = 0
    split: Mapping[str, NamedSharding] = dataclasses.field(default_factory=dict)

    @classmethod
    def build(
        cls,
        config: ChampConfig,
        trainable: str,
        *,
        lora: Lora | None = None,
        kernels: AttentionKernels | None = None,
        remat: str = "none",
        dtype: DTypeLike = jnp.float32,
    ) -> "Network":
        """Builds the networks without allocating anything.

        Args:
          config: sizes.
          trainable: a name in TRAINABLE, or LORA.
          lora: the adapters of LORA.
          kernels: attention kernels by level.
          remat: 'none' or a name in `champ_jax.models.options.REMAT_POLICIES`.
          dtype: The dtype of the computation.

        Raises:
          InputError: no such set, a set that is empty for this model, or a target of `lora` that names no layer.
        """
        if trainable not in (*TRAINABLE, LORA):
            raise InputError(f"trainable={trainable}: unknown set; choose {', '.join((*TRAINABLE, LORA))}")
        options = NetworkOptions(dtype, kernels=kernels or AttentionKernels(), remat=remat)
        network, parameters = PureNetwork.split(Champ(config, options))
        state = nnx.merge_state(parameters, network.unused)
        variables = {dotted(path): variable for path, variable in nnx.to_flat_state(state)}
        rule = TRAINABLE.get(trainable)
        trained, frozen, unused = [], [], []
        for name, variable in sorted(variables.items()):
            if isinstance(variable, Unused):
                unused.append(name)
            elif isinstance(variable, nnx.Param) and rule is not None and rule.holds(name, config):
                trained.append(name)
            else:
                frozen.append(name)
        adapters: dict[str, tuple[str, str]] = {}
        if rule is None:
            assert lora is not None  # LORA without its layers is a mistake of the program
            for kernel in lora.kernels(variables, config):
                down, up = adapter_shapes(kernel, variables[kernel].get_value().shape, lora.rank)
                adapters[kernel] = down, up
            trained = sorted(name for pair in adapters.values() for name in pair)
        if not trained:
            raise InputError(f"trainable={trainable}: the model has none of these parameters")
        rank = 0 if lora is None else lora.rank
        names = tuple(trained), tuple(frozen), tuple(unused)
        return cls(config, network, variables, *names, dtype, adapters, rank)

    def on(self, mesh: Mesh) -> "Network":
        """The same with its parameters split over `mesh` by the rules."""
        shardings = parameter_shardings(self.shapes, mesh)
        split = {
            name: sharding
            for name, sharding in shardings.items()
            if not sharding.is_fully_replicated and isinstance(self.variables[name], nnx.Param)
        }
        return dataclasses.replace(self, split=split)

    @functools.cached_property
    def shapes(self) -> dict[str, jax.ShapeDtypeStruct]:
        """{name: shape and dtype} of every variable, and of the adapters' arrays."""
        shapes = {name: variable.get_value() for name, variable in self.variables.items()}
        for kernel in self.adapters:
            for name, shape in adapter_shapes(kernel, shapes[kernel].shape, self.rank).items():
                shapes[name] = jax.ShapeDtypeStruct(shape, jnp.float32)
        return shapes

    @property
    def differentiated(self) -> frozenset[str]:
        """The variables whose gradients are computed: the trained ones, and the kernels that have adapters."""
        return frozenset(self.trainable) | frozenset(self.adapters)

    def merge(self, *parts: Flat) -> Champ:
        """The model with the arrays of `parts`, which together hold every trainable and frozen variable."""
        arrays = {name: array for part in parts for name, array in part.items()}
        for kernel, (down, up) in self.adapters.items():
            added = arrays[kernel] + jnp.tensordot(arrays[down], arrays[up], 1)
            if kernel in self.split:  # every device makes its piece
                added = jax.lax.with_sharding_constraint(added, self.split[kernel])
            arrays[kernel] = added.astype(self.dtype)
        state = []
        for name in sorted(set(self.variables) - set(self.unused)):
            if name in self.split:
                variable = SplitParam(arrays[name], pieces=self.split[name], whole_dtype=self.dtype)
            else:
                variable = self.variables[name].replace(arrays[name])
            state.append((path_of(name), variable))
        return self.network.bind(nnx.from_flat_state(state))
