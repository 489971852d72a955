"""Conversion, export and packing of weights on hostile inputs, outputs and settings."""

import contextlib
import functools
import json
import pickle
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import golden_weights
import numpy as np
import pytest
import torch
from hostile import kinds
from hostile.harness import Case, check
from weights_trees import write_image_encoder, write_sd_folder

from champ_jax.models.champ import ChampConfig
from champ_jax.models.clip import CLIPVisionConfig
from champ_jax.models.guidance import GuidanceConfig
from champ_jax.models.unet import UNetConfig
from champ_jax.models.vae import VAEConfig
from champ_jax.weights.checkpoint import save_checkpoint

CONVERT, EXPORT, PACK = (f"tools/{name}.py" for name in ("convert_weights", "export_weights", "pack_model"))
UNET = "sd/unet/diffusion_pytorch_model.safetensors"


@functools.cache
def _good() -> Path:
    """`sd` and `image_encoder` of the tiny models, `published` with an evaluation network; made once."""
    place = Path(tempfile.mkdtemp(prefix="hostile-weights-"))
    write_sd_folder(place / "sd")
    write_image_encoder(place / "image_encoder")
    # What the published files of LPIPS with AlexNet hold, zeros.
    shapes = json.loads((golden_weights.GOLDEN.parent / "eval/key_shapes.json").read_text())["lpips_alex"]
    for name, linear in (("alexnet", False), ("alex", True)):
        state = {key: np.zeros(shape, np.float32) for key, shape in shapes.items() if key.startswith("lin") == linear}
        golden_weights.write_state(place / "published" / f"{name}.safetensors", state)
    return place


@functools.cache
def _model() -> dict:
    configs = golden_weights.configs()
    unet, vae = UNetConfig.from_json(configs["unet"]), VAEConfig.from_json(configs["vae"])
    guidance = GuidanceConfig(block_out_channels=(16, 32, 32, 64), out_channels=unet.block_out_channels[0])
    tower = CLIPVisionConfig.from_json(configs["image_encoder"])
    return ChampConfig(unet=unet, vae=vae, guidance=guidance, image_encoder=tower).to_json()


def convert(*more: str, change: Callable[[Path], object] = lambda folder: None) -> Callable[[Path], list]:
    """Arguments of a conversion of the good files, in which `change(folder)` has made something wrong."""

    def make(folder: Path) -> list:
        for name in ("sd", "image_encoder"):
            shutil.copytree(_good() / name, folder / name)
        change(folder)
        options = {"source": "sd", "image_encoder": "image_encoder", "output": "out"}
        options |= dict(argument.removeprefix("--").split("=", 1) for argument in more)
        return [f"--{name}={value}" for name, value in options.items()]

    return make


def field(place: str, name: str, value: object) -> Callable[[Path], None]:
    """Sets a field of the config.json at `place`."""

    def change(folder: Path) -> None:
        path = folder / place
        path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))

    return change


def _cases() -> list[Case]:
    cases = []

    def add(name: str, command: str, make: Callable, culprit: str, **options: object) -> None:
        cases.append(Case(name, command, make, culprit, **options))

    # A weights file that is not one.
    files = {**kinds.SAFETENSORS, "picture": kinds.content(kinds.png()), "video": kinds.content(kinds.mp4())}
    elsewhere = ("below-a-file",)
    for kind, maker in files.items():
        if kind not in elsewhere:
            name = "weights.safetensors" if kind != "folder" else "weights"
            add(f"source-{kind}", CONVERT, convert(f"--source={name}", change=kinds.put(maker, name)), name)
            if kind not in ("missing", "folder"):  # as if there were no such network
                add(f"unet-{kind}", CONVERT, convert(change=kinds.put(maker, UNET)), UNET)
    for kind in ("empty", "html", "lfs-pointer", "noise", "text", "fifo", "device", "folder", "missing"):
        option = f"--motion_module={'mm.ckpt'}"
        add(f"motion-{kind}", CONVERT, convert(option, change=kinds.put(files[kind], "mm.ckpt")), "mm.ckpt")
    pickles = {
        "executing": kinds.executing_pickle(),
        "list": pickle.dumps([1, 2, 3]),
        "truncated": pickle.dumps({"a": 1})[:-4],
        "state-dict-of-numbers": pickle.dumps({"state_dict": {"epoch": 3}}),
        "zip": kinds.zip_file(),
        "zip-bomb": None,
        "npz": kinds.npz(),
        "torch-truncated": None,
    }
    for kind, data in pickles.items():
        maker = kinds.content(data) if data else {"zip-bomb": _bomb, "torch-truncated": _cut_torch_file}[kind]
        change = kinds.put(maker, "mm.ckpt")
        add(f"pickle-{kind}", CONVERT, convert("--motion_module=mm.ckpt", change=change), "mm.ckpt", seconds=120)

    # What looks like HMR2's checkpoint and lacks most of it.
    hmr2 = {"backbone.pos_embed": np.zeros((1, 193, 1280), np.float32), "smpl_head.decpose.weight": np.zeros(3)}
    part = kinds.put(kinds.content(kinds.safetensors_file(**hmr2)), "hmr2.safetensors")
    add("hmr2-partial", CONVERT, convert("--source=hmr2.safetensors", change=part), "hmr2.safetensors: 501 missing")
    add("hmr2-dtype", CONVERT, convert("--source=hmr2.safetensors", "--dtype=int8", change=part), "--dtype")

    # Fields of the config.json files.
    for place, fields in CONFIG_FIELDS.items():
        for name, values in fields.items():
            for number, value in enumerate(values):
                network = Path(place).parent.name
                change = field(place, name, value)
                culprit = f"{network}/config.json: "
                add(f"{network}-{name}-{number}", CONVERT, convert(change=change), culprit)
    for kind, maker in kinds.JSON.items():
        if kind not in ("below-a-file", "lone-surrogate", "not-a-number"):  # the last two are objects, of other fields
            place = "image_encoder/config.json"
            add(f"config-{kind}", CONVERT, convert(change=kinds.put(maker, place)), place)

    # Settings.
    for option, values in OPTIONS.items():
        for value in values:
            culprit = value if value and option in PATHS else option
            add(f"option-{option}-{value[:20] or 'empty'}", CONVERT, convert(f"--{option}={value}"), culprit)

    # Outputs.
    for kind, maker in kinds.FOLDER_OUTPUTS.items():
        add(f"convert-onto-{kind}", CONVERT, _onto(convert, maker), "out")
        add(f"networks-onto-{kind}", CONVERT, _onto(networks, maker), "out")
        if kind != "file":
            add(f"export-onto-{kind}", EXPORT, _onto(export, maker), "out")
    for output in ("sd", "sd/unet", "sd/out", "image_encoder", "image_encoder/out", "."):
        add(f"convert-onto-input-{output.replace('/', '-')}", CONVERT, convert(f"--output={output}"), "--output")
    for output in ("published", "published/out", "."):
        add(f"networks-onto-input-{output.replace('/', '-')}", CONVERT, networks(f"--output={output}"), "--output")
    for output in ("checkpoint", "checkpoint/vae", "checkpoint/out", "."):
        add(f"export-onto-input-{output.replace('/', '-')}", EXPORT, export(f"--output={output}"), "--output")
    for output, kind in (("sd", "link"), ("out", "workdir")):
        change = {"link": lambda folder: (folder / "link").symlink_to("sd"), "workdir": _work_folder}[kind]
        option = "--output=link" if kind == "link" else f"--output={output}"
        add(f"convert-onto-{kind}-of-{output}", CONVERT, convert(option, change=change), "--output")

    # Checkpoints that are none.
    for kind, maker in kinds.JSON.items():
        if kind not in ("missing", "below-a-file"):
            add(
                f"export-config-{kind}", EXPORT, export(change=kinds.put(maker, "checkpoint/config.json")), "checkpoint"
            )
    for name, values in CHECKPOINT_FIELDS.items():
        for number, value in enumerate(values):
            change = field("checkpoint/config.json", name, value)
            add(f"export-{name}-{number}", EXPORT, export(change=change), "config.json")
    for kind in ("missing", "fifo", "device", "empty", "html", "folder"):
        make = export("--checkpoint=other", change=kinds.put(files[kind], "other"))
        add(f"export-checkpoint-{kind}", EXPORT, make, "other")
        make = pack("--run=other", change=kinds.put(files[kind], "other"))
        add(f"pack-run-{kind}", PACK, make, "other")
    add("export-array-flipped", EXPORT, export(change=_flip_array), "checkpoint/vae")

    # A disk that fills.
    for name, command, make in (
        ("convert", CONVERT, convert()),
        ("networks", CONVERT, networks()),
        ("export", EXPORT, export()),
    ):
        full = functools.partial(_full_disk, 20_000)
        add(f"{name}-full-disk", command, make, "out", during=full, seconds=120)
    full = functools.partial(_full_disk, 20_000)
    add("convert-full-disk-keeps-the-earlier", CONVERT, convert(change=_earlier), "out", during=full)
    for kind, maker in kinds.FILE_OUTPUTS.items():
        add(f"pack-onto-{kind}", PACK, _onto(lambda output: lambda folder: ["--run=run", output], maker), "out")
    for output in ("run/model.safetensors", "run/deeper/model.safetensors"):
        name = f"pack-onto-input-{output.count('/')}"
        add(name, PACK, pack(f"--output={output}", change=_run), "--output")
    return cases


@contextlib.contextmanager
def _full_disk(size: int, folder: Path):
    with kinds.largest_file(size):
        yield


def _bomb(path: Path) -> Path:
    """A small file of PyTorch's whose tensor takes 4 GiB."""
    return kinds.content(kinds.zip_bomb("archive/data/0", 1 << 30))(path)


def _cut_torch_file(path: Path) -> Path:
    torch.save({"a": torch.zeros(10_000)}, path)
    path.write_bytes(path.read_bytes()[:20_000])
    return path


def _onto(command: Callable, maker: kinds.Maker) -> Callable[[Path], list]:
    def make(folder: Path) -> list:
        output = maker(folder / "out")
        return command(f"--output={output.relative_to(folder) if output.is_relative_to(folder) else output}")(folder)

    return make


def networks(*more: str) -> Callable[[Path], list]:
    """Arguments of the conversion of an evaluation network."""

    def make(folder: Path) -> list:
        shutil.copytree(_good() / "published", folder / "published")
        options = {"source": "published", "output": "out"}
        options |= dict(argument.removeprefix("--").split("=", 1) for argument in more)
        return [f"--{name}={value}" for name, value in options.items()]

    return make


def export(*more: str, change: Callable[[Path], object] = lambda folder: None) -> Callable[[Path], list]:
    """Arguments of an export of a checkpoint with a small autoencoder."""

    def make(folder: Path) -> list:
        kernel = np.arange(10_000, dtype=np.float32).reshape(1, 1, 100, 100)
        save_checkpoint(folder / "checkpoint", {"vae": {"conv": {"kernel": kernel}}}, _model())
        change(folder)
        options = {"checkpoint": "checkpoint", "output": "out"}
        options |= dict(argument.removeprefix("--").split("=", 1) for argument in more)
        return [f"--{name}={value}" for name, value in options.items()]

    return make


def pack(*more: str, change: Callable[[Path], object] = lambda folder: None) -> Callable[[Path], list]:
    def make(folder: Path) -> list:
        change(folder)
        return ["--output=out.safetensors", "--run=run", *more]

    return make


def _earlier(folder: Path) -> None:
    """A checkpoint that an earlier conversion left."""
    save_checkpoint(folder / "out", {"vae": {"conv": {"bias": np.zeros(3, np.float32)}}}, _model())


def _run(folder: Path) -> None:
    (folder / "run").mkdir()


def _work_folder(folder: Path) -> None:
    (folder / "out" / "checkpoints").mkdir(parents=True)
    for name in ("config.json", "model.json"):
        (folder / "out" / name).write_text("{}")


def _flip_array(folder: Path) -> None:
    """One bit of a stored array."""
    needle = np.arange(100, 200, dtype=np.float32).tobytes()
    stored = (path for path in (folder / "checkpoint/vae").rglob("*") if path.is_file())
    file = next(path for path in stored if needle in path.read_bytes())
    file.write_bytes(file.read_bytes().replace(needle, needle[:50] + bytes([needle[50] ^ 1]) + needle[51:]))


_WIDTHS = (0, [], [0, 32, 64, 64], [-32, 32, 64, 64], [32.5, 32, 64, 64], "32", [10**9, 32, 64, 64], None, {"a": 1})
_COUNT = (0, -1, "2", 1.5, 10**9, None, True, [2])
CONFIG_FIELDS: dict[str, dict[str, tuple]] = {
    "sd/unet/config.json": {
        "block_out_channels": _WIDTHS,
        "layers_per_block": _COUNT,
        "attention_head_dim": (-8, "8", [8, 8, 0, 8], [], 1.5, 7, {"a": 1}),
        "norm_num_groups": (0, -32, "32", 1.5, 7, None),
        "cross_attention_dim": (0, -1, "768", 10**9, [768, 768]),
        "in_channels": (0, "4"),
        "norm_eps": (-1, "1e-5", None, float("nan")),
        "down_block_types": (3, "DownBlock2D", [], [3], ["AttnDownBlock2D"]),
        "flip_sin_to_cos": ("true", 1),
        "act_fn": ("gelu", 3),
    },
    "sd/vae/config.json": {
        "block_out_channels": _WIDTHS[:5],
        "norm_num_groups": (0, -1, "32", 7),
        "scaling_factor": (0, -0.18, "0.18215", float("nan"), float("inf"), None),
        "latent_channels": (0, "4", -4),
        "down_block_types": ([{"a": 1}], 3),
    },
    "image_encoder/config.json": {
        "num_attention_heads": (0, -4, "4", 1.5),
        "hidden_size": (0, -1, "64", 10**9),
        "num_hidden_layers": (0, -1, "2", 10**9),
        "patch_size": (0, -1, "14"),
        "image_size": (0, 10**9),
        "layer_norm_eps": (-1, "a", float("inf")),
        "vision_config": (3, [], "a", None),
    },
}
PATHS = ("motion_module", "vae", "image_encoder", "source")
OPTIONS = {
    "dtype": ("float16", "float8", "", "nan"),
    "seed": ("-1", "nan", "1.5", "1e300", ""),
    "conditions": ("pose", "depth,depth", ",", "depth,pose"),
    "motion_module": ("nowhere.ckpt", "sd", kinds.LONG_NAME),
    "vae": ("nowhere", "image_encoder", kinds.LONG_NAME),
    "image_encoder": ("nowhere", "sd"),
    "source": ("nowhere", "image_encoder", kinds.LONG_NAME, ""),
}
CHECKPOINT_FIELDS: dict[str, tuple] = {
    "version": (0, "1", None),
    "format": (3, "other"),
    "model": (None, [], {}, {"unet": 3}, "champ"),
    "components": (None, {"../../x": {"sha256": "0", "parameters": 1, "bytes": 1}}, {"vae": 3}, {"vae": {}}),
    "sources": (None, {"vae": 3}, {"vae": {"dtype": 3}}, {"vae": {"absent": 3}}),
    "untrained": (3, {"vae": 3}),
}


CASES = _cases()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hostile_weights(case, tmp_path):
    check(case, tmp_path)
