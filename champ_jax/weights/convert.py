"""Users' files -> a checkpoint directory. First all headers are checked against the networks, then tensors are moved.

Every component is read, written and dropped in turn, tensor by tensor: memory holds one component and one file.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx
from tqdm import tqdm

from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.errors import InputError
from champ_jax.common.limits import require_space
from champ_jax.models.champ import COMPONENTS, ChampConfig, build_component
from champ_jax.models.clip import CLIPVisionConfig
from champ_jax.models.guidance import GuidanceConfig
from champ_jax.models.initial_values import initial_value
from champ_jax.models.motion_module import MotionConfig
from champ_jax.models.unet import UNetConfig
from champ_jax.models.vae import VAEConfig
from champ_jax.weights import shapes
from champ_jax.weights.checkpoint import DTYPES, Tree, checkpoint_writer
from champ_jax.weights.names import TensorName, files_of, is_optional, is_table, unflatten
from champ_jax.weights.pretrained_files import Layout, Source, find_files, read_json, read_source
from champ_jax.weights.tensor_files import open_tensors

NO_MOTION = "none"
# What a Stable Diffusion UNet has and the ReferenceNet has not: the bank is its output.
_REFERENCE_DROPS = dict.fromkeys(("conv_norm_out.", "conv_out."), "output layer, which a ReferenceNet has not")
# A whole CLIP serves as image encoder; its text half has no place.
_CLIP_DROPS = dict.fromkeys(("text_model.", "text_projection.", "logit_scale"), "text half of CLIP")


@dataclasses.dataclass(frozen=True)
class Part:
    """One file of the users' tree within a component, and where its tensors come from.

    Attributes:
      component: the network it belongs to.
      stem: the file's name in the users' tree, without suffix ('motion_module', 'guidance_encoder_depth', ...).
      names: {key: TensorName}, all of its tensors.
      source: the file, or None where the tensors are initialized.
      is_base: whether the file is Stable Diffusion's UNet, in place of one that was trained as part of a Champ.
    """

    component: str
    stem: str
    names: Mapping[str, TensorName]
    source: Source | None
    is_base: bool = False

    @property
    def parameters(self) -> int:
        return sum(int(np.prod(name.shape)) for name in self.names.values() if not is_table(name.path))

    @property
    def dtypes(self) -> dict[str, str]:
        """{key: dtype in the file}."""
        return {key: self.source.infos[key].dtype.name for key in self.names if key in self.source.infos}

    @property
    def untrained(self) -> str | None:
        """Where the values come from if no training of a Champ has seen them; None for those of a Champ."""
        return "initialized" if self.source is None else "Stable Diffusion" if self.is_base else None

    @property
    def origin(self) -> str:
        """In words, where the tensors come from."""
        if self.source is None:
            return "initialized"
        dtypes = sorted(set(self.dtypes.values()) - {"int64", "int32"})
        return f"{self.source.path} ({', '.join(dtypes)})"

    def record(self) -> dict[str, Any]:
        """How the file stored its tensors, for the way back: the commonest dtype, exceptions, tensors it lacked."""
        if self.source is None:
            return {"dtype": "float32"}
        dtypes = self.dtypes
        common = max(sorted(set(dtypes.values())), key=list(dtypes.values()).count)
        record: dict[str, Any] = {"dtype": common}
        if others := {key: dtype for key, dtype in dtypes.items() if dtype != common}:
            record["exceptions"] = others
        if absent := [key for key in self.names if key not in dtypes]:
            record["absent"] = absent
        return record


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a conversion will do.

    Attributes:
      config: the model's sizes.
      parts: every file, in the order of COMPONENTS.
      notes: what was passed over, in words.
    """

    config: ChampConfig
    parts: Sequence[Part]
    notes: Sequence[str]

    def table(self) -> str:
        """A line for each part: tensors, parameters, origin; then the notes."""
        rows = [("part", "tensors", "parameters", "from")]
        rows += [(part.stem, str(len(part.names)), f"{part.parameters:,}", part.origin) for part in self.parts]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        lines = [
            f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}".rstrip() for row in rows
        ]
        if self.untrained:
            lines.append(
                f"never trained as a Champ: {', '.join(self.untrained)}. These weights are a start for training; "
                "animate refuses them unless --config.untrained=true"
            )
        return "\n".join([*lines, *self.notes])

    @property
    def untrained(self) -> dict[str, str]:
        """{part: where its values come from} of the parts that no training of a Champ has seen."""
        return {part.stem: part.untrained for part in self.parts if part.untrained is not None}


def convert(
    source: str | Path,
    output: str | Path,
    *,
    dtype: str = "float32",
    conditions: Sequence[str] = CONDITIONS,
    partial: bool = False,
    vae: str | Path | None = None,
    image_encoder: str | Path | None = None,
    motion_module: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Plan:
    """Converts the weights users have to a checkpoint directory.

    Args:
      source: Champ's `pretrained_models/` tree; or a Stable Diffusion 1.5 folder or single file, to start training:
        ReferenceNet and denoiser are then both its UNet, the guidance encoders (and the motion modules, if none are
        given) are initialized, their last layers with zeros.
      output: the directory to write or replace.
      dtype: 'float32' or 'bfloat16', of the arrays written.
      conditions: the guidance encoders to have.
      partial: fill what a `pretrained_models/` tree lacks as for Stable Diffusion alone.
      vae: a folder or file with the VAE, if it is not the source's.
      image_encoder: a folder with the image encoder, if it is not the source's.
      motion_module: a file with motion modules (AnimateDiff's), if it is not the source's; 'none' leaves them out.
      seed: of the initialisation.
      progress: show a progress bar.

    Raises:
      InputError: a file is missing or unreadable; tensors are missing, unexpected or misshapen (names them all).
    """
    if dtype not in DTYPES:
        raise InputError(f"--dtype={dtype}: choose {' or '.join(DTYPES)}")
    plan = make_plan(
        Path(source),
        conditions=conditions,
        partial=partial,
        vae=None if vae is None else Path(vae),
        image_encoder=None if image_encoder is None else Path(image_encoder),
        motion_module=motion_module,
    )
    sizes = {part.stem: sum(_nbytes(name, dtype) for name in part.names.values()) for part in plan.parts}
    require_space(output, int(1.05 * sum(sizes.values())))
    with (
        checkpoint_writer(output) as writer,
        tqdm(total=sum(sizes.values()), unit="B", unit_scale=True, disable=not progress) as bar,
    ):
        for component in COMPONENTS:
            bar.set_description(component)
            parts = [part for part in plan.parts if part.component == component]
            leaves = [leaf for part in parts for leaf in _read(part, dtype, seed, bar.update)]
            writer.add(component, unflatten(leaves))
            del leaves  # one component in memory at a time
        writer.finish(plan.config.to_json(), {part.stem: part.record() for part in plan.parts}, plan.untrained)
    return plan


def make_plan(
    source: Path,
    *,
    conditions: Sequence[str],
    partial: bool,
    vae: Path | None,
    image_encoder: Path | None,
    motion_module: str | Path | None,
) -> Plan:
    """Finds and checks every file, reading headers only. Arguments and errors as in `convert`."""
    without_motion = motion_module is not None and str(motion_module) == NO_MOTION
    motion_file = None if motion_module is None or without_motion else Path(motion_module)
    layout = find_files(source, vae=vae, image_encoder=image_encoder, motion_module=motion_file)
    found = _sources(layout, conditions, partial or not layout.champ, without_motion)
    config = _config(layout, found, conditions, without_motion)
    parts = []
    for component in COMPONENTS:
        for stem, names in files_of(component, abstract_state(component, config)).items():
            source = found[stem]
            is_base = stem.endswith("unet") and source is not None and source.path == layout.sd_unet
            parts.append(Part(component, stem, names, source, is_base))
    _check(parts)
    notes = [
        f"{source.path}: {count} tensors passed over ({word})"
        for source in {id(s): s for s in found.values() if s is not None}.values()
        for word, count in source.aside.items()
    ]
    notes += [
        f"{path}: passed over, it is none of Champ's files or not asked for"
        for stem, path in layout.champ.items()
        if found.get(stem) is None
    ]
    return Plan(config, parts, notes)


@functools.lru_cache(maxsize=4 * len(COMPONENTS))  # tracing takes seconds
def abstract_state(component: str, config: ChampConfig) -> Tree:
    """The component's state as a pure nested dict of ShapeDtypeStructs; takes no memory."""
    return nnx.to_pure_dict(nnx.state(build_component(component, config)))


def _sources(
    layout: Layout, conditions: Sequence[str], partial: bool, without_motion: bool
) -> dict[str, Source | None]:
    """{stem: Source}; None for what is to be initialized. Names all files that are missing."""
    for condition in conditions:
        if condition not in CONDITIONS:
            raise InputError(f"--conditions={condition}: unknown; choose from {', '.join(CONDITIONS)}")
    missing = []
    if layout.vae is None:
        missing.append("sd-vae-ft-mse/diffusion_pytorch_model.safetensors (or --vae=FOLDER)")
    if layout.image_encoder is None or layout.image_encoder_config is None:
        lacks = "config.json" if layout.image_encoder else "pytorch_model.bin"
        missing.append(f"image_encoder/{lacks} (or --image_encoder=FOLDER)")
    champ = dict(layout.champ)
    if layout.motion_module is not None:
        champ["motion_module"] = layout.motion_module
    elif without_motion:
        champ.pop("motion_module", None)
    stems = ["reference_unet", "denoising_unet", *(f"guidance_encoder_{condition}" for condition in conditions)]
    if not without_motion:
        stems.append("motion_module")
    lacking = [stem for stem in stems if stem not in champ]
    if partial:
        if {"reference_unet", "denoising_unet"} & set(lacking) and layout.sd_unet is None:
            missing.append("stable-diffusion-v1-5/unet/diffusion_pytorch_model.safetensors")
    else:
        missing += [f"champ/{stem}.pth" for stem in lacking]
    if missing:
        hint = "" if partial or not lacking else "; --partial initializes Champ's own networks where it can"
        raise InputError(f"{layout.root}: lacks {', '.join(missing)}{hint}")

    found: dict[str, Source | None] = {
        "vae": read_source(layout.vae, "vae"),
        "image_encoder": read_source(layout.image_encoder, "image_encoder").without(_CLIP_DROPS),
    }
    for stem in stems:
        kind = "unet" if stem.endswith("unet") else "guidance" if stem.startswith("guidance") else stem
        if stem in champ:
            found[stem] = read_source(champ[stem], kind)
        elif kind == "unet":
            found[stem] = read_source(layout.sd_unet, kind)
            if stem == "reference_unet":
                found[stem] = found[stem].without(_REFERENCE_DROPS)
        else:
            found[stem] = None
    return found


def _config(
    layout: Layout, found: Mapping[str, Source | None], conditions: Sequence[str], without_motion: bool
) -> ChampConfig:
    """The model's sizes, from the config.json files and the tensors' shapes."""

    def sized(stem: str, read: Callable[[shapes.Shapes], dict[str, Any]]) -> dict[str, Any]:
        try:
            return read(found[stem].shapes)
        except (KeyError, StopIteration, IndexError) as error:
            lacks = f": it lacks {error}" if isinstance(error, KeyError) else ""
            raise InputError(f"{found[stem].path}: is no {stem.replace('_', ' ')}{lacks}") from error

    def parse(path: Path, read: Callable[[Mapping[str, Any]], Any]) -> Any:
        try:
            return read(read_json(path))
        except InputError as error:
            raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
        except (TypeError, ValueError, KeyError) as error:
            raise InputError(f"{path}: has a field of the wrong type ({error})") from error

    if layout.unet_config is not None:
        unet = parse(layout.unet_config, UNetConfig.from_json)
    else:
        unet = UNetConfig.from_json(sized("denoising_unet", shapes.unet_fields))
    if layout.vae_config is not None:
        vae = parse(layout.vae_config, VAEConfig.from_json)
    else:
        vae = VAEConfig.from_json(sized("vae", shapes.vae_fields))
    motion = None
    if not without_motion:
        motion = MotionConfig()
        if found["motion_module"] is not None:
            motion = MotionConfig(**sized("motion_module", shapes.motion_fields))
    encoders = [stem for stem in found if stem.startswith("guidance_encoder_") and found[stem] is not None]
    guidance = GuidanceConfig(out_channels=unet.block_out_channels[0])
    if encoders:
        # One that lacks what sizes are read from is measured by the others, and reported with all its faults.
        measured = []
        for stem in encoders:
            with contextlib.suppress(InputError):
                measured.append(GuidanceConfig(**_tuples(sized(stem, shapes.guidance_fields))))
        guidance = shapes.commonest(measured or [sized(encoders[0], shapes.guidance_fields)])
    return ChampConfig(
        unet=unet,
        motion=motion,
        guidance=guidance,
        vae=vae,
        image_encoder=parse(layout.image_encoder_config, CLIPVisionConfig.from_json),
        conditions=tuple(conditions),
    )


def _tuples(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}


def _check(parts: Sequence[Part]) -> None:
    """Raises InputError that names every missing, unexpected and misshapen tensor of every file."""
    reports = []
    for part in parts:
        if part.source is None:
            continue
        infos, names = part.source.infos, part.names
        missing = [key for key in names if key not in infos and not is_optional(key)]
        unexpected = [part.source.keys[key] for key in infos if key not in names]
        misshapen = [
            f"{part.source.keys[key]} is {_shape(infos[key].shape)}, the model has {_shape(name.shape)}"
            for key, name in names.items()
            if key in infos and not name.accepts(infos[key].shape)
        ]
        problems = [
            f"{len(keys)} {word} ({sign.join(keys)})"
            for word, sign, keys in (
                ("missing", ", ", missing),
                ("unexpected", ", ", unexpected),
                ("misshapen", "; ", misshapen),
            )
            if keys
        ]
        if problems:
            reports.append(f"{part.source.path}: {', '.join(problems)}")
    if reports:
        raise InputError(f"the tensors do not fit the model. {' | '.join(reports)}")


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"


def _nbytes(name: TensorName, dtype: str) -> int:
    return int(np.prod(name.shape)) * (4 if name.path[-1] == "position_ids" else DTYPES[dtype].itemsize)


def _read(
    part: Part, dtype: str, seed: int, advance: Callable[[int], Any]
) -> Iterator[tuple[tuple[Any, ...], np.ndarray]]:
    """(path, array) of every tensor of a part."""

    def counted(array: np.ndarray) -> np.ndarray:
        advance(array.nbytes)
        return array

    if part.source is None:
        for name in part.names.values():
            place = ".".join(map(str, (part.component, *name.path)))
            yield name.path, counted(initial_value(place, name.flax_shape, seed).astype(DTYPES[dtype]))
        return
    with open_tensors(part.source.path) as file:
        for key, name in part.names.items():
            if is_table(name.path) and key not in part.source.infos:
                yield name.path, counted(np.arange(name.shape[-1], dtype=np.int32).reshape(name.flax_shape))
                continue
            index = part.source.infos[key].dtype.kind == "i"  # JAX holds 32-bit integers
            array = name.to_flax(file.read(part.source.keys[key]), np.int32 if index else DTYPES[dtype])
            yield name.path, counted(array)
