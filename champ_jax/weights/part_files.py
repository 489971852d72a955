"""What one weights file offers as one part of the model, under today's PyTorch keys."""

import collections
import dataclasses
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from champ_jax.common.errors import InputError, listed
from champ_jax.weights import ldm
from champ_jax.weights.names import canonical, places_of
from champ_jax.weights.tensor_files import TensorInfo, open_tensors

# Entries that files of a part often hold besides and that no network here has: {part: {pattern: what they are}}.
_BESIDES = {
    "vae": {r"loss\..*": "the training loss", r"model_ema\..*": "moving average of the VAE"},
    "image_encoder": {r"text_model\..*|text_projection\..*|logit_scale": "text half of CLIP"},
    # Its bank is what a ReferenceNet gives; it has no output layer.
    "reference_unet": {r"conv_norm_out\..*|conv_out\..*": "output layer, which a ReferenceNet has not"},
}
_MOTION = ".motion_modules."  # in every key of a motion module


@dataclasses.dataclass(frozen=True)
class PartFile:
    """The tensors of a file, or of a part of it.

    Attributes:
      path: The file.
      keys: {key: key in the file}.
      infos: {key: shape and dtype}.
      others: {key in the file: what it is} of the entries that cannot be read as weights.
      passed_over: {what they are: keys in the file} of the tensors that have no place in the part.
    """

    path: Path
    keys: Mapping[str, str]
    infos: Mapping[str, TensorInfo]
    others: Mapping[str, str]
    passed_over: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """{key: shape}."""
        return {key: info.shape for key, info in self.infos.items()}

    def limited_to(self, names: Iterable[str]) -> "PartFile":
        """Without the tensors that belong to other networks than the one whose keys are `names`.

        A key belongs to the network if it begins as one of `names` does: a tensor that is unexpected there shows that
        the network is of another architecture, and stays.
        """
        beginnings = {name.split(".")[0] for name in names}
        return self._without({key: "not this network's" for key in self.keys if key.split(".")[0] not in beginnings})

    def _without(self, dropped: Mapping[str, str]) -> "PartFile":
        """Moves the tensors of `dropped` ({key: what it is}) to `passed_over`."""
        passed_over = collections.defaultdict(tuple, self.passed_over)
        for key, what in dropped.items():
            passed_over[what] += (self.keys[key],)
        kept = {key: original for key, original in self.keys.items() if key not in dropped}
        infos = {key: self.infos[key] for key in kept}
        return dataclasses.replace(self, keys=kept, infos=infos, passed_over=dict(passed_over))

    def notes(self) -> list[str]:
        """A line for each kind of entry that was passed over."""
        lines = [
            f"{self.path}: {len(keys)} tensors passed over ({what}): {listed(keys)}"
            for what, keys in self.passed_over.items()
        ]
        if self.others:
            lines.append(f"{self.path}: {len(self.others)} entries passed over (not weights): {listed(self.others)}")
        return lines


def read_part(path: Path, part: str) -> PartFile:
    """What `path` offers as `part`.

    Args:
      path: a weights file.
      part: 'reference_unet', 'denoising_unet', 'vae', 'image_encoder', 'motion_module' or 'guidance_encoder_*'.

    Raises:
      InputError: as `open_tensors`, or two tensors of the file have one name.
    """
    with open_tensors(path) as file:
        infos, others = file.tensors, file.others
    passed_over: dict[str, tuple[str, ...]] = {}
    if ldm.is_ldm(infos):
        names = _ldm_names(path, infos, part, passed_over)
    elif part == "vae" and any(key.startswith("encoder.down.") for key in infos):
        names = ldm.vae_names(infos)  # a VAE alone, in LDM's names
    else:
        names = {key: key for key in infos}
    keys: dict[str, str] = {}
    for name, original in names.items():
        for key in places_of(canonical(name)):
            if key in keys:
                raise InputError(f"{path}: {keys[key]} and {original} are two tensors for {key}")
            keys[key] = original
    found = PartFile(path, keys, {key: infos[original] for key, original in keys.items()}, others, passed_over)
    if part == "motion_module":
        return found._without({key: "not a motion module's" for key in keys if _MOTION not in key})
    besides = _BESIDES.get(part, {}).items()
    return found._without({key: what for key in keys for pattern, what in besides if re.fullmatch(pattern, key)})


def _ldm_names(
    path: Path, infos: Mapping[str, TensorInfo], part: str, passed_over: dict[str, tuple[str, ...]]
) -> dict[str, str]:
    """{diffusers' key: key in the file} of a Stable Diffusion file; adds to `passed_over` what has no place here."""
    if part == "vae":
        prefix, rename = ldm.VAE_PREFIX, ldm.vae_names
    elif part.endswith("unet"):
        prefix, rename = ldm.UNET_PREFIX, ldm.unet_names
    else:
        raise InputError(f"{path}: is a Stable Diffusion file, it holds no {part.replace('_', ' ')}")
    inner = rename(key.removeprefix(prefix) for key in infos if key.startswith(prefix))
    if part == "denoising_unet":  # to say it once is enough
        for key in infos:
            if not key.startswith((ldm.UNET_PREFIX, ldm.VAE_PREFIX)):
                what = ldm.other_part(key) or "not Stable Diffusion's"
                passed_over[what] = (*passed_over.get(what, ()), key)
    return {name: prefix + key for name, key in inner.items()}
