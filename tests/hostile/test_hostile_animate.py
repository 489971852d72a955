"""Hostile inputs, outputs and settings of `python -m champ_jax.animate`, all refused before anything is compiled."""

import json

import numpy as np
import pytest
import safetensors.numpy
from hostile import kinds
from hostile.harness import Case, check, run_command, snapshot
from PIL import Image

from champ_jax.common.condition_names import CONDITIONS
from champ_jax.inference import builtin
from champ_jax.inference.pipeline import ChampPipeline
from champ_jax.weights import packed

LATENTS = (24, 16, 16, 4)  # of a run on built-in inputs


@pytest.fixture(autouse=True)
def no_compile(monkeypatch):
    """Fails the test if a hostile input gets as far as loading or compiling."""

    def reached(*arguments, **options):
        raise AssertionError("got past the checks")

    monkeypatch.setattr(ChampPipeline, "compile", reached)
    monkeypatch.setattr(ChampPipeline, "__init__", reached)


def animate(name, culprit, make, **options):
    """A case whose `make(folder)` returns further fields {name: value} of the command."""

    def arguments(folder):
        fields = {"output": folder / "out.mp4"} | make(folder)
        return [f"--config.{field}={value}" for field, value in fields.items()]

    return Case(name, "animate", arguments, culprit, **options)


def of_files(field, path, makers):
    """A case a kind of file that is where the field's file should be."""
    return [
        animate(
            f"{path}-of-{field}-{kind}",
            kinds.LONG_NAME[:200] if kind == "long-name" else path,
            lambda folder, make=make: {field: make(folder / path)},
        )
        for kind, make in makers.items()
    ]


def picture(width=32, height=32, value=128):
    return Image.fromarray(np.full((height, width, 3), value, np.uint8))


def motion_folder(folder, frames=3, conditions=(*CONDITIONS, "mask")):
    """A motion folder of small pictures."""
    for condition in conditions:
        (folder / condition).mkdir(parents=True)
        for frame in range(frames):
            picture().convert("L" if condition == "mask" else "RGB").save(folder / condition / f"{frame + 1:04}.png")
    return folder


def changed_motion(change):
    """Makes a motion folder and lets `change(folder)` spoil it."""

    def make(folder):
        motion = motion_folder(folder / "dance")
        change(motion)
        return {"motion": motion}

    return make


def changed_npz(**fields):
    """The built-in motion with other arrays in some fields; None leaves a field out."""

    def make(folder):
        with np.load(builtin.MOTION) as archive:
            arrays = {name: archive[name] for name in archive.files} | fields
        np.savez(folder / "dance.npz", **{name: array for name, array in arrays.items() if array is not None})
        return {"motion": folder / "dance.npz"}

    return make


def npy(array):
    return lambda path: kinds.content(kinds.npy(array))(path)


NOISE = {
    **kinds.NO_FILE,
    **kinds.FOREIGN,
    "npz": kinds.content(kinds.npz()),
    "picture": kinds.content(kinds.png()),
    "truncated": kinds.content(kinds.truncated(kinds.npy(np.zeros(LATENTS, np.float32)))),
    "header-alone": kinds.content(kinds.npy_header()),
    "negative-shape": kinds.content(kinds.npy_header().replace(b"(1000000000000,)", b"(-1,)           ")),
    "pickle": kinds.content(kinds.executing_pickle()),
    "objects": npy(np.array([{"a": 1}], dtype=object)),
    "other-shape": npy(np.zeros((24, 8, 16, 4), np.float32)),
    "scalar": npy(np.float32(1)),
    "integers": npy(np.zeros(LATENTS, np.int32)),
    "complex": npy(np.zeros(LATENTS, np.complex64)),
    "text": npy(np.array(["a"])),
    "nan": npy(np.full(LATENTS, np.nan, np.float32)),
    "infinite": npy(np.full(LATENTS, np.inf, np.float32)),
    "beyond-float32": npy(np.full(LATENTS, 1e300)),
}
WEIGHTS = {name: make for name, make in kinds.NO_FILE.items() if name != "folder"}
BROKEN_CONFIGS = {name: kinds.JSON[name] for name in ("empty", "html", "nested", "list", "null", "truncated", "fifo")}
MOTIONS = {name: make for name, make in kinds.ARRAYS.items() if name != "folder"}

# {field: values that it does not take}
NUMBERS = {
    "width": ("nan", "inf", "-1", "0", "1.5", "1e9", "30000", "4294967296", "text", "²"),
    "height": ("-8", "0", "1", "1000000000000", "16385"),
    "steps": ("-1", "0", "1e9", "1000000000", "1001", "nan", "text", "2.5"),
    "guidance_scale": ("nan", "inf", "-inf", "1e300", "-1", "1001", "text"),
    "seed": ("-1", "4294967296", "1e300", "nan", "text"),
    "eta": ("nan", "-0.1", "1.1", "inf", "text"),
    "fps": ("nan", "inf", "-inf", "-24", "0", "1e12", "0.001", "1e-300", "text"),
    "chunk": ("0", "-1", "1000000000", "nan", "text"),
    "devices": ("-1", "99", "1000000000000", "nan"),
    "windows.frames": ("0", "-1", "33", "1000000000", "nan"),
    "windows.overlap": ("-1", "24", "1000000000", "text"),
    "windows.stride": ("0", "-1", "1000000000", "nan"),
    "windows.batch": ("0", "-1", "1000000000", "nan"),
    "windows.scheme": ("", "closed", "SHIFTED", "0"),
    "sampler": ("", "euler", "DDIM"),
    "lora": (",", ":", "reference:", "no.safetensors:nan", "no.safetensors:1e9", "no.safetensors:²"),
    "dtype": ("", "float16", "int8"),
    "fit": ("", "stretch"),
    "conditions": ("", ",", "pose", "depth,depth", "depth,normal,depth", "mask", "depth;normal"),
    "frames": ("x", "0:31:0", "0:1000", ":-1000", "5:5", "1:2:3:4", "0:24:-1", "²:³", "0:" + "9" * 5000),
}

CASES = [
    *of_files("reference", "person.png", kinds.PICTURES),
    *of_files("motion", "dance.npz", MOTIONS),
    *of_files("noise", "noise.npy", NOISE),
    *of_files("body", "body.pkl", {name: make for name, make in kinds.ARRAYS.items() if name != "picture"}),
    *of_files(
        "jobs", "jobs.jsonl", kinds.NO_FILE | {"empty": kinds.content(b""), "binary": kinds.content(b"\xff\xfe")}
    ),
    *of_files("weights", "weights", WEIGHTS),
    *of_files("weights", "model.safetensors", kinds.SAFETENSORS),
    *of_files("lora", "lora.safetensors", kinds.SAFETENSORS),
    *of_files("output", "out.mp4", kinds.FILE_OUTPUTS),
    *of_files("latents_output", "latents.npy", kinds.FILE_OUTPUTS),
    *of_files("frames_output", "frames", kinds.FOLDER_OUTPUTS),
    *[
        animate(f"weights-config-{kind}", "config.json", lambda folder, make=make: {"weights": broken(folder, make)})
        for kind, make in BROKEN_CONFIGS.items()
    ],
    *[
        animate(f"{field}={value[:20]}", field, lambda folder, field=field, value=value: {field: value})
        for field, values in NUMBERS.items()
        for value in values
    ],
]


def broken(folder, make):
    """A folder of weights whose config.json is broken."""
    (folder / "weights").mkdir()
    make(folder / "weights" / "config.json")
    return folder / "weights"


def with_picture(*names, **fields):
    """Writes pictures of these names, and returns the fields with {folder} filled in."""

    def make(folder):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            picture().save(folder / name)
        return {name: str(value).format(folder=folder) for name, value in fields.items()}

    return make


def in_motion(**fields):
    """A motion folder `dance`, and the fields with {folder} filled in."""

    def make(folder):
        motion_folder(folder / "dance")
        values = {"motion": "{folder}/dance"} | fields
        return {name: str(value).format(folder=folder) for name, value in values.items()}

    return make


def frames_of_user(fill):
    """A folder that `fill(folder)` has filled, named as the output of frames."""

    def make(folder):
        (folder / "frames").mkdir()
        fill(folder / "frames")
        return {"frames_output": folder / "frames"}

    return make


def lora(**shapes):
    """A LoRA file of ones for the built-in model's conv_in, or what `shapes` (end of a key: shape) makes of it."""

    def make(folder):
        unet = packed.read_model(builtin.MODEL).unet
        down, up = (2, unet.in_channels, 3, 3), (unet.block_out_channels[0], 2, 1, 1)
        ends = {"lora_down.weight": down, "lora_up.weight": up} | shapes
        tensors = {f"lora_unet_conv_in.{end}": np.ones(shape, np.float32) for end, shape in ends.items() if shape}
        return {"lora": kinds.content(kinds.safetensors_file(**tensors))(folder / "lora.safetensors")}

    return make


def lora_of_nan(folder):
    path = lora()(folder)["lora"]
    tensors = safetensors.numpy.load_file(path)
    safetensors.numpy.save_file({key: array * np.float32("nan") for key, array in tensors.items()}, path)
    return {"lora": path}


def peft_folder(settings):
    def make(folder):
        file = lora()(folder)["lora"]
        (folder / "adapter").mkdir()
        file.rename(folder / "adapter" / "adapter_model.safetensors")
        settings(folder / "adapter" / "adapter_config.json")
        return {"lora": folder / "adapter"}

    return make


def onto_lora(folder):
    fields = lora()(folder)
    return fields | {"latents_output": fields["lora"]}


def foreign_record(folder):
    (folder / "out.json").write_text('{"name": "the user\'s own"}\n')
    return {}


def replaced_frame(content):
    """Puts another file where a frame's depth map was."""

    def change(motion):
        path = motion / "depth" / "0002.png"
        path.unlink()
        kinds.content(content)(path)

    return change


CASES += [
    # An output is never an input, another output or a foreign file.
    animate("output-is-json-of-user", "out.json", foreign_record),
    animate("output-without-suffix", "must end in", lambda folder: {"output": folder / "out"}),
    animate("output-gif", "must end in", lambda folder: {"output": folder / "out.gif"}),
    animate("output-dot", "must end in", lambda folder: {"output": "."}),
    animate(
        "latents-onto-reference",
        "is the input",
        with_picture("a.png", reference="{folder}/a.png", latents_output="{folder}/a.png"),
    ),
    animate(
        "latents-onto-reference-by-another-path",
        "is the input",
        with_picture("b/a.png", reference="{folder}/b/a.png", latents_output="{folder}/b/../b/a.png"),
    ),
    animate("latents-onto-video", "is the same as", lambda folder: {"latents_output": folder / "out.mp4"}),
    animate("latents-onto-record", "is the same as", lambda folder: {"latents_output": folder / "out.json"}),
    animate("latents-onto-comparison", "same as", lambda folder: {"latents_output": folder / "out_comparison.mp4"}),
    animate("video-inside-frames", "inside", lambda folder: {"frames_output": folder, "output": folder / "out.mp4"}),
    animate("frames-onto-maps", "frames_output", in_motion(frames_output="{folder}/dance/depth")),
    animate("frames-onto-motion", "frames_output", in_motion(frames_output="{folder}/dance")),
    animate("frames-inside-maps", "frames_output", in_motion(frames_output="{folder}/dance/depth/out")),
    animate("output-inside-maps", "config.output", in_motion(output="{folder}/dance/depth/out.mp4")),
    animate("frames-around-motion", "frames_output", in_motion(frames_output="{folder}")),
    animate("frames-onto-photos", "frames_output", frames_of_user(lambda path: picture().save(path / "20230101.png"))),
    animate("frames-onto-folders", "frames_output", frames_of_user(lambda path: kinds.folder(path / "0001.png"))),
    animate("frames-onto-links", "frames_output", frames_of_user(lambda path: kinds.dangling_link(path / "0001.png"))),
    animate("output-not-utf-8", "no name in UTF-8", lambda folder: {"output": f"{folder}/a\udc80.mp4"}),
    animate("output-onto-heic", "config.output", lambda folder: {"output": kinds.PICTURES["heic"](folder / "out.mp4")}),
    # Motion folders.
    animate("motion-empty-folder", "dance", lambda folder: {"motion": kinds.folder(folder / "dance")}),
    animate("motion-without-mask", "mask", changed_motion(lambda motion: rename(motion / "mask", "masks"))),
    animate("motion-without-frame", "0002", changed_motion(lambda motion: (motion / "depth/0002.png").unlink())),
    animate("motion-empty-condition", "normal", changed_motion(lambda motion: clear(motion / "normal"))),
    animate("motion-two-files-a-frame", "0001", changed_motion(lambda motion: twice(motion / "depth"))),
    animate("motion-html-frame", "depth/0002.png", changed_motion(replaced_frame(kinds.HTML))),
    animate("motion-empty-frame", "depth/0002.png", changed_motion(replaced_frame(b""))),
    animate("motion-truncated-frame", "depth/0002.png", changed_motion(replaced_frame(kinds.png(64, 64)[:90]))),
    animate("motion-bomb-frame", "depth/0002.png", changed_motion(replaced_frame(kinds.picture_header(60000, 60000)))),
    animate("motion-video", "dance.mp4", lambda folder: {"motion": kinds.content(kinds.mp4())(folder / "dance.mp4")}),
    animate("motion-comma", ",", lambda folder: {"motion": ","}),
    animate("motion-picture", "dance.png", with_picture("dance.png", motion="{folder}/dance.png")),
    # Motion files.
    animate("motion-without-betas", "dance.npz", changed_npz(betas=None)),
    animate("motion-ragged", "dance.npz", changed_npz(translation=np.zeros((3, 3), np.float32))),
    animate("motion-no-frames", "dance.npz", changed_npz(rotations=np.zeros((0, 24, 3, 3), np.float32))),
    animate("motion-nan-fps", "dance.npz", changed_npz(fps=np.float64("nan"))),
    animate("motion-zero-fps", "dance.npz", changed_npz(fps=np.float64(0))),
    animate("motion-fps-1e12", "dance.npz", changed_npz(fps=np.float64(1e12))),
    animate("motion-infinite-focal", "dance.npz", changed_npz(focal=np.full(54, np.inf, np.float32))),
    animate("motion-huge-image-size", "dance.npz", changed_npz(image_size=np.array([2**40, 2**40]))),
    animate("motion-negative-image-size", "dance.npz", changed_npz(image_size=np.array([-128, 128]))),
    animate("motion-text-fps", "dance.npz", changed_npz(fps=np.array("fast"))),
    # Limits: what is needed is compared with what there is.
    animate("larger-than-memory", "available", lambda folder: {"width": 16384, "height": 16384}),
    animate("chunk-larger-than-memory", "available", lambda folder: {"height": 1024, "chunk": 4096}),
    animate(
        "batch-larger-than-memory", "available", lambda folder: {"height": 1024, "windows.batch": 4096, "devices": 1}
    ),
    animate("wider-than-video", "16384", lambda folder: wide(folder)),
    # Weights.
    animate("weights-of-users", "weights", lambda folder: {"weights": kinds.folder(folder / "weights")}),
    # LoRA files.
    animate("lora-of-another-width", "conv_in.lora_up.weight", lora(**{"lora_up.weight": (7, 2, 1, 1)})),
    animate("lora-of-another-kernel", "conv_in.lora_down.weight", lora(**{"lora_down.weight": (2, 4, 5, 5)})),
    animate("lora-without-up", "no up factor", lora(**{"lora_up.weight": None})),
    animate("lora-of-dora", "dora_scale", lora(dora_scale=(1,))),
    animate("lora-unknown-key", "lora_mid.weight", lora(**{"lora_mid.weight": (2, 2, 3, 3)})),
    animate("lora-of-nan", "lora.safetensors", lora_of_nan),
    animate("latents-onto-lora", "is the input", onto_lora),
    *[
        animate(f"lora-settings-{kind}", "adapter_config.json", peft_folder(make))
        for kind, make in BROKEN_CONFIGS.items()
    ],
    animate("eta-of-unipc", "eta", lambda folder: {"sampler": "unipc", "eta": 0.5}),
    animate("motion-below-video", "out.mp4", lambda folder: {"output": below(folder)}),
]


TOOLS = {
    "tools/memory_by_length.py": (
        "lengths=",
        "lengths=a",
        "lengths=0",
        "lengths=-24",
        "lengths=1e9",
        "size=0",
        "size=big",
    ),
    "tools/benchmark.py": (
        *(
            "what=speed",
            "model=huge",
            "size=0",
            "size=big",
            "size=1e9",
            "frames=0",
            "frames=-1",
            "steps=0",
            "steps=nan",
        ),
        *("guidance_scale=nan", "guidance_scale=1e300", "batch=0", "chunk=0", "dtype=int8", "workers=-1", "repeats=0"),
    ),
}
CASES += [
    Case(f"{tool[6:-3]}-{option}", tool, lambda folder, option=option: [f"--{option}"], option.split("=")[0])
    for tool, options in TOOLS.items()
    for option in options
]


def rename(path, name):
    path.rename(path.with_name(name))


def clear(folder):
    for path in folder.iterdir():
        path.unlink()


def twice(folder):
    picture().save(folder / "0001.jpg")


def wide(folder):
    picture(400, 8).save(folder / "wide.png")
    return {"reference": folder / "wide.png", "height": 1024}


def below(folder):
    (folder / "file.txt").write_text("a file\n")
    return folder / "file.txt" / "out.mp4"


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hostile(case, tmp_path):
    check(case, tmp_path)


def test_the_table_is_long():
    assert len(CASES) >= 250
    assert len({case.name for case in CASES}) == len(CASES)


LINES = {
    "nested": ('{"a":' * 100_000, "nested too deeply"),
    "list": ("[]", "is not a JSON object"),
    "not-json": ("anna.png", "is not JSON"),
    "number-of-5000-digits": ('{"output": "a.mp4", "seed": ' + "9" * 5000 + "}", "line 1"),
    "unknown-field": ('{"output": "a.mp4", "guidence_scale": 2}', "guidance_scale"),
    "shared-field": ('{"output": "a.mp4", "weights": "x"}', "weights is the same for all jobs"),
    "no-output": ('{"seed": 1}', "names no output"),
    "empty-output": ('{"output": ""}', "names no output"),
    "null-character": ('{"output": "a\\u0000.mp4"}', "job 1"),
    "lone-surrogate": ('{"output": "a.mp4", "reference": "\\ud800.png"}', "job 1"),
    "output-is-a-number": ('{"output": 7}', "job 1"),
    "output-is-an-object": ('{"output": {"a": 1}}', "output"),
    "fps-zero": ('{"output": "a.mp4", "fps": 0}', "fps=0"),
    "fps-nan": ('{"output": "a.mp4", "fps": NaN}', "fps"),
    "seed-negative": ('{"output": "a.mp4", "seed": -1}', "seed=-1"),
    "output-onto-jobs-file": ('{"output": "a.mp4", "latents_output": "jobs.jsonl"}', "is the input"),
}


@pytest.mark.parametrize("name", LINES)
def test_hostile_lines_of_a_jobs_file(name, tmp_path):
    """A bad job is reported with its line, the command ends with status 2 and nothing is written."""
    line, message = LINES[name]
    (tmp_path / "jobs.jsonl").write_text(line + "\n")
    before = snapshot(tmp_path)
    result = run_command("animate", ["--config.jobs=jobs.jsonl"], tmp_path)
    assert result.status == 2, result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("job 1: error: ")]
    assert len(lines) == 1, result.stderr
    assert message in lines[0]
    assert len(lines[0]) < 2000
    assert "Traceback" not in result.stderr
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "second",
    [
        {"output": "a.mp4"},
        {"output": "folder/../a.mp4"},
        {"output": "link/a.mp4"},
        {"output": "b.mp4", "latents_output": "a.json"},
        {"output": "b.mp4", "latents_output": "a_comparison.mp4"},
    ],
    ids=lambda job: "-".join(job.values()).replace("/", "_"),
)
def test_a_job_does_not_write_over_another_ones_outputs(second, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "jobs.jsonl").write_text(
        f'{{"output": "a.mp4", "seed": -1}}\n{{"output": "a.mp4"}}\n{json.dumps(second)}\n'
    )
    result = run_command("animate", ["--config.jobs=jobs.jsonl"], tmp_path)
    assert "job 3: error: " in result.stderr
    assert "is the same as job 2" in result.stderr
