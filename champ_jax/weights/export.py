"""A checkpoint directory -> the `pretrained_models/` tree that PyTorch users load."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from tqdm import tqdm

from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path
from champ_jax.common.outputs import Output, claim, folder_with
from champ_jax.models.champ import ChampConfig
from champ_jax.weights.checkpoint import is_floating, load_checkpoint, model_of, read_config
from champ_jax.weights.names import TensorName, files_of, flatten
from champ_jax.weights.work_folder import load_for_inference

_EMPTY_FOLDER = folder_with("an empty folder", lambda path: False)

# Where a file goes that is not champ/STEM.pth.
_PLACES = {
    "vae": "sd-vae-ft-mse/diffusion_pytorch_model.safetensors",
    "image_encoder": "image_encoder/pytorch_model.bin",
}
# {field of the model's config: folder of its config.json}
_CONFIGS = {"unet": "stable-diffusion-v1-5/unet", "vae": "sd-vae-ft-mse", "image_encoder": "image_encoder"}


def export(checkpoint: str | Path, output: str | Path, *, progress: bool = True) -> dict[str, dict[str, int]]:
    """Writes the users' tree: champ/*.pth, sd-vae-ft-mse/, image_encoder/, stable-diffusion-v1-5/unet/config.json.

    A tensor goes out in the dtype it once came in where that loses nothing, in float32 otherwise.

    Args:
      checkpoint: a checkpoint directory.
      output: the folder to write; it must not exist, or be empty.
      progress: show a progress bar.

    Returns:
      {file written: {dtype: number of tensors}}.

    Raises:
      InputError: no checkpoint, a damaged one, no space, `output` holds files, or PyTorch is not installed.
    """
    config = read_config(checkpoint)
    return _export(
        checkpoint,
        output,
        model_of(checkpoint, config),
        {name: fields["parameters"] for name, fields in config["components"].items()},
        lambda component: load_checkpoint(checkpoint, [component])[1][component],
        config["sources"],
        progress,
    )


def export_run(workdir: str | Path, output: str | Path, *, progress: bool = True) -> dict[str, dict[str, int]]:
    """The same of a training's newest checkpoint, its averaged parameters if it keeps any; all tensors in float32."""
    model, trees = load_for_inference(workdir)
    sizes = {name: sum(leaf.size for _, leaf in flatten(tree)) for name, tree in trees.items()}
    return _export(workdir, output, model, sizes, trees.__getitem__, {}, progress)


def _export(
    source: str | Path,
    output: str | Path,
    model: ChampConfig,
    sizes: Mapping[str, int],
    load: Callable[[str], Mapping[Any, Any]],
    sources: Mapping[str, Any],
    progress: bool,
) -> dict[str, dict[str, int]]:
    """Writes the components of `sizes`, {name: parameters}, that `load` gives by name."""
    try:
        import torch  # noqa: F401, imported before the work begins
    except ImportError:
        raise InputError(
            f"{output}: writing PyTorch's .pth and .bin files needs PyTorch; pip install 'champ_jax[convert]'"
        ) from None
    claim([Output("--output", output, _EMPTY_FOLDER, int(1.05 * 4 * sum(sizes.values())))], [source])
    written: dict[str, dict[str, int]] = {}
    with (
        atomic_path(output, folder=True) as temporary,
        tqdm(total=sum(sizes.values()), unit="parameter", unit_scale=True, disable=not progress) as bar,
    ):
        for component, size in sizes.items():
            bar.set_description(component)
            tree = load(component)
            arrays = dict(flatten(tree))
            for stem, names in files_of(component, tree).items():
                place = _PLACES.get(stem, f"champ/{stem}.pth")
                state = _state_dict(names, arrays, sources.get(stem, {}))
                _write(temporary / place, state)
                written[place] = _count(array.dtype.name for array in state.values())
            bar.update(size)
        fields = model.to_json()
        for field, folder in _CONFIGS.items():
            (temporary / folder).mkdir(parents=True, exist_ok=True)
            (temporary / folder / "config.json").write_text(json.dumps(fields[field], indent=2) + "\n")
    return written


def _state_dict(
    names: Mapping[str, TensorName], arrays: Mapping[Any, np.ndarray], record: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """{key: array} as PyTorch's file holds it; `record` is `convert`'s of the file the tensors came from."""
    absent = set(record.get("absent", ()))
    exceptions = record.get("exceptions", {})
    state = {}
    for key, name in names.items():
        if key not in absent:
            array = name.to_torch(arrays[name.path])
            state[key] = _as_it_came(array, exceptions.get(key, record.get("dtype", "float32")))
    return state


def _as_it_came(array: np.ndarray, dtype: str) -> np.ndarray:
    """The array in `dtype` if no value changes, else in float32; indices in PyTorch's int64."""
    if not is_floating(array.dtype):
        return array.astype(np.int64)
    wanted = np.dtype(dtype) if dtype in ("float16", "bfloat16") else np.dtype(np.float32)
    with np.errstate(over="ignore"):
        candidate = array.astype(wanted)
    same = np.array_equal(candidate.astype(np.float32), array.astype(np.float32), equal_nan=True)
    return candidate if same else array.astype(np.float32)


def _write(path: Path, state: Mapping[str, np.ndarray]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        safetensors.numpy.save_file(dict(state), path, metadata={"format": "pt"})
        return
    import ml_dtypes
    import torch

    def tensor(array: np.ndarray) -> torch.Tensor:
        if array.dtype == ml_dtypes.bfloat16:
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    torch.save({key: tensor(array) for key, array in state.items()}, path)


def _count(items: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for item in items:
        counts[item] = counts.get(item, 0) + 1
    return counts
