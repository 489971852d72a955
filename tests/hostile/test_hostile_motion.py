"""Hostile inputs of the tools that import, align and draw motions: a table over every format and every field."""

import pickle
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import kinds
from hostile.harness import Case, check

from champ_jax.body.body_files import SMPL_PARENTS

IMPORT, ALIGN, RENDER = (f"tools/{name}.py" for name in ("import_motion", "align_motion", "render_conditions"))
FRAMES = 3

# Good data of every format, to be spoiled one field at a time.


def _turns(joints: int, *axes: int) -> np.ndarray:
    return np.tile(np.eye(3, dtype=np.float32), (*axes, joints, 1, 1))


def motion() -> dict[str, Any]:
    return {
        "rotations": _turns(24, FRAMES),
        "betas": np.zeros(10, np.float32),
        "translation": np.full((FRAMES, 3), 5.0, np.float32),
        "focal": np.full(FRAMES, 500.0, np.float32),
        "image_size": np.array([64, 64]),
        "fps": np.array(25.0),
        "valid": np.ones(FRAMES, bool),
        "body": np.array("open"),
        "keypoints": np.ones((FRAMES, 134, 3), np.float32),
        "camera_rotations": np.tile(np.eye(3, dtype=np.float32), (FRAMES, 1, 1)),
        "camera_focal": np.full(FRAMES, 500.0, np.float32),
    }


def mesh() -> dict[str, Any]:
    return {
        "vertices": np.ones((FRAMES, 4, 3), np.float32),
        "faces": np.array([[0, 1, 2], [1, 2, 3]]),
        "parts": np.zeros(4, int),
        "translation": np.full((FRAMES, 3), 5.0),
        "focal": np.full(FRAMES, 500.0),
        "image_size": np.array([64, 64]),
    }


def body() -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "v_template": rng.normal(size=(30, 3)),
        "shapedirs": rng.normal(size=(30, 3, 10)),
        "posedirs": np.zeros((30, 3, 207)),
        "J_regressor": np.full((24, 30), 1 / 30),
        "weights": np.full((30, 24), 1 / 24),
        "kintree_table": np.stack([SMPL_PARENTS, np.arange(24)]),
        "f": rng.integers(0, 30, (50, 3)),
    }


def amass() -> dict[str, Any]:
    return {
        "poses": np.zeros((FRAMES, 156)),
        "trans": np.zeros((FRAMES, 3)),
        "betas": np.zeros(16),
        "mocap_framerate": np.array(120.0),
    }


def wham() -> dict[str, Any]:
    return {
        "0": {
            "pose": np.zeros((FRAMES, 72)),
            "trans": np.full((FRAMES, 3), 5.0),
            "betas": np.zeros((FRAMES, 10)),
            "frame_ids": np.arange(FRAMES),
        }
    }


def nlf() -> dict[str, Any]:
    return {"pose": np.zeros((FRAMES, 72)), "betas": np.zeros((FRAMES, 10)), "trans": np.full((FRAMES, 3), 5.0)}


def phalp() -> dict[str, Any]:
    smpl = {"global_orient": _turns(1), "body_pose": _turns(23), "betas": np.zeros(10)}
    return {
        f"{frame:04}.jpg": {
            "time": frame,
            "tid": [1],
            "tracked_time": [0],
            "smpl": [dict(smpl)],
            "camera": [np.array([0.0, 0.0, 40.0])],
            "size": [[64, 64]],
        }
        for frame in range(FRAMES)
    }


def gvhmr() -> dict[str, Any]:
    return {
        "smpl_params_incam": {
            "global_orient": np.zeros((FRAMES, 3)),
            "body_pose": np.zeros((FRAMES, 63)),
            "betas": np.zeros((FRAMES, 10)),
            "transl": np.full((FRAMES, 3), 5.0),
        },
        "K_fullimg": np.tile([[500.0, 0, 32], [0, 500, 32], [0, 0, 1]], (FRAMES, 1, 1)),
    }


def prompthmr() -> dict[str, Any]:
    smplx = {"rotmat": _turns(55, FRAMES), "shape": np.zeros((FRAMES, 10)), "trans": np.full((FRAMES, 3), 5.0)}
    return {
        "camera": {"img_focal": 500.0, "img_center": np.array([32.0, 32.0])},
        "people": {"1": {"frames": np.arange(FRAMES), "smplx_cam": smplx}},
    }


def tram() -> dict[str, Any]:
    return {
        "pred_rotmat": _turns(24, FRAMES),
        "pred_shape": np.zeros((FRAMES, 10)),
        "pred_trans": np.full((FRAMES, 1, 3), 5.0),
        "frame": np.arange(FRAMES),
    }


def camera() -> dict[str, Any]:
    return {"img_focal": 500.0, "img_center": np.array([32.0, 32.0])}


def reference() -> dict[str, Any]:
    smpls = {"global_orient": _turns(1, 1), "body_pose": _turns(23, 1), "betas": np.zeros((1, 10))}
    return {
        "smpls": smpls,
        "cam_t": [np.array([0.0, 0.0, 40.0])],
        "render_res": np.array([64.0, 64.0]),
        "scaled_focal_length": np.array(1250.0),
    }


def group() -> dict[str, Any]:
    frame = reference()["smpls"]
    return {
        "smpl": np.array([frame] * FRAMES, dtype=object),
        "camera": np.full((FRAMES, 3), 5.0),
        "scaled_focal_length": np.array(1250.0),
        "render_res": np.array([64.0, 64.0]),
    }


# What a field may hold instead.

SPOILED: dict[str, Callable[[Any], Any]] = {
    "none": lambda value: None,
    "text": lambda value: np.full(np.shape(value), "text"),
    "empty": lambda value: np.zeros(0),
    "short": lambda value: np.asarray(value)[..., :-1] if np.ndim(value) else np.zeros((2, 2)),
    "complex": lambda value: np.full(np.shape(value), 1 + 1j),
    "nan": lambda value: np.full(np.shape(value), np.nan),
    "infinite": lambda value: np.full(np.shape(value), -np.inf),
    "huge": lambda value: np.full(np.shape(value), 1e300),
    "ragged": lambda value: [[1.0], [1.0, 2.0]],
    "mapping": lambda value: {"a": 1},
}
# Not hostile: optional fields left out, fewer betas, an ID that is another number, a time that sorts.
HARMLESS = {
    *(("betas", "short"), ("pred_shape", "short"), ("shape", "short")),
    *(("keypoints", "none"), ("scaled_focal_length", "none"), ("render_res", "none")),
    *((name, kind) for name in ("tracked_time", "size") for kind in ("none", "empty")),
    *(("tracked_time", "short"), ("time", "short"), ("space", "text")),
}


def fields(data: dict[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The places of all values in nested dictionaries; of PHALP's frames only the first's."""
    for name, value in list(data.items())[: 1 if all(key.endswith(".jpg") for key in data) else None]:
        if isinstance(value, dict):
            yield from fields(value, (*prefix, name))
        else:
            yield (*prefix, name)


def spoil(data: dict[str, Any], place: tuple[str, ...], kind: str) -> dict[str, Any]:
    """The data with one value replaced; where it is a list over people, the first person's."""
    inner = data
    for name in place[:-1]:
        inner = inner[name]
    value = inner[place[-1]]
    if isinstance(value, list) and kind not in ("none", "empty") and isinstance(value[0], np.ndarray):
        inner[place[-1]] = [SPOILED[kind](value[0])]
    elif isinstance(value, list) and isinstance(value[0], dict) and kind not in ("none", "empty"):
        inner[place[-1]] = [{"global_orient": None, "body_pose": _turns(23), "betas": np.zeros(10)}]
    else:
        inner[place[-1]] = SPOILED[kind](value)
    return data


def write(path: Path, data: dict[str, Any]) -> Path:
    """By the suffix: .pkl, .npz, or an .npy that holds the dictionary."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".pkl":
        path.write_bytes(pickle.dumps(data, protocol=2))
    elif path.suffix == ".npz":
        np.savez(path, **{name: as_array(value) for name, value in data.items()})
    else:
        np.save(path, as_array(data))
    return path


def as_array(value: Any) -> np.ndarray:
    if isinstance(value, np.ndarray | float | int):
        return np.asarray(value)
    array = np.empty((), object)
    array[()] = value
    return array


def importing(name: str, make: Callable[[], dict], place: tuple[str, ...], kind: str) -> Callable[[Path], list[str]]:
    def arguments(folder: Path) -> list[str]:
        path = write(folder / name, spoil(make(), place, kind))
        if name == "hps_track_0.npy":
            write(folder / "camera.npy", camera())
        elif name == "camera.npy":
            path = write(folder / "hps_track_0.npy", tram())
        return [
            f"--input={path}",
            f"--output={folder / 'out.npz'}",
            *(["--image_size=64x64"] if make in (wham, nlf) else []),
        ]

    return arguments


FORMATS: dict[str, Callable[[], dict[str, Any]]] = {
    "motion.npz": motion,
    "amass.npz": amass,
    "wham_output.pkl": wham,
    "nlf.npz": nlf,
    "phalp.pkl": phalp,
    "gvhmr.pkl": gvhmr,
    "prompthmr.pkl": prompthmr,
    "hps_track_0.npy": tram,
    "camera.npy": camera,
    "0001.npy": reference,
    "smpls_group.npz": group,
}


def drawing(field: str, kind: str) -> Callable[[Path], list[str]]:
    return lambda folder: [
        f"--motion={write(folder / 'mesh.npz', spoil(mesh(), (field,), kind))}",
        f"--output={folder / 'maps'}",
    ]


def posing(tool: str, field: str, kind: str) -> Callable[[Path], list[str]]:
    def arguments(folder: Path) -> list[str]:
        path = write(folder / "motion.npz", motion() | {"body": np.array("smpl")})
        spoiled = write(folder / "body.npz", spoil(body(), (field,), kind))
        output = "maps" if tool is RENDER else "aligned.npz"
        reference = [] if tool is RENDER else [f"--reference={path}"]
        return [f"--motion={path}", *reference, f"--body={spoiled}", f"--output={folder / output}"]

    return arguments


def field_cases() -> Iterator[Case]:
    """Every field of every format, spoiled in every way."""
    for name, make in FORMATS.items():
        for place in fields(make()):
            for kind in SPOILED:
                if (place[-1], kind) not in HARMLESS:
                    yield Case(f"{name}-{'.'.join(place)}-{kind}", IMPORT, importing(name, make, place, kind), name)
    for field in mesh():
        for kind in SPOILED:
            yield Case(f"mesh-{field}-{kind}", RENDER, drawing(field, kind), "mesh.npz")
    for field in body():
        for kind in SPOILED:
            if (field, kind) not in (("v_template", "huge"), ("betas", "short")):
                tool = ALIGN if kind in ("none", "nan", "short") else RENDER
                yield Case(f"body-{field}-{kind}", tool, posing(tool, field, kind), "body.npz")


NUMBERS = ("nan", "inf", "-inf", "-5", "1e300", "1e12", "text", "", "²")
OPTIONS = {
    IMPORT: ("fps", "resample", "smooth", "fill_gaps", "focal", "image_size", "frames", "space", "person"),
    ALIGN: ("camera", "depth", "fit", "anchor", "fill_gaps", "smooth", "turn", "tilt", "scale"),
    RENDER: ("size", "workers", "backend", "conditions"),
}
UNBOUNDED = {("person", ""), *((name, "-5") for name in ("turn", "tilt", "scale", "frames"))}


def with_option(tool: str, option: str) -> Callable[[Path], list[str]]:
    def arguments(folder: Path) -> list[str]:
        path = write(folder / "motion.npz", motion())
        if tool is IMPORT:
            path = write(folder / "wham.pkl", wham())
            return [f"--input={path}", "--image_size=64x64", f"--output={folder / 'out.npz'}", option]
        reference = [f"--reference={path}"] if tool is ALIGN else []
        return [f"--motion={path}", *reference, f"--output={folder / 'out.npz'}", option]

    return arguments


def option_cases() -> Iterator[Case]:
    """Every number and choice of the command lines."""
    for tool, options in OPTIONS.items():
        for option in options:
            for value in NUMBERS:
                if (option, value) not in UNBOUNDED:
                    yield Case(
                        f"{Path(tool).stem}-{option}={value}",
                        tool,
                        with_option(tool, f"--{option}={value}"),
                        "person" if option == "person" else option.removeprefix("--"),
                    )


def file_cases() -> Iterator[Case]:
    """Something else where a file is meant, and outputs that must not be written."""

    def given(tool: str, option: str, make: kinds.Maker, name: str) -> Callable[[Path], list[str]]:
        def arguments(folder: Path) -> list[str]:
            good = write(folder / "motion.npz", motion())
            files = {"input": good} if tool is IMPORT else {"motion": good}
            files |= {"reference": good} if tool is ALIGN else {}
            files |= {option: make(folder / name)}
            output = {} if option == "output" else {"output": folder / ("maps" if tool is RENDER else "out.npz")}
            return [f"--{name}={path}" for name, path in (files | output).items()]

        return arguments

    for tool, option in ((IMPORT, "input"), (ALIGN, "motion"), (ALIGN, "body"), (RENDER, "motion"), (RENDER, "body")):
        for kind, make in {**kinds.ARRAYS, "long-name": kinds.long_name}.items():
            culprit = kinds.LONG_NAME[:9] if kind == "long-name" else "given.npz"
            yield Case(f"{Path(tool).stem}-{option}-{kind}", tool, given(tool, option, make, "given.npz"), culprit)
    for kind, make in kinds.PICTURES.items():
        yield Case(f"render-picture-{kind}", RENDER, given(RENDER, "picture", make, "given.png"), "given.png")
    for tool in (IMPORT, ALIGN):
        for kind, make in kinds.FILE_OUTPUTS.items():
            culprit = kinds.LONG_NAME[:9] if kind == "long-name" else "given.npz"
            yield Case(f"{Path(tool).stem}-output-{kind}", tool, given(tool, "output", make, "given.npz"), culprit)
    for kind, make in kinds.FOLDER_OUTPUTS.items():
        if kind not in ("folder-of-user", "link-to-folder"):  # pictures may be added to a folder that has none
            culprit = kinds.LONG_NAME[:9] if kind == "long-name" else "maps"
            yield Case(f"render-output-{kind}", RENDER, given(RENDER, "output", make, "maps"), culprit)


def special_cases() -> Iterator[Case]:
    """What no table says."""

    def imported(name: str, data: Any, *options: str) -> Callable[[Path], list[str]]:
        return lambda folder: [f"--input={write(folder / name, data)}", f"--output={folder / 'out.npz'}", *options]

    def frames(*names: str) -> Callable[[Path], list[str]]:
        def arguments(folder: Path) -> list[str]:
            for name in names:
                write(folder / "frames" / name, reference())
            return [f"--input={folder / 'frames'}", f"--output={folder / 'out.npz'}"]

        return arguments

    size = "--image_size=64x64"
    far = wham()
    far["0"]["frame_ids"] = np.array([0, 1, 10**9])
    twice = wham()
    twice["0"]["frame_ids"] = np.array([0, 1, 1])
    yield Case("frame-number-of-a-billion", IMPORT, imported("wham.pkl", far, size), "wham.pkl")
    yield Case("frame-numbers-repeat", IMPORT, imported("wham.pkl", twice, size), "wham.pkl")
    yield Case("frames-to-a-billion", IMPORT, frames("0001.npy", "1000000000.npy"), "1000000000.npy")
    yield Case("frames-of-one-number", IMPORT, frames("a-01.npy", "b-01.npy"), "b-01.npy")
    yield Case(
        "image-size-beyond-int32", IMPORT, imported("wham.pkl", wham(), "--image_size=4294967296x64"), "--image_size"
    )
    yield Case("empty-result", IMPORT, imported("wham.pkl", {}), "wham.pkl")
    yield Case("nobody", IMPORT, imported("phalp.pkl", {"0.jpg": {"tid": [], "smpl": [], "camera": []}}), "phalp.pkl")
    yield Case("person-of-many", IMPORT, imported("wham.pkl", wham(), size, "--person=0,7"), "person 7")
    yield Case("mesh-to-import", IMPORT, imported("mesh.npz", mesh()), "mesh.npz")
    yield Case(
        "resample-to-too-many",
        IMPORT,
        imported("amass.npz", amass() | {"mocap_framerate": np.array(0.001)}, "--resample=1000"),
        "frames",
    )
    outside = mesh() | {"faces": np.array([[0, 1, 9]])}
    yield Case(
        "mesh-faces-outside",
        RENDER,
        lambda folder: [f"--motion={write(folder / 'mesh.npz', outside)}", f"--output={folder / 'maps'}"],
        "mesh.npz",
    )
    behind = mesh() | {"translation": np.full((FRAMES, 3), -5.0)}
    yield Case(
        "mesh-behind-the-camera",
        RENDER,
        lambda folder: [f"--motion={write(folder / 'mesh.npz', behind)}", f"--output={folder / 'maps'}"],
        "frame 0",
    )
    yield Case(
        "mesh-picture-too-large",
        RENDER,
        lambda folder: [
            f"--motion={write(folder / 'mesh.npz', mesh())}",
            f"--output={folder / 'maps'}",
            "--size=60000x60000",
        ],
        "60000x60000",
    )
    yield Case(
        "video-to-render",
        RENDER,
        lambda folder: [f"--motion={kinds.content(kinds.mp4())(folder / 'dance.mp4')}", f"--output={folder / 'maps'}"],
        "dance.mp4",
    )
    yield Case(
        "import-onto-input",
        IMPORT,
        lambda folder: [
            f"--input={write(folder / 'motion.npz', motion())}",
            f"--output={folder / 'x' / '..' / 'motion.npz'}",
        ],
        "--output",
    )
    yield Case(
        "align-onto-reference",
        ALIGN,
        lambda folder: [
            f"--motion={write(folder / 'motion.npz', motion())}",
            f"--reference={write(folder / 'ref.npz', motion())}",
            f"--output={folder / 'ref.npz'}",
        ],
        "--output",
    )
    yield Case(
        "import-into-input",
        IMPORT,
        lambda folder: [*frames("0001.npy")(folder)[:1], f"--output={folder / 'frames' / 'out.npz'}"],
        "--output",
    )
    yield Case(
        "render-into-input",
        RENDER,
        lambda folder: [
            f"--motion={write(folder / 'frames' / '0001.npy', reference()).parent}",
            f"--output={folder / 'frames' / 'maps'}",
        ],
        "--output",
    )


def amplified() -> dict[str, bytes]:
    """Pickles of a few hundred kB whose thousands of records would each copy one large argument."""
    count = 100_000
    size = struct.pack("<I", count)
    dtype = b"cnumpy\ndtype\n(X\x02\0\0\0f8\x89\x88tR(K\x03X\x01\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\0\x85C\x01btR"
    of_bytes = array + b"(K\x01J" + struct.pack("<I", count // 8) + b"\x85" + dtype + b"\x89h\x01tb"
    of_indices = b"cchumpy.ch\nSelect\n)\x81}(X\x01\0\0\0aK\x07X\x04\0\0\0idxsh\x01ub"
    repeated = {
        "arrays": (b"B" + size + bytes(count), of_bytes),
        "bytes": (b"X" + size + b"A" * count, b"c_codecs\nencode\nh\x01X\x06\0\0\0latin1\x86R"),
        "lists": (b"(" + b"K\x01" * count + b"t", b"cbuiltins\nlist\nh\x01\x85R"),
        "views": (b"](" + b"K\0" * count + b"e", of_indices),
    }
    return {name: b"\x80\x04" + shared + b"q\x01(" + one * 10_000 + b"t." for name, (shared, one) in repeated.items()}


def rooted(tool: str, option: str, value: Any) -> Callable[[Path], list[str]]:
    def arguments(folder: Path) -> list[str]:
        good = write(folder / "motion.npz", motion() | {"body": np.array("smpl")})
        files = {"input": good} if tool is IMPORT else {"motion": good}
        files |= {"reference": good} if tool is ALIGN else {}
        files |= {option: kinds.content(pickle.dumps(value))(folder / "root.pkl"), "output": folder / "out.npz"}
        return [f"--{name}={path}" for name, path in files.items()]

    return arguments


ROOTS: dict[str, Any] = {
    "number": 3,
    "numpy-number": np.float64(3),
    "text": "a motion",
    "bytes": b"a motion",
    "none": None,
    "set": {1},
    "empty-set": set(),
    "empty-rows": np.zeros((0, 3)),
    "row": np.arange(5),
    "objects": np.array([{"a": 1}, None], object),
    "ragged": [[1.0], [1.0, 2.0]],
    "numbers-as-names": {1: 2, (1, 2): 3, None: 4},
    "frames-of-nothing": {"0001.jpg": None},
    "people-of-nothing": {0: None, 1: []},
}
"""What may be at the root of a file of arrays instead of named values."""


def pickle_cases() -> Iterator[Case]:
    for tool, option in ((IMPORT, "input"), (ALIGN, "motion"), (RENDER, "motion"), (RENDER, "body")):
        for kind, value in ROOTS.items():
            yield Case(f"{Path(tool).stem}-{option}-root-{kind}", tool, rooted(tool, option, value), "root.pkl")
    for name, data in amplified().items():
        yield Case(
            f"pickle-of-ten-thousand-{name}",
            IMPORT,
            lambda folder, data=data: [
                f"--input={kinds.content(data)(folder / 'in.pkl')}",
                f"--output={folder / 'out.npz'}",
            ],
            "in.pkl",
        )


CASES = [*field_cases(), *pickle_cases(), *option_cases(), *file_cases(), *special_cases()]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hostile(case, tmp_path):
    check(case, tmp_path)
