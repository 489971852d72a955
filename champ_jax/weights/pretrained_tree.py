"""Where the weights are in what users have: Champ's `pretrained_models/` tree, Stable Diffusion's folder or file."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from champ_jax.common.errors import InputError
from champ_jax.weights import ldm
from champ_jax.weights.names import canonical
from champ_jax.weights.tensor_files import TensorInfo, open_tensors

SUFFIXES = (".safetensors", ".pth", ".bin", ".ckpt", ".pt")
_VAE = "sd-vae-ft-mse"
_IMAGE_ENCODER = "image_encoder"
_SD = "stable-diffusion-v1-5"
_DIFFUSERS = "diffusion_pytorch_model"


@dataclasses.dataclass(frozen=True)
class Source:
    """The tensors that one file (or a part of it) offers, under today's PyTorch keys.

    Attributes:
      path: of the file.
      keys: {key: key in the file}.
      infos: {key: TensorInfo}.
      aside: what else the file holds, in words, and how many tensors of it.
    """

    path: Path
    keys: Mapping[str, str]
    infos: Mapping[str, TensorInfo]
    aside: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {key: info.shape for key, info in self.infos.items()}

    def without(self, prefixes: Mapping[str, str]) -> "Source":
        """Leaves out the keys that begin with one of `prefixes` ({prefix: what they are, in words})."""
        aside = dict(self.aside)
        kept = {}
        for key, original in self.keys.items():
            word = next((word for prefix, word in prefixes.items() if key.startswith(prefix)), None)
            if word is None:
                kept[key] = original
            else:
                aside[word] = aside.get(word, 0) + 1
        return Source(self.path, kept, {key: self.infos[key] for key in kept}, aside)


def read_source(path: Path, part: str) -> Source:
    """What `path` offers as `part`: 'unet', 'vae', 'image_encoder', 'motion_module' or 'guidance'.

    Raises:
      InputError: as `open_tensors`, or two tensors of the file have one name.
    """
    with open_tensors(path) as file:
        infos = file.tensors
    aside: dict[str, int] = {}
    if ldm.is_ldm(infos):
        names = _ldm_part(path, infos, part, aside)
    elif part == "vae" and any(key.startswith("encoder.down.") for key in infos):
        names = ldm.vae_names(infos)  # a VAE alone, in LDM's names
    else:
        names = {key: key for key in infos}
    keys: dict[str, str] = {}
    for name, original in names.items():
        key = canonical(name)
        if key in keys:
            raise InputError(f"{path}: {keys[key]} and {original} are two tensors for {key}")
        keys[key] = original
    return Source(path, keys, {key: infos[original] for key, original in keys.items()}, aside)


def _ldm_part(path: Path, infos: Mapping[str, TensorInfo], part: str, aside: dict[str, int]) -> dict[str, str]:
    """{diffusers' key: key in the file}; counts in `aside` what has no place in Champ."""
    places = {"unet": (ldm.UNET_PREFIX, ldm.unet_names), "vae": (ldm.VAE_PREFIX, ldm.vae_names)}
    if part not in places:
        raise InputError(f"{path}: is a Stable Diffusion file, it holds no {part.replace('_', ' ')}")
    prefix, rename = places[part]
    inner = rename(key.removeprefix(prefix) for key in infos if key.startswith(prefix))
    names = {name: prefix + key for name, key in inner.items()}
    if part == "unet":  # once is enough
        for key in infos:
            word = ldm.other_part(key)
            if word is not None:
                aside[word] = aside.get(word, 0) + 1
            elif not key.startswith((ldm.UNET_PREFIX, ldm.VAE_PREFIX)):
                names[key] = key  # of no known kind: the UNet will report it as unexpected
    return names


@dataclasses.dataclass(frozen=True)
class Layout:
    """The files of a source; None where there is none.

    Attributes:
      champ: {stem: file} of Champ's own networks.
      sd_unet: Stable Diffusion's UNet, or its single file.
      unet_config: the UNet's config.json.
      vae: the VAE's file.
      vae_config: its config.json.
      image_encoder: the image encoder's file.
      image_encoder_config: its config.json.
      motion_module: motion modules given apart from the tree.
      root: what was asked for.
    """

    root: Path
    champ: Mapping[str, Path]
    sd_unet: Path | None
    unet_config: Path | None
    vae: Path | None
    vae_config: Path | None
    image_encoder: Path | None
    image_encoder_config: Path | None
    motion_module: Path | None


def find_files(
    source: Path,
    *,
    vae: Path | None = None,
    image_encoder: Path | None = None,
    motion_module: Path | None = None,
) -> Layout:
    """Looks for the files of `source`.

    Args:
      source: a `pretrained_models/` tree, a Stable Diffusion 1.5 folder of diffusers (unet/, vae/), or a single
        Stable Diffusion file.
      vae: a folder or file to take in place of the source's.
      image_encoder: likewise.
      motion_module: a file (AnimateDiff's, for example) to take in place of the source's.

    Raises:
      InputError: one of the given paths does not exist.
    """
    for path in (source, vae, image_encoder, motion_module):
        if path is not None and not path.exists():
            raise InputError(f"{path}: no such file or folder")
    champ: dict[str, Path] = {}
    sd_unet = unet_config = vae_folder = image_folder = None
    if source.is_file():
        sd_unet = source
        vae_folder = source
    else:
        champ = {
            file.stem: file for suffix in reversed(SUFFIXES) for file in sorted((source / "champ").glob(f"*{suffix}"))
        }
        unet_folder = source / "unet" if (source / "unet").is_dir() else source / _SD / "unet"
        sd_unet = _weights_in(unet_folder, (_DIFFUSERS, f"{_DIFFUSERS}.fp16"))
        unet_config = _config_in(unet_folder)
        vae_folder = source / "vae" if (source / "unet").is_dir() else source / _VAE
        image_folder = source / _IMAGE_ENCODER
    vae_folder, image_folder = vae or vae_folder, image_encoder or image_folder
    return Layout(
        root=source,
        champ=champ,
        sd_unet=sd_unet,
        unet_config=unet_config,
        vae=_weights_in(vae_folder, (_DIFFUSERS, f"{_DIFFUSERS}.fp16")),
        vae_config=None if vae_folder == source else _config_in(vae_folder),
        image_encoder=_weights_in(image_folder, ("model", "pytorch_model")),
        image_encoder_config=_config_in(image_folder),
        motion_module=motion_module,
    )


def _weights_in(place: Path | None, stems: Sequence[str]) -> Path | None:
    if place is None or place.is_file():
        return place
    candidates = (place / f"{stem}{suffix}" for suffix in SUFFIXES for stem in stems)
    return next((path for path in candidates if path.is_file()), None)


def _config_in(place: Path | None) -> Path | None:
    if place is None:
        return None
    config = (place.parent if place.is_file() else place) / "config.json"
    return config if config.is_file() else None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; raises InputError if it is none."""
    try:
        fields = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: is not JSON ({error}); fetch it again") from error
    if not isinstance(fields, dict):
        raise InputError(f"{path}: holds no JSON object; fetch it again")
    return fields
