"""The adapters of a training by LoRA -> files that other programs load, and `--config.lora` here."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path
from champ_jax.common.outputs import Output, claim, folder_with
from champ_jax.weights.adapters import adapted_kernels, torch_factors
from champ_jax.weights.flat import Flat, path_of
from champ_jax.weights.lora import PEFT_FILES, PEFT_SETTINGS
from champ_jax.weights.lora_names import KOHYA
from champ_jax.weights.names import tensor_name
from champ_jax.weights.work_folder import RunCheckpoint

NAMINGS = ("kohya", "peft")
_EMPTY_FOLDER = folder_with("an empty folder", lambda path: False)

Factors = Mapping[str, tuple[np.ndarray, np.ndarray]]  # {module: (down, up)}


def export_lora(workdir: str | os.PathLike, output: str | os.PathLike, naming: str) -> dict[str, int]:
    """Writes the newest adapters of a run, averaged if it keeps an average, a file (or PEFT's folder) a network.

    kohya: OUTPUT/denoising_unet.safetensors, OUTPUT/reference_unet.safetensors; peft: OUTPUT/denoising_unet/ and
    OUTPUT/reference_unet/ with adapter_model.safetensors and adapter_config.json. Only networks that were adapted.

    Args:
      workdir: the work folder of a run with `trainable=lora`.
      output: the folder to write; it must not exist, or be empty.
      naming: of NAMINGS.

    Returns:
      {file written: number of tensors}.

    Raises:
      InputError: no such run, one that trained no adapters, damaged arrays, or the folder cannot be written.
    """
    arrays = RunCheckpoint.find(workdir).trained()
    networks = _by_network(arrays)
    if not networks:
        raise InputError(f"{workdir}: its run trained no adapters (trainable=lora); export it without --lora")
    claim([Output("--output", output, _EMPTY_FOLDER, sum(array.nbytes for array in arrays.values()))], [workdir])
    written = {}
    with atomic_path(output, folder=True) as temporary:
        for network, factors in networks.items():
            if naming == "kohya":
                place, tensors = f"{network}.safetensors", _kohya(factors)
            else:
                place, tensors = f"{network}/{PEFT_FILES[0]}", _peft(factors)
                _write_settings(temporary / network / PEFT_SETTINGS, factors)
            (temporary / place).parent.mkdir(parents=True, exist_ok=True)
            safetensors.numpy.save_file(tensors, temporary / place, metadata={"format": "pt"})
            written[place] = len(tensors)
    return written


def _by_network(arrays: Flat) -> dict[str, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """{network: {module: (down, up)}}, modules and factors as PyTorch has them."""
    networks: dict[str, dict[str, tuple[np.ndarray, np.ndarray]]] = {}
    for kernel in adapted_kernels(arrays):
        network, *path = path_of(kernel)
        down, up = torch_factors(kernel, arrays)
        module = tensor_name(tuple(path), down.shape).key.removesuffix(".weight")
        networks.setdefault(str(network), {})[module] = down, up
    return networks


def _kohya(factors: Factors) -> dict[str, np.ndarray]:
    tensors: dict[str, np.ndarray] = {}
    for module, (down, up) in factors.items():
        name = KOHYA + module.replace(".", "_")
        tensors |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        tensors[f"{name}.alpha"] = np.array(len(down), np.float32)
    return tensors


def _peft(factors: Factors) -> dict[str, np.ndarray]:
    pairs = {f"base_model.model.{module}": pair for module, pair in factors.items()}
    return {f"{name}.lora_{part}.weight": array for name, pair in pairs.items() for part, array in zip("AB", pair)}


def _write_settings(path: Path, factors: Factors) -> None:
    rank = len(next(iter(factors.values()))[0])
    settings: dict[str, Any] = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": rank,
        "target_modules": list(factors),
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "lora_dropout": 0.0,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=2) + "\n")
