"""Where the weights are in what users have: Champ's `pretrained_models/` tree, Stable Diffusion's folder or file."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from champ_jax.common.errors import InputError, listed
from champ_jax.common.files import find_type, reason

SUFFIXES = (".safetensors", ".pth", ".bin", ".ckpt", ".pt")
_VAE = "sd-vae-ft-mse"
_IMAGE_ENCODER = "image_encoder"
_SD = "stable-diffusion-v1-5"
_DIFFUSERS = ("diffusion_pytorch_model", "diffusion_pytorch_model.fp16")
_TRANSFORMERS = ("model", "pytorch_model", "model.fp16", "pytorch_model.fp16")
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z", ".rar")
_MOST_ENTRIES = 1000  # entries of a folder that are examined to describe it


@dataclasses.dataclass(frozen=True)
class PretrainedTree:
    """The files of a source; None where there is none.

    Attributes:
      root: what was asked for.
      champ: {stem: file} of Champ's own networks.
      sd_unet: Stable Diffusion's UNet, or its single file.
      unet_config: the UNet's config.json.
      vae: the VAE's file.
      vae_config: its config.json.
      image_encoder: the image encoder's file.
      image_encoder_config: its config.json.
      motion_module: motion modules given apart from the tree.
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

    @property
    def files(self) -> list[Path]:
        """All of them."""
        base = (self.sd_unet, self.unet_config, self.vae, self.vae_config)
        places = (*base, self.image_encoder, self.image_encoder_config, self.motion_module)
        return [*self.champ.values(), *(place for place in places if place is not None)]


def find_files(
    source: Path,
    *,
    vae: Path | None = None,
    image_encoder: Path | None = None,
    motion_module: Path | None = None,
) -> PretrainedTree:
    """Looks for the files of `source`.

    Args:
      source: a `pretrained_models/` tree, a Stable Diffusion 1.5 folder of diffusers (unet/, vae/), or a single
        Stable Diffusion file.
      vae: a folder or file to take in place of the source's.
      image_encoder: likewise.
      motion_module: a file (AnimateDiff's, for example) to take in place of the source's.

    Raises:
      InputError: one of the given paths does not exist, may not be read, or holds no weights; says what it is.
    """
    for path in (source, vae, image_encoder, motion_module):
        if path is not None and find_type(path) is None:
            raise InputError(f"{path}: no such file or folder")
    try:
        return _find_files(source, vae, image_encoder, motion_module)
    except OSError as error:
        raise InputError(f"{error.filename or source}: cannot be read ({reason(error)})") from error


def _find_files(
    source: Path, vae: Path | None, image_encoder: Path | None, motion_module: Path | None
) -> PretrainedTree:
    champ: dict[str, Path] = {}
    sd_unet = unet_config = vae_folder = image_folder = None
    if source.is_dir():
        champ = {
            file.stem: file for suffix in reversed(SUFFIXES) for file in sorted((source / "champ").glob(f"*{suffix}"))
        }
        unet_folder = source / "unet" if (source / "unet").is_dir() else source / _SD / "unet"
        sd_unet = _weights_in(unet_folder, _DIFFUSERS)
        unet_config = _config_in(unet_folder)
        vae_folder = source / "vae" if (source / "unet").is_dir() else source / _VAE
        image_folder = source / _IMAGE_ENCODER
        if not champ and sd_unet is None:
            raise InputError(_without_weights(source))
    else:
        sd_unet = vae_folder = source
    vae_folder, image_folder = vae or vae_folder, image_encoder or image_folder
    tree = PretrainedTree(
        root=source,
        champ=champ,
        sd_unet=sd_unet,
        unet_config=unet_config,
        vae=_weights_in(vae_folder, _DIFFUSERS),
        vae_config=None if vae_folder == source else _config_in(vae_folder),
        image_encoder=_weights_in(image_folder, _TRANSFORMERS),
        image_encoder_config=_config_in(image_folder),
        motion_module=motion_module,
    )
    for option, place, file in (("vae", vae, tree.vae), ("image_encoder", image_encoder, tree.image_encoder)):
        if place is not None and file is None:
            raise InputError(f"--{option}={place}: {_without_network(place, option)}")
    return tree


def _weights_in(place: Path | None, stems: Sequence[str]) -> Path | None:
    if place is None or not os.path.lexists(place):
        return None
    if not place.is_dir():
        return place
    candidates = (place / f"{stem}{suffix}" for suffix in SUFFIXES for stem in stems)
    # Opening the file reports whether it can be read.
    return next((path for path in candidates if os.path.lexists(path) and not path.is_dir()), None)


def _config_in(place: Path | None) -> Path | None:
    if place is None:
        return None
    config = (place if place.is_dir() else place.parent) / "config.json"
    return config if os.path.lexists(config) else None


def _without_weights(source: Path) -> str:
    """What to say of a folder that holds neither Champ's weights nor Stable Diffusion's: what it is, what to give."""
    if any(source.glob("denoising_unet.*")):
        return f"{source}: is the champ/ folder of a tree; name the folder around it, --source={source.parent}"
    cached = _cached_model(source)
    if cached:
        return f"{source}: is a folder of the Hugging Face cache; name a model's files in it, --source={cached}"
    folders = [path for path in _entries(source) if path.is_dir()]
    deeper = [inner for folder in folders for inner in (folder, *_entries(folder)) if inner.is_dir()]
    nested = next((folder for folder in deeper if _is_tree(folder)), None)
    if nested is not None:
        return f"{source}: holds the weights in a folder further in; name that one, --source={nested}"
    archives = [path.name for path in _entries(source) if path.suffix.lower() in _ARCHIVES]
    if archives:
        return f"{source}: holds archives ({listed(archives)}); unpack them and name the folder of their files"
    holds = listed(path.name for path in _entries(source)) or "nothing"
    return (
        f"{source}: holds neither champ/*.pth (a pretrained_models tree) nor unet/ (a Stable Diffusion folder); "
        f"it holds {holds}"
    )


def _without_network(place: Path, option: str) -> str:
    """What to say of a folder given as `--vae` or `--image_encoder` that holds no weights file."""
    stems = _DIFFUSERS if option == "vae" else _TRANSFORMERS
    cached = _cached_model(place)
    inner = [path for path in ([cached] if cached else []) + [place / option, *_entries(place)] if path.is_dir()]
    inner = [found for path in inner for found in (path, path / option) if found.is_dir()]
    nested = next((path for path in inner if _weights_in(path, stems) is not None), None)
    if nested is not None:
        return f"holds the weights in a folder further in; name that one, --{option}={nested}"
    return f"holds no {stems[0]}.safetensors or .bin; name the folder that does"


def _is_tree(folder: Path) -> bool:
    return any((folder / part).is_dir() for part in ("champ", "unet", f"{_SD}/unet"))


def _cached_model(folder: Path) -> Path | None:
    """The newest snapshot in a folder of the Hugging Face cache: models--OWNER--NAME, or one that holds these."""
    places = [folder, folder / "hub", *_entries(folder), *_entries(folder / "hub")]
    snapshots = [snapshot for place in places for snapshot in _entries(place / "snapshots") if snapshot.is_dir()]
    return max(snapshots, key=lambda path: (_is_tree(path), path.stat().st_mtime), default=None)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())[:_MOST_ENTRIES] if folder.is_dir() else []
