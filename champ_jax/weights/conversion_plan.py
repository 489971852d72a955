"""What a conversion will do: where every tensor of the model comes from, checked before any is read."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.errors import InputError, listed
from champ_jax.models.champ import COMPONENTS, ChampConfig, build_component
from champ_jax.weights.architecture import read_architecture
from champ_jax.weights.checkpoint import Tree, is_floating
from champ_jax.weights.names import TensorName, files_of, is_optional, is_table
from champ_jax.weights.part_files import PartFile, read_part
from champ_jax.weights.pretrained_tree import PretrainedTree, find_files

NO_MOTION = "none"


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
    source: PartFile | None
    is_base: bool = False

    @property
    def parameters(self) -> int:
        """The number of values, tables excepted."""
        return sum(int(np.prod(name.shape)) for name in self.names.values() if not is_table(name.path))

    @property
    def untrained(self) -> str | None:
        """Where the values come from if no training of a Champ has seen them; None for those of a Champ."""
        return "initialized" if self.source is None else "Stable Diffusion" if self.is_base else None

    @property
    def origin(self) -> str:
        """In words, where the tensors come from."""
        if self.source is None:
            return "initialized"
        dtypes = sorted(set(self._dtypes().values()) - {"int64", "int32"})
        return f"{self.source.path} ({', '.join(dtypes)})"

    def record(self) -> dict[str, Any]:
        """How the file stored its tensors, for the way back: the commonest dtype, exceptions, tensors it lacked."""
        if self.source is None:
            return {"dtype": "float32"}
        dtypes = self._dtypes()
        common = max(sorted(set(dtypes.values())), key=list(dtypes.values()).count)
        record: dict[str, Any] = {"dtype": common}
        if others := {key: dtype for key, dtype in dtypes.items() if dtype != common}:
            record["exceptions"] = others
        if absent := [key for key in self.names if key not in dtypes]:
            record["absent"] = absent
        return record

    def problems(self) -> str | None:
        """The tensors that the file lacks, has too many or has in another shape, in words; None if all fit."""
        if self.source is None:
            return None
        infos, keys = self.source.infos, self.source.keys
        missing = [
            f"{key} is {self.source.others[key]}" if key in self.source.others else key
            for key in self.names
            if key not in infos and not is_optional(key)
        ]
        unexpected = [keys[key] for key in infos if key not in self.names]
        misshapen = [
            f"{keys[key]} is {_shape(infos[key].shape)}, the model has {_shape(name.shape)}"
            for key, name in self.names.items()
            if key in infos and not name.accepts(infos[key].shape)
        ]
        whole = [keys[key] for key in self.names if key in infos and not is_floating(infos[key].dtype)]
        mistyped = [key for key in whole if not is_table(self.names[key].path)] if whole else []
        kinds = {"missing": missing, "unexpected": unexpected, "misshapen": misshapen, "of whole numbers": mistyped}
        found = [f"{len(names)} {kind} ({listed(names)})" for kind, names in kinds.items() if names]
        return f"{self.source.path}: {', '.join(found)}" if found else None

    def _dtypes(self) -> dict[str, str]:
        """{key: dtype in the file}, empty without one."""
        infos = {} if self.source is None else self.source.infos
        return {key: infos[key].dtype.name for key in self.names if key in infos}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a conversion will do.

    Attributes:
      config: the model's sizes.
      parts: every file, in the order of COMPONENTS.
      notes: what was passed over, in words.
      inputs: the files that will be read.
    """

    config: ChampConfig
    parts: Sequence[Part]
    notes: Sequence[str]
    inputs: Sequence[Path]

    @property
    def untrained(self) -> dict[str, str]:
        """{part: where its values come from} of the parts that no training of a Champ has seen."""
        return {part.stem: part.untrained for part in self.parts if part.untrained is not None}

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
    _check_conditions(conditions)
    with_motion = motion_module is None or str(motion_module) != NO_MOTION
    motion_file = Path(motion_module) if motion_module is not None and with_motion else None
    tree = find_files(source, vae=vae, image_encoder=image_encoder, motion_module=motion_file)
    parts = [f"guidance_encoder_{condition}" for condition in conditions] + ["motion_module"] * with_motion
    paths = _choose_files(tree, parts, partial=partial or not tree.champ)
    files = {part: None if path is None else read_part(path, part) for part, path in paths.items()}
    config = read_architecture(tree, files, conditions, with_motion=with_motion)
    planned = []
    for component in COMPONENTS:
        for stem, names in files_of(component, abstract_state(component, config)).items():
            file = files[stem]
            limited = None if file is None else file.limited_to(names)
            is_base = stem.endswith("unet") and paths[stem] == tree.sd_unet
            planned.append(Part(component, stem, names, limited, is_base))
    if problems := [problem for part in planned if (problem := part.problems())]:
        raise InputError(f"the tensors do not fit the model. {' | '.join(problems)}")
    notes = list(dict.fromkeys(note for part in planned if part.source for note in part.source.notes()))
    notes += [
        f"{path}: passed over, not one of Champ's files or not asked for"
        for stem, path in tree.champ.items()
        if files.get(stem) is None
    ]
    return Plan(config, planned, notes, tree.files)


@functools.lru_cache(maxsize=4 * len(COMPONENTS))
def abstract_state(component: str, config: ChampConfig) -> Tree:
    """The component's state as a pure nested dict of ShapeDtypeStructs; takes no memory."""
    return nnx.to_pure_dict(nnx.state(build_component(component, config)))


def _check_conditions(conditions: Sequence[str]) -> None:
    if not conditions:
        raise InputError(f"--conditions: names none; choose from {', '.join(CONDITIONS)}")
    for condition in conditions:
        if condition not in CONDITIONS:
            raise InputError(f"--conditions={condition}: unknown; choose from {', '.join(CONDITIONS)}")
        if conditions.count(condition) > 1:
            raise InputError(f"--conditions: names {condition} twice")


def _choose_files(tree: PretrainedTree, parts: Sequence[str], *, partial: bool) -> dict[str, Path | None]:
    """{part: file} of the whole model; None for what is to be initialized.

    Args:
      tree: the files of the source.
      parts: the guidance encoders and the motion modules that the model will have.
      partial: take Stable Diffusion's UNet for Champ's that are missing, and initialize `parts` that are.

    Raises:
      InputError: names all files that are missing.
    """
    champ = dict(tree.champ)
    if tree.motion_module is not None:
        champ["motion_module"] = tree.motion_module
    missing = []
    if tree.vae is None:
        missing.append("sd-vae-ft-mse/diffusion_pytorch_model.safetensors (or --vae=FOLDER)")
    if tree.image_encoder is None or tree.image_encoder_config is None:
        lacks = "config.json" if tree.image_encoder else "pytorch_model.bin"
        missing.append(f"image_encoder/{lacks} (or --image_encoder=FOLDER)")
    lacking = [part for part in ("reference_unet", "denoising_unet", *parts) if part not in champ]
    if not partial:
        missing += [f"champ/{part}.pth" for part in lacking]
    elif tree.sd_unet is None and {"reference_unet", "denoising_unet"} & set(lacking):
        missing.append("stable-diffusion-v1-5/unet/diffusion_pytorch_model.safetensors")
    if missing:
        hint = "" if partial or not lacking else "; --partial initializes Champ's own networks where it can"
        raise InputError(f"{tree.root}: lacks {', '.join(missing)}{hint}")
    unets = {part: champ.get(part, tree.sd_unet) for part in ("reference_unet", "denoising_unet")}
    return {"vae": tree.vae, "image_encoder": tree.image_encoder, **unets, **{part: champ.get(part) for part in parts}}


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"
