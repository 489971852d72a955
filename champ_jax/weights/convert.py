"""Users' files -> a checkpoint directory. First all headers are checked against the networks, then tensors are moved.

Every component is read, written and dropped in turn, tensor by tensor: memory holds one component and one tensor.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.errors import InputError
from champ_jax.common.outputs import Output, claim
from champ_jax.common.ranges import Choice, Integer
from champ_jax.models.champ import COMPONENTS
from champ_jax.models.initial_values import initial_value
from champ_jax.models.motion_module import position_table
from champ_jax.weights.checkpoint import CHECKPOINT, DTYPES, checkpoint_writer
from champ_jax.weights.conversion_plan import Part, Plan, make_plan
from champ_jax.weights.flat import dotted
from champ_jax.weights.names import Path as ParameterPath
from champ_jax.weights.names import TensorName, unflatten
from champ_jax.weights.part_files import PartFile
from champ_jax.weights.tensor_files import open_tensors


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
      seed: The seed of the initialization.
      progress: show a progress bar.

    Returns:
      What was done.

    Raises:
      InputError: a file is missing or unreadable; tensors are missing, unexpected, misshapen or not finite; `output`
        may not be written over, or cannot be written.
    """
    Choice(*DTYPES).check("--dtype", dtype)
    Integer(minimum=0).check("--seed", seed)
    plan = make_plan(
        Path(source),
        conditions=conditions,
        partial=partial,
        vae=None if vae is None else Path(vae),
        image_encoder=None if image_encoder is None else Path(image_encoder),
        motion_module=motion_module,
    )
    size = sum(_nbytes(name, dtype) for part in plan.parts for name in part.names.values())
    inputs = [source, *(place for place in (vae, image_encoder) if place), *plan.inputs]
    claim([Output("--output", output, CHECKPOINT, int(1.05 * size))], inputs)
    with (
        checkpoint_writer(output) as writer,
        tqdm(total=size, unit="B", unit_scale=True, disable=not progress) as bar,
    ):
        for component in COMPONENTS:
            bar.set_description(component)
            parts = [part for part in plan.parts if part.component == component]
            writer.add(component, unflatten(leaf for part in parts for leaf in _read(part, dtype, seed, bar.update)))
        writer.finish(plan.config.to_json(), {part.stem: part.record() for part in plan.parts}, plan.untrained)
    return plan


def _read(
    part: Part, dtype: str, seed: int, advance: Callable[[int], Any]
) -> Iterator[tuple[ParameterPath, np.ndarray]]:
    """(path, array) of every tensor of a part; `advance` is called with the bytes of each."""
    arrays = _initialized(part, dtype, seed) if part.source is None else read_file(part.names, part.source, dtype)
    for path, array in arrays:
        advance(array.nbytes)
        yield path, array


def _initialized(part: Part, dtype: str, seed: int) -> Iterator[tuple[ParameterPath, np.ndarray]]:
    for name in part.names.values():
        value = initial_value(dotted((part.component, *name.path)), name.flax_shape, seed)
        yield name.path, value.astype(DTYPES[dtype])


def read_file(
    names: Mapping[str, TensorName], source: PartFile, dtype: str
) -> Iterator[tuple[ParameterPath, np.ndarray]]:
    """(path, array) of the tensors {key: TensorName} of a file that has them all, in `dtype`; whole numbers in int32.

    Raises:
      InputError: a tensor holds NaN or infinite numbers.
    """
    with open_tensors(source.path) as file:
        for key, name in names.items():
            if key not in source.infos:
                yield name.path, _left_out(name, dtype)
                continue
            is_index = source.infos[key].dtype.kind == "i"  # JAX holds 32-bit integers
            array = name.to_flax(file.read(source.keys[key]), np.int32 if is_index else DTYPES[dtype])
            if not is_index and not np.isfinite(array).all():
                raise InputError(
                    f"{source.path}: {source.keys[key]} holds NaN or infinite numbers in {dtype}; "
                    "download the file again"
                )
            yield name.path, array


def _left_out(name: TensorName, dtype: str) -> np.ndarray:
    """A table that newer files leave out: the motion modules' positions, or the indices of CLIP's."""
    if name.path[-1] == "pe":
        return position_table(*name.flax_shape[1:]).astype(DTYPES[dtype])
    return np.arange(name.shape[-1], dtype=np.int32).reshape(name.flax_shape)


def _nbytes(name: TensorName, dtype: str) -> int:
    return int(np.prod(name.shape)) * (4 if name.path[-1] == "position_ids" else DTYPES[dtype].itemsize)
