"""What weights there are: the built-in model, read whole, and what a file or folder of the user's holds and lacks."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from champ_jax.body.body_files import read_body
from champ_jax.body.motion import Motion
from champ_jax.body.smpl import load_body
from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.errors import InputError, listed
from champ_jax.common.files import find_type, read_json
from champ_jax.common.pictures import read_image
from champ_jax.doctor.findings import OK, PROBLEM, WARNING, Finding
from champ_jax.doctor.probing import Attempt, Probe
from champ_jax.evaluation import network_weights
from champ_jax.fitting import dwpose
from champ_jax.fitting.hmr2 import weights as hmr2_weights
from champ_jax.inference import builtin
from champ_jax.models.champ import COMPONENTS
from champ_jax.weights.conversion_plan import make_plan
from champ_jax.weights.opening import Weights, open_weights
from champ_jax.weights.pretrained_tree import SUFFIXES, find_files
from champ_jax.weights.tensor_files import TensorFile, open_tensors
from champ_jax.weights.work_folder import is_work_folder, saved_steps

GROUP = "Weights"
_ABSENT = "the package is incomplete: pip install --force-reinstall champ_jax, or check it out again"
_NETWORKS = ("reference_unet", "denoising_unet", "motion_module")


def try_builtin() -> Probe:
    """The model, picture, motion and body that `champ animate` works on without arguments."""
    attempt = Attempt(GROUP, "built-in model", _ABSENT, needed=True)
    yield attempt
    weights = open_weights(builtin.MODEL)
    trees = weights.load()
    broken = [name for name, tree in trees.items() if not all(np.isfinite(leaf).all() for leaf in _floats(tree))]
    if broken:
        yield attempt.failed(f"holds NaN in {', '.join(broken)}")
    else:
        yield Finding(GROUP, attempt.name, OK, f"{weights.parameters:,} parameters, for demonstration: docs/results.md")
    attempt = Attempt(GROUP, "built-in inputs", _ABSENT, needed=True)
    yield attempt
    height, width = read_image(builtin.REFERENCE).shape[:2]
    frames, body = len(Motion.load(builtin.MOTION)), load_body()
    yield Finding(GROUP, attempt.name, OK, f"picture {width}x{height}, motion of {frames} frames, body '{body.space}'")


def look_at(text: str) -> Probe:
    """What a path holds, of all kinds of weights that the commands read, and what it lacks; no arrays are read."""
    path = Path(text)
    attempt = Attempt(GROUP, text, "name a folder of champ convert, of a training, or pretrained_models", needed=False)
    yield attempt
    kind = find_type(path)
    if kind not in ("file", "folder"):
        yield Finding(GROUP, text, PROBLEM, f"is {kind or 'a link to nothing'}", attempt.remedy)
        return
    for is_kind, describe in _FILES if kind == "file" else _FOLDERS:
        try:
            mine = is_kind(path)
        except InputError as error:
            yield Finding(GROUP, text, PROBLEM, str(error).removeprefix(f"{path}: "), "download or convert it again")
            return
        if mine:
            try:
                yield from (dataclasses.replace(found, name=found.name or text) for found in describe(path))
            except InputError as error:
                yield Finding(GROUP, text, PROBLEM, str(error).removeprefix(f"{path}: "), "see docs/weights.md")
            return
    yield Finding(GROUP, text, PROBLEM, _unknown(path), attempt.remedy)


def _found(value: str) -> Finding:
    return Finding(GROUP, "", OK, value)


def _lacks(value: str, remedy: str, level: str = WARNING) -> Finding:
    return Finding(GROUP, "", level, value, remedy)


def _checkpoint(path: Path) -> Iterator[Finding]:
    """A converted checkpoint, a work folder or a packed model."""
    weights = open_weights(path)
    kind = (
        "a packed model" if path.is_file() else "a training's work folder" if is_work_folder(path) else "a checkpoint"
    )
    if is_work_folder(path):
        kind += f", steps {listed(map(str, saved_steps(path)[::-1]))}"
    size = f", {weights.parameters:,} parameters" if weights.parameters else ""
    yield _found(f"{kind}: {', '.join(weights.components)}{size}; reads {', '.join(weights.model.conditions)}")
    yield from _usable(path, weights)


def _usable(path: Path, weights: Weights) -> Iterator[Finding]:
    """What stands in the way of animating with it."""
    absent = [name for name in COMPONENTS if name not in weights.components]
    if absent:
        remedy = "convert all of pretrained_models: champ convert --source=pretrained_models --output=DIR"
        yield _lacks(f"lacks {', '.join(absent)}", remedy, PROBLEM)
    if path.is_dir() and not is_work_folder(path):
        lost = [name for name in weights.components if not (path / name).is_dir()]
        if lost:
            yield _lacks(f"the folders {', '.join(lost)} are gone", "copy or convert the checkpoint again", PROBLEM)
    if weights.model.motion is None:
        yield _lacks("holds no motion modules (stage 1)", "a video needs stage 2: champ train with configs/stage2.py")
    unread = [name for name in CONDITIONS if name not in weights.model.conditions]
    if unread:
        yield _lacks(f"has no guidance encoder of {', '.join(unread)}", "convert with --conditions, or do without them")
    if weights.untrained:
        yield _lacks(
            f"never trained as a Champ: {listed(weights.untrained)}",
            "train it, bring Champ's weights, or accept noise: --config.untrained=true",
        )


def _pretrained(path: Path) -> Iterator[Finding]:
    """A pretrained_models tree or Stable Diffusion's folder, which is to be converted first."""
    tree = find_files(path)
    encoders = [f"guidance_encoder_{name}" for name in CONDITIONS]
    wanted = [*_NETWORKS, *encoders] if tree.champ else []
    have = [name for name in wanted if name in tree.champ]
    parts = {"Stable Diffusion's UNet": tree.sd_unet, "its config": tree.unet_config, "VAE": tree.vae}
    parts |= {"image encoder": tree.image_encoder}
    if tree.champ:
        del parts["Stable Diffusion's UNet"]
    kind = "a pretrained_models tree" if tree.champ else "Stable Diffusion"
    yield _found(f"{kind}, not converted: {', '.join([*have, *(name for name, file in parts.items() if file)])}")
    absent = [*(name for name in wanted if name not in tree.champ), *(name for name, file in parts.items() if not file)]
    if absent:
        yield _lacks(f"lacks {', '.join(absent)}", "docs/weights.md says where each file goes", PROBLEM)
    present = tuple(name for name in CONDITIONS if f"guidance_encoder_{name}" in tree.champ) or CONDITIONS
    try:
        plan = make_plan(path, conditions=present, partial=True, vae=None, image_encoder=None, motion_module=None)
    except InputError as error:
        if not absent:
            yield _lacks(str(error).removeprefix(f"{path}: "), "download that file again", PROBLEM)
    else:
        total = sum(part.parameters for part in plan.parts)
        remedy = f"champ convert --source={path} --output=weights, then champ animate --config.weights=weights"
        yield _lacks(f"{total:,} parameters that fit, of which champ animate reads none as they are", remedy)


def _evaluation(path: Path) -> Iterator[Finding]:
    have = [name for name in network_weights.NETWORKS if (path / f"{name}.safetensors").is_file()]
    yield _found(f"networks of champ evaluate: {', '.join(have) or 'none'}")
    absent = [name for name in network_weights.NETWORKS if name not in have]
    if absent:
        yield _lacks(
            f"lacks {', '.join(absent)}", "metrics that need them are left out; docs/evaluation.md lists files"
        )


def _published_evaluation(path: Path) -> Iterator[Finding]:
    found = network_weights.find_published(path)
    yield _found(f"published networks of champ evaluate: {', '.join(sorted({name for name, _ in found}))}")
    yield _lacks("not converted", f"champ convert --source={path} --output=evaluation_weights")


def _dwpose(path: Path) -> Iterator[Finding]:
    have = [name for name in (dwpose.DETECTOR, dwpose.POSE) if (path / name).is_file()]
    yield _found(f"DWPose, for champ fit --detector=dwpose --dwpose_weights={path}: {', '.join(have)}")
    absent = [name for name in (dwpose.DETECTOR, dwpose.POSE) if name not in have]
    if absent:
        yield _lacks(f"lacks {', '.join(absent)}", "download it from where the other came from", PROBLEM)


def _tensors(path: Path) -> Iterator[Finding]:
    """A single file of tensors, by what is in it."""
    with open_tensors(path) as file:
        kind, remedy = _kind_of(path, file)
        count = sum(math.prod(info.shape) for info in file.tensors.values())
    yield _found(f"{kind}: {len(file.tensors)} tensors, {count:,} numbers")
    if remedy:
        yield _lacks("champ animate does not read it as it is", remedy)


def _kind_of(path: Path, file: TensorFile) -> tuple[str, str]:
    """What a file of tensors is, and what to do with it."""
    if hmr2_weights.is_published(path):
        return "HMR2's checkpoint", f"champ convert --source={path} --output=hmr2.safetensors"
    if "hmr2" in file.metadata:
        return f"HMR2, converted, for champ fit --hmr2={path}", ""
    network = network_weights.recognize({key: info.shape for key, info in file.tensors.items()})
    if network is not None:
        return f"a file of champ evaluate's network {network[0]}", "convert the folder it is in with champ convert"
    if any(key.startswith("model.diffusion_model.") for key in file.tensors):
        return "Stable Diffusion in one file", f"champ convert --source={path} --image_encoder=DIR --output=DIR"
    return "weights of no kind that a command knows by itself", "name the folder that it belongs to"


def _body(path: Path) -> Iterator[Finding]:
    body = read_body(path)
    yield _found(f"a body of the shape space '{body['space']}', {len(body['v_template'])} vertices, for --body={path}")


def _is_packed(path: Path) -> bool:
    if path.suffix != ".safetensors":
        return False
    with open_tensors(path) as file:
        return {"model", "zeros", "pe"} <= set(file.metadata)


def _is_evaluation(path: Path) -> bool:
    return _config(path).get("kind") == "evaluation networks"


def _config(path: Path) -> dict:
    try:
        fields = read_json(path / "config.json")
    except InputError:
        return {}
    return fields if isinstance(fields, dict) else {}


def _is_pretrained(path: Path) -> bool:
    try:
        find_files(path)
    except InputError:
        return False
    return True


Kind = tuple[Callable[[Path], object], Callable[[Path], Iterator[Finding]]]
_FILES: list[Kind] = [
    (_is_packed, _checkpoint),
    (lambda path: path.suffix in SUFFIXES, _tensors),
    (lambda path: path.suffix in (".pkl", ".npz"), _body),
]
_FOLDERS: list[Kind] = [
    (is_work_folder, _checkpoint),
    (_is_evaluation, _evaluation),
    (lambda path: "components" in _config(path), _checkpoint),
    (_is_pretrained, _pretrained),
    (lambda path: any((path / name).exists() for name in (dwpose.DETECTOR, dwpose.POSE)), _dwpose),
    (network_weights.find_published, _published_evaluation),
    (lambda path: (path / "config.json").exists(), _checkpoint),
]


def _unknown(path: Path) -> str:
    """Why nothing in `path` can be used, in the words of the commands that would be asked."""
    if path.is_file():
        return "is no file of weights that a command reads"
    try:
        find_files(path)
    except InputError as error:
        return str(error).removeprefix(f"{path}: ").replace("--source=", "")
    return "holds no weights"


def _floats(tree: object) -> Iterator[np.ndarray]:
    if isinstance(tree, dict):
        for value in tree.values():
            yield from _floats(value)
    elif np.issubdtype(np.asarray(tree).dtype, np.floating):
        yield np.asarray(tree)
