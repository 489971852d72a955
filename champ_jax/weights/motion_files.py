"""Motion modules from a file of their own: AnimateDiff's, AnimateLCM's, AnimateDiff-Lightning's, in either naming."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from champ_jax.common.errors import InputError
from champ_jax.models.champ import ChampConfig
from champ_jax.models.motion_module import MotionConfig
from champ_jax.weights.architecture import motion_sizes
from champ_jax.weights.conversion_plan import Part, abstract_state
from champ_jax.weights.convert import read_file
from champ_jax.weights.flat import Flat, dotted
from champ_jax.weights.names import files_of
from champ_jax.weights.part_files import read_part

_COMPONENT, _STEM = "denoising_unet", "motion_module"


def read_motion_modules(path: str | os.PathLike, model: ChampConfig) -> tuple[MotionConfig, Flat, Sequence[str]]:
    """The motion modules in a file.

    Args:
      path: a .safetensors file or one that PyTorch saved: motion modules alone, or the UNet around them.
      model: the sizes of the denoiser that they are for.

    Returns:
      Their sizes, {dotted path in the model: float32 array}, and what was passed over, in words.

    Raises:
      InputError: no such file, or no weights; it holds no motion modules, or those of another UNet (every misfit is
        named), or numbers that are not finite.
    """
    file = read_part(Path(path), _STEM)
    motion = motion_sizes(file)
    try:
        sizes = dataclasses.replace(model, motion=motion)
    except InputError as error:
        raise InputError(f"{path}: its motion modules do not fit the model: {error}") from error
    names = files_of(_COMPONENT, abstract_state(_COMPONENT, sizes))[_STEM]
    part = Part(_COMPONENT, _STEM, names, file)
    if problem := part.problems():
        raise InputError(problem)
    arrays = {dotted((_COMPONENT, *place)): array for place, array in read_file(names, file, "float32")}
    return motion, arrays, file.notes()
