"""LoRA files (Hu et al. 2021) added to weights: W += scale * alpha / rank * up @ down.

    FILE[:SCALE],reference:FILE[:SCALE],...

FILE is a .safetensors file or one that PyTorch saved, in any naming of `champ_jax.weights.lora_names`, or a folder that
PEFT saved. alpha is the file's own, else that of PEFT's settings (adapter_config.json beside an adapter_model file, or
diffusers' metadata in the file), else the rank.
"""

import dataclasses
import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from champ_jax.common.errors import InputError, listed
from champ_jax.common.files import find_type, parse_json, read_json
from champ_jax.common.ranges import Number
from champ_jax.models.champ import ChampConfig
from champ_jax.weights.adapters import product
from champ_jax.weights.checkpoint import Tree, is_floating
from champ_jax.weights.conversion_plan import abstract_state
from champ_jax.weights.lora_names import ALPHA, DOWN, UP, Modules, belongs_to_text_encoder, is_dora
from champ_jax.weights.names import Path as ParameterPath
from champ_jax.weights.names import TensorName, canonical, tensor_names
from champ_jax.weights.opening import Weights
from champ_jax.weights.tensor_files import TensorFile, open_tensors

PEFT_SETTINGS = "adapter_config.json"
PEFT_FILES = ("adapter_model.safetensors", "adapter_model.bin")
_REFERENCE = "reference:"
_DIFFUSERS_SETTINGS = "lora_adapter_metadata"
_SCALE = Number(minimum=-100, maximum=100)
_ALPHA = Number(minimum=0, maximum=1e6)
# PEFT's initializations that change the weights the adapter is added to: beside others it means nothing.
_CHANGE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclasses.dataclass(frozen=True)
class Asked:
    """One file of `--config.lora`.

    Attributes:
      path: the file, or PEFT's folder.
      component: the network it is added to, 'denoising_unet' or 'reference_unet'.
      scale: how much of it.
    """

    path: Path
    component: str
    scale: float


@dataclasses.dataclass(frozen=True)
class Pair:
    """The two factors of one product.

    Attributes:
      name: the tensor that the product is added to.
      down, up: their keys in the file.
      factor: what the product is multiplied with: scale * alpha / rank.
    """

    name: TensorName
    down: str
    up: str
    factor: float

    def product(self, file: TensorFile) -> np.ndarray:
        """What is added to the parameter, float32, as Flax holds it; raises InputError if it is not finite."""
        down, up = (file.read(key).astype(np.float32) for key in (self.down, self.up))
        found = product(self.name, down, up, self.factor)
        if not np.isfinite(found).all():
            raise InputError(
                f"{file.path}: {self.up} @ {self.down} holds NaN or infinite numbers; download the file again"
            )
        return found


@dataclasses.dataclass(frozen=True)
class LoraFile:
    """A LoRA file that fits its network; its arrays are read by `products`.

    Attributes:
      path: the file.
      component: the network it is added to.
      pairs: its products.
      identity: a hash that no other file, network or scale has.
      notes: what was passed over, in words.
    """

    path: Path
    component: str
    pairs: Sequence[Pair]
    identity: str
    notes: Sequence[str]

    def products(self) -> Iterator[tuple[ParameterPath, np.ndarray]]:
        """(path of the parameter, what is added to it), one at a time."""
        with open_tensors(self.path) as file:
            for pair in self.pairs:
                yield pair.name.path, pair.product(file)


def parse_lora(text: str) -> list[Asked]:
    """What `--config.lora` asks for; raises InputError for an item without a file or with a scale that is none."""
    return [_parse_item(item.strip()) for item in text.split(",")] if text.strip() else []


def _parse_item(item: str) -> Asked:
    component, rest = "denoising_unet", item
    if item.startswith(_REFERENCE):
        component, rest = "reference_unet", item.removeprefix(_REFERENCE)
    path, colon, number = rest.rpartition(":")
    if not colon or find_type(rest) is not None:
        path, number = rest, "1"
    if not path:
        raise InputError(f"lora={item}: names no file; write FILE or FILE:SCALE, several separated by commas")
    try:
        scale = float(number)
    except ValueError:
        raise InputError(f"lora={item}: {number} is not a scale; write FILE:SCALE, for example {path}:0.8") from None
    _SCALE.check(f"lora={item}: scale", scale)
    return Asked(Path(path), component, scale)


def with_lora(weights: Weights, text: str) -> tuple[Weights, list[str]]:
    """Weights to which LoRA files are added, in order, when their arrays are read.

    Args:
      weights: what they are added to; it stays as it is.
      text: the files, as the module says; '' for none.

    Returns:
      The weights, whose identity the files, scales and networks are part of; and what was passed over, in words.

    Raises:
      InputError: names the item, file, key and shapes that are wrong.
    """
    files = [open_lora(asked, weights.model) for asked in parse_lora(text)]
    if not files:
        return weights, []

    def change(component: str, tree: Tree) -> Tree:
        for file in files:
            if file.component == component:
                add_to(tree, file)
        return tree

    altered = weights.altered(
        change,
        components={file.component for file in files},
        identity="".join(f"+{file.identity}" for file in files),
        files=[file.path for file in files],
    )
    return altered, [note for file in files for note in file.notes]


def add_to(tree: Tree, file: LoraFile) -> None:
    """Adds a file's products to a component's arrays; those it changes become float32, computed in float32."""
    for path, added in file.products():
        node = tree
        for name in path[:-1]:
            node = node[name]
        node[path[-1]] = node[path[-1]].astype(np.float32) + added


def modules_of(component: str, model: ChampConfig) -> Modules:
    """The modules of a UNet that a LoRA may change."""
    names = tensor_names(abstract_state(component, model))
    return Modules(names.values(), model.unet.layers_per_block + 1)


def open_lora(asked: Asked, model: ChampConfig) -> LoraFile:
    """Finds every tensor of a LoRA file its place, reading no more than the scalars.

    Raises:
      InputError: no such file, or no weights; a key that no naming has, or that the network has no module for; one of
        the two factors is missing; the shapes are another network's; DoRA.
    """
    path = _file_of(asked.path)
    modules = modules_of(asked.component, model)
    network = "ReferenceNet" if asked.component == "reference_unet" else "denoiser"
    with open_tensors(path) as file:
        found, ignored = _places(file, modules, network)
        settings = _Settings.of(file)
        pairs = [_pair(file, modules.names[module], parts, asked.scale, settings) for module, parts in found.items()]
    if not pairs:
        why = " but for the text encoder, which Champ has not" if ignored else ""
        raise InputError(f"{path}: holds no LoRA{why}")
    notes = [f"{path}: {len(ignored)} tensors passed over (text encoder): {listed(ignored)}"] if ignored else []
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    identity = f"lora-{asked.component}-{asked.scale:g}-{settings.identity}{digest}"
    return LoraFile(path, asked.component, pairs, identity, notes)


def _file_of(path: Path) -> Path:
    """The file of tensors: `path` itself, or the one in PEFT's folder."""
    if find_type(path) != "folder":
        return path
    found = next((path / name for name in PEFT_FILES if os.path.lexists(path / name)), None)
    if found is None:
        raise InputError(f"{path}: is a folder without {PEFT_FILES[0]} (PEFT's); name a LoRA file")
    return found


def _places(file: TensorFile, modules: Modules, network: str) -> tuple[dict[str, dict[str, str]], list[str]]:
    """{module: {part: key in the file}}, and the keys that belong to the text encoder."""
    found: dict[str, dict[str, str]] = {}
    ignored, unknown = [], []
    for key in [*file.tensors, *file.others]:
        if belongs_to_text_encoder(key):
            ignored.append(key)
        elif is_dora(key):
            raise InputError(f"{file.path}: {key} is DoRA's, which is not supported; take a LoRA without magnitudes")
        elif key in file.others:
            raise InputError(f"{file.path}: {key} is {file.others[key]}, not a tensor of a LoRA")
        elif (place := modules.place(key)) is None:
            unknown.append(key)
        else:
            parts = found.setdefault(place.module, {})
            if place.part in parts:
                raise InputError(f"{file.path}: {parts[place.part]} and {key} are two tensors for {place.module}")
            parts[place.part] = key
    if unknown:
        raise InputError(
            f"{file.path}: {listed(unknown)}: in no known naming of a LoRA, or without a place in the {network}"
        )
    return found, ignored


def _pair(file: TensorFile, name: TensorName, parts: Mapping[str, str], scale: float, settings: "_Settings") -> Pair:
    """The product that the tensors of one module make."""
    for part, other in ((DOWN, UP), (UP, DOWN)):
        if part not in parts:
            there = parts.get(other) or parts[ALPHA]
            raise InputError(f"{file.path}: {there} has no {part} factor beside it; download the file again")
    down, up = file.tensors[parts[DOWN]], file.tensors[parts[UP]]
    fits = (
        len(down.shape) in (2, 4)
        and len(up.shape) in (2, 4)
        and math.prod(up.shape[2:]) == 1
        and down.shape[0] == up.shape[1] > 0
        and name.accepts((up.shape[0], *down.shape[1:]))
    )
    if not fits:
        raise InputError(
            f"{file.path}: {parts[DOWN]} is {down.shape} and {parts[UP]} is {up.shape}, which do not make the "
            f"{name.shape} of {name.key}; the LoRA is for another network"
        )
    for key in (parts[DOWN], parts[UP]):
        if not is_floating(file.tensors[key].dtype):
            raise InputError(f"{file.path}: {key} holds whole numbers ({file.tensors[key].dtype})")
    rank = down.shape[0]
    if ALPHA not in parts:
        return Pair(name, parts[DOWN], parts[UP], scale * settings.factor(name.key, rank))
    key = parts[ALPHA]
    if math.prod(file.tensors[key].shape) != 1:
        raise InputError(f"{file.path}: {key} is {file.tensors[key].shape}, an alpha is one number")
    alpha = float(file.read(key).reshape(()))
    _ALPHA.check(f"{file.path}: {key}", alpha)
    return Pair(name, parts[DOWN], parts[UP], scale * alpha / rank)


@dataclasses.dataclass(frozen=True)
class _Settings:
    """What PEFT's settings say of the factor of a product.

    Attributes:
      alpha: of every module; None: its rank.
      of_modules: {module's name or the end of it: alpha}.
      by_root: whether alpha is divided by the root of the rank (Kalajdzievski 2023, rank-stabilized LoRA).
    """

    alpha: float | None = None
    of_modules: Mapping[str, float] = dataclasses.field(default_factory=dict)
    by_root: bool = False

    @classmethod
    def of(cls, file: TensorFile) -> "_Settings":
        """From the adapter_config.json beside the file, or diffusers' metadata in it; raises InputError."""
        beside = file.path.with_name(PEFT_SETTINGS)
        if file.path.name in PEFT_FILES and os.path.lexists(beside):
            return cls._read(read_json(beside), str(beside))
        if text := file.metadata.get(_DIFFUSERS_SETTINGS):
            where = f"{file.path}: {_DIFFUSERS_SETTINGS}"
            fields = parse_json(text, where)
            if isinstance(fields, dict):
                fields = {name.removeprefix("unet."): value for name, value in fields.items() if name[:5] == "unet."}
            return cls._read(fields, where) if fields else cls()
        return cls()

    @classmethod
    def _read(cls, fields: Any, where: str) -> "_Settings":
        if not isinstance(fields, dict):
            raise InputError(f"{where}: is not an object of PEFT's settings")
        if fields.get("peft_type", "LORA") != "LORA":
            raise InputError(f"{where}: peft_type={fields['peft_type']}, only LORA is supported")
        if fields.get("use_dora"):
            raise InputError(f"{where}: use_dora is set; DoRA is not supported")
        start = fields.get("init_lora_weights", True)
        if isinstance(start, str) and start.lower().startswith(_CHANGE_BASE):
            raise InputError(
                f"{where}: init_lora_weights={start} changes the weights the adapter belongs to; convert it to a plain "
                "LoRA with PEFT (path_initial_model_for_weight_conversion)"
            )
        of_modules = fields.get("alpha_pattern") or {}
        if not isinstance(of_modules, dict):
            raise InputError(f"{where}: alpha_pattern is not an object")
        alphas = {f"alpha_pattern.{name}": value for name, value in of_modules.items()}
        if fields.get("lora_alpha") is not None:
            alphas["lora_alpha"] = fields["lora_alpha"]
        for name, value in alphas.items():
            _ALPHA.check(f"{where}: {name}", value)
        canonized = {canonical(f"{name}.").rstrip("."): float(value) for name, value in of_modules.items()}
        return cls(alphas.get("lora_alpha"), canonized, bool(fields.get("use_rslora")))

    def factor(self, key: str, rank: int) -> float:
        """What the product for the tensor `key` is multiplied with."""
        module = f".{key.removesuffix('.weight')}"
        alpha = next((value for name, value in self.of_modules.items() if module.endswith(f".{name}")), self.alpha)
        return 1.0 if alpha is None else alpha / (math.sqrt(rank) if self.by_root else rank)

    @property
    def identity(self) -> str:
        """Tells settings apart; '' for none."""
        if self == _Settings():
            return ""
        text = repr((self.alpha, sorted(self.of_modules.items()), self.by_root))
        return f"{hashlib.sha256(text.encode()).hexdigest()[:16]}-"
