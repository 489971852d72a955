"""Hostile inputs of the tools that make and read datasets."""

import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hostile import kinds
from hostile.harness import Case, check
from PIL import Image
from tiny_videos import KINDS, write_video

from champ_jax.body.authored import load_authored
from champ_jax.common.locks import hold_folder
from champ_jax.data.build import build_dataset

BUILD, READ = "tools/build_dataset.py", "champ_jax/data/benchmark.py"
PEOPLE, SHEET, RESULTS = "tools/make_people.py", "tools/make_people_sheet.py", "tools/make_results_sheet.py"
DRIVERS, MOTIONS, PACK, PREDICT = (
    f"tools/{name}.py" for name in ("make_drivers", "make_motions", "pack_people", "predict_held_out")
)
REPORT = ("out", "out/report.json")  # what a build that finds no usable video leaves


def video(folder: Path, name: str = "in/a", frames: int = 3) -> Path:
    return write_video(folder / name, frames, size=(16, 16))


@functools.cache
def _dataset() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="hostile-dataset-"))
    build_dataset([video(folder).parent], folder / "out")
    shutil.rmtree(folder / "in")
    return folder / "out"


def dataset(folder: Path) -> Path:
    """A dataset of one video; returns the folder of its part."""
    shutil.copytree(_dataset(), folder / "out")
    return folder / "out" / "videos" / "part-00000" / "1.0.0"


def read_arguments(folder: Path) -> list[str]:
    # Absolute, for parts stay open in a process under their paths.
    return [f"--data={folder / 'out'}", "--size=16", "--workers=0", "--seconds=0.01"]


@pytest.fixture(scope="module", autouse=True)
def _remove_dataset():
    yield
    if _dataset.cache_info().currsize:
        shutil.rmtree(_dataset().parent)


def with_video(*arguments: str) -> Callable[[Path], Sequence[str]]:
    """A good video in in/a, and these arguments."""
    return lambda folder: (video(folder), ["--source=in", "--output=out", "--workers=1", *arguments])[1]


def sources() -> list[Case]:
    def named(make: kinds.Maker) -> Callable[[Path], Sequence[str]]:
        return lambda folder: [f"--source={make(folder / 'videos')}", "--output=out"]

    wrong = {**kinds.NO_FILE, **kinds.FOREIGN, "long-name": kinds.long_name, "zip": kinds.content(kinds.zip_file())}
    cases = [
        Case(f"build-source-{kind}", BUILD, named(make), "n" * 9 if kind == "long-name" else "videos")
        for kind, make in wrong.items()
    ]

    def empty(folder: Path) -> list[str]:
        (folder / "videos" / "a" / "images").mkdir(parents=True)
        return ["--source=videos", "--output=out", "--conditions=depth"]

    def closed(folder: Path) -> list[str]:
        video(folder)
        (folder / "in" / "closed").mkdir(mode=0)
        return ["--source=in", "--output=out"]

    cases += [
        Case("build-source-empty-video", BUILD, empty, "videos/a", may_leave=REPORT),
        Case("build-source-closed-inside", BUILD, closed, "in/closed"),
        Case("build-source-none", BUILD, lambda folder: ["--output=out"], "--source"),
    ]
    return cases


def outputs() -> list[Case]:
    cases = []
    for kind, make in kinds.FOLDER_OUTPUTS.items():

        def build(folder: Path, make: kinds.Maker = make) -> list[str]:
            video(folder)
            return ["--source=in", "--workers=1", f"--output={make(folder / 'result')}"]

        def people(folder: Path, make: kinds.Maker = make) -> list[str]:
            return ["--count=1", "--frames=1", f"--output={make(folder / 'result')}"]

        culprit = "nnn" if kind == "long-name" else "result"
        cases += [
            Case(f"build-output-{kind}", BUILD, build, culprit),
            Case(f"people-output-{kind}", PEOPLE, people, culprit),
        ]
    for kind, make in kinds.FILE_OUTPUTS.items():

        def sheet(folder: Path, make: kinds.Maker = make) -> list[str]:
            return [f"--output={make(folder / 'result.png')}"]

        culprit = "nnn" if kind == "long-name" else "result"
        cases.append(Case(f"sheet-output-{kind}", SHEET, sheet, culprit))
        if kind not in ("long-name", "below-a-file", "read-only-folder", "proc"):

            def motions(folder: Path, make: kinds.Maker = make) -> list[str]:
                make(folder / "wave.npz")
                return [f"--output={folder}"]

            def drivers(folder: Path, make: kinds.Maker = make) -> list[str]:
                held_out(folder)
                make(folder / "out" / "aligned" / "b.npz")
                return ["--held_out=test", "--output=out"]

            cases += [
                Case(f"motions-output-{kind}", MOTIONS, motions, "wave"),
                Case(f"drivers-output-{kind}", DRIVERS, drivers, "b"),
            ]
    for name, output, culprit in (
        ("source", "in", "in"),
        ("video", "in/a", "in/a"),
        ("inside-video", "in/a/images/out", "in/a"),
        ("around-source", ".", "--output=."),
    ):
        make = with_video(f"--output={output}")
        cases.append(Case(f"build-output-{name}", BUILD, make, culprit))
    return cases


def pictures() -> list[Case]:
    cases = []
    for picture in ("images", "semantic_map", "mask"):
        for kind, make in kinds.PICTURES.items():
            if picture != "images" and kind not in ("empty", "lfs-pointer", "truncated", "bomb", "no-permission"):
                continue

            def broken(folder: Path, make: kinds.Maker = make, picture: str = picture) -> list[str]:
                path = video(folder) / picture / "0002.png"
                path.unlink()
                make(path)
                return ["--source=in", "--output=out", "--workers=1"]

            name = f"build-{picture}-{kind}"
            # Whatever is not a regular file is passed over, so the frame is missing.
            cases.append(Case(name, BUILD, broken, f"{picture}/0002", may_leave=REPORT))

    def deep(folder: Path) -> list[str]:
        Image.fromarray(np.zeros((16, 16), np.uint16)).save(video(folder) / "depth" / "0001.png")
        return ["--source=in", "--output=out", "--workers=1"]

    def sizes(folder: Path) -> list[str]:
        Image.new("RGB", (16, 20)).save(video(folder) / "normal" / "0003.png")
        return ["--source=in", "--output=out", "--workers=1"]

    def hidden(folder: Path) -> list[str]:
        path = video(folder, frames=1)
        for kind in KINDS:
            (path / kind / "0001.png").rename(path / kind / ".DS_Store")
        return ["--source=in", "--output=out", "--workers=1"]

    def digits(folder: Path) -> list[str]:
        path = video(folder)
        for kind in KINDS:
            (path / kind / "0003.png").rename(path / kind / "²²².png")
        (path / "depth" / "²²².png").unlink()
        return ["--source=in", "--output=out", "--workers=1"]

    cases += [
        Case(f"build-frames-{make.__name__}", BUILD, make, culprit, may_leave=REPORT)
        for make, culprit in (
            (deep, "depth/0001.png"),
            (sizes, "normal/0003.png"),
            (hidden, "images"),
            (digits, "depth/²²²"),
        )
    ]
    return cases


def boxes() -> list[Case]:
    values = {
        "too-few": "[[1, 2, 3, 4]]",
        "not-boxes": '["a", 1, {}]',
        "three-numbers": "[[1, 2, 3], null, null]",
        "text-numbers": '[["a", "b", "c", "d"], null, null]',
        "nan": "[[NaN, 2, 3, 4], null, null]",
        "infinite": "[[1, 2, Infinity, 4], null, null]",
        "huge": f"[[1, 2, {'9' * 400}, 4], null, null]",
        "empty-box": "[[5, 5, 5, 5], null, null]",
        "inverted": "[[9, 9, 1, 1], null, null]",
        "ragged": "[[[1], 2, 3, 4], null, null]",
        "nested-deeply": f"[{'[' * 900}1{']' * 900}, null, null]",
    }
    made = {name: kinds.content(text.encode()) for name, text in values.items()}
    wrong = {kind: make for kind, make in kinds.JSON.items() if kind != "missing"}
    cases = []
    for kind, make in {**wrong, **made}.items():

        def broken(folder: Path, make: kinds.Maker = make) -> list[str]:
            make(video(folder) / "human_bbox.json")
            return ["--source=in", "--output=out", "--workers=1"]

        cases.append(Case(f"build-boxes-{kind}", BUILD, broken, "human_bbox.json", may_leave=REPORT))
    return cases


def parts() -> list[Case]:
    """A dataset, damaged, that is read and built on."""
    cases = []
    for file, group in (
        *((name, kinds.JSON) for name in ("metadata.json", "dataset_info.json", "features.json")),
        ("videos-train.array_record-00000-of-00001", {**kinds.NO_FILE, **kinds.FOREIGN}),
    ):
        for kind, make in group.items():

            def broken(folder: Path, make: kinds.Maker = make, file: str = file) -> Path:
                path = dataset(folder) / file
                path.unlink()
                return make(path)

            def read(folder: Path, broken: Callable = broken) -> list[str]:
                broken(folder)
                return read_arguments(folder)

            cases.append(Case(f"read-{file[:8]}-{kind}", READ, read, "part-00000"))
            if file == "metadata.json":

                def build(folder: Path, broken: Callable = broken) -> list[str]:
                    broken(folder)
                    return with_video()(folder)

                cases.append(Case(f"build-on-{file[:8]}-{kind}", BUILD, build, "part-00000"))
    return cases


def listings() -> list[Case]:
    """Parts whose files are whole, but say what is not so."""

    def change(**changes) -> Callable[[dict], None]:
        def apply(listing: dict) -> None:
            for name, value in changes.items():
                *parents, last = name.split("__")
                node = listing
                for parent in parents:
                    node = node[int(parent) if parent.isdecimal() else parent]
                node[last] = value

        return apply

    changes = {
        "kinds-text": change(kinds="images"),
        "kinds-unknown": change(kinds=["images", "../.."]),
        "kinds-none": change(kinds=[]),
        "kinds-number": change(kinds=3),
        "pieces-none": change(pieces=[]),
        "pieces-text": change(pieces="abc"),
        "count-negative": change(pieces__0__count=-1),
        "count-huge": change(pieces__0__count=10**9),
        "count-fraction": change(pieces__0__count=1.5),
        "first-negative": change(pieces__0__first=-1),
        "frames-text": change(pieces__0__video__frames="3"),
        "frames-more": change(pieces__0__video__frames=4, pieces__0__count=4),
        "size-zero": change(pieces__0__video__size=[0, 16]),
        "size-long": change(pieces__0__video__size=[16, 16, 16]),
        "name-number": change(pieces__0__video__name=7),
        "field-unknown": change(pieces__0__unknown=7),
    }
    cases = []
    for name, apply in changes.items():

        def read(folder: Path, apply: Callable = apply) -> list[str]:
            path = dataset(folder) / "metadata.json"
            listing = json.loads(path.read_text())
            apply(listing)
            path.write_text(json.dumps(listing))
            return read_arguments(folder)

        cases.append(Case(f"read-listing-{name}", READ, read, "part-00000"))

    def other_size(folder: Path) -> list[str]:
        path = dataset(folder) / "metadata.json"
        path.write_text(path.read_text().replace("[16, 16]", "[32, 8]"))
        return read_arguments(folder)

    def importing(folder: Path) -> list[str]:
        """TFDS imports the module that features.json names: here one that is in the working directory."""
        (folder / "stranger.py").write_text("open('executed', 'w')")
        path = dataset(folder) / "features.json"
        name = '"pythonClassName": "'
        start, _, rest = path.read_text().partition(name)
        path.write_text(f'{start}{name}stranger.Image"{rest[rest.index(chr(34)) + 1 :]}')
        return read_arguments(folder)

    def flipped(folder: Path) -> list[str]:
        path = next(dataset(folder).glob("*array_record*"))
        data = bytearray(path.read_bytes())
        data[200] ^= 1
        path.write_bytes(data)
        return read_arguments(folder)

    def half(folder: Path) -> list[str]:
        path = next(dataset(folder).glob("*array_record*"))
        path.write_bytes(path.read_bytes()[: 1 << 16])
        return read_arguments(folder)

    def renamed(folder: Path) -> list[str]:
        part = dataset(folder).parent
        part.rename(part.with_name("part-0 (copy)"))
        return read_arguments(folder)

    def mixed(folder: Path) -> list[str]:
        part = dataset(folder).parent
        shutil.copytree(part, part.with_name("part-00001"))
        path = part.with_name("part-00001") / "1.0.0" / "metadata.json"
        path.write_text(path.read_text().replace('"depth", ', ""))
        return read_arguments(folder)

    cases += [
        Case(f"read-part-{make.__name__}", READ, make, culprit)
        for make, culprit in (
            (other_size, "in/a/"),
            (importing, "features.json"),
            (flipped, "part-00000"),
            (half, "part-00000"),
            (renamed, "part-0 (copy)"),
            (mixed, "part-00001"),
        )
    ]
    return cases


def settings() -> list[Case]:
    cases = []
    wrong = {
        "workers": ("nan", "inf", "-1", "0", "1e9", "1000000000", "text", "", "²", "1.5"),
        "conditions": ("", ",", "depth,depth", "depth,pose", "images", "../depth"),
    }
    for option, values in wrong.items():
        cases += [
            Case(f"build-{option}-{value or 'empty'}", BUILD, with_video(f"--{option}={value}"), f"--{option}")
            for value in values
        ]
    cached = {
        "size": ("", "512", "0x0", "16x0", "-16x16", "1e3x16", "999999x999999", "²x²", "nanxnan"),
        "crop": ("random", "box", "", "Center"),
        "resize": ("fit", ""),
        "batch_size": ("0", "-1", "1e9", "1000000000", "nan", ""),
        "dtype": ("float16", "", "int8"),
    }
    for option, values in cached.items():
        for value in values:

            def make(folder: Path, option: str = option, value: str = value) -> list[str]:
                dataset(folder)
                return ["--output=out", "--cache_latents", "--weights=weights", f"--{option}={value}"]

            culprit = "image_size" if value in ("0x0", "16x0", "999999x999999") else option
            cases.append(Case(f"cache-{option}-{value or 'empty'}", BUILD, make, culprit))
    people = {
        "count": ("nan", "-1", "0", "1e9", "2000000000", "1000000000000", "text", "", "²"),
        "frames": ("-1", "0", "1000000000", "nan"),
        "workers": ("-1", "0", "1000000000", "nan"),
        "videos_per_identity": ("-1", "0", "nan"),
        "test_share": ("-0.1", "1.5", "nan", "inf", "text", ""),
        "seed": ("-1", "nan", "1e3"),
        "size": ("", "128", "8x8", "16x15", "999999x999999", "-16x16", "16x16x16", "²²x²²"),
    }
    for option, values in people.items():
        for value in values:
            given = {"count": "1", "frames": "1", "workers": "1"} | {option: value}
            arguments = [f"--{name}={text}" for name, text in given.items()]
            culprit = "out: needs" if value == "2000000000" else option  # more than any disk has
            name = f"people-{option}-{value or 'empty'}"
            cases.append(Case(name, PEOPLE, lambda folder, given=arguments: ["--output=out", *given], culprit))
    read = {"size": ("0", "15", "nan", "1e9", "1000000000"), "workers": ("-1", "1.5", "5000"), "seconds": ("nan", "0")}
    cases += [
        Case(f"read-{option}-{value}", READ, lambda folder, given=f"--{option}={value}": [given], f"--{option}")
        for option, values in read.items()
        for value in values
    ]
    cases += [
        Case(f"sheet-seed-{value}", SHEET, lambda folder, value=value: ["--output=a.png", f"--seed={value}"], "--seed")
        for value in ("-1", "nan", "1e3", "text")
    ]
    return cases


def people() -> list[Case]:
    """A folder of people whose record is damaged, or of another run."""
    cases = []
    for kind, make in kinds.JSON.items():
        if kind in ("missing", "dangling-link"):
            continue

        def broken(folder: Path, make: kinds.Maker = make) -> list[str]:
            make(folder / "out" / "people.json")
            return ["--output=out", "--count=1", "--frames=1"]

        cases.append(Case(f"people-record-{kind}", PEOPLE, broken, "people.json"))

    def others(folder: Path) -> list[str]:
        kinds.content(b"mine")(folder / "out" / "train" / "notes.txt")
        return ["--output=out", "--count=1", "--frames=1"]

    cases += [
        Case("people-folder-of-others", PEOPLE, others, "out"),
        Case(
            "people-locked",
            PEOPLE,
            lambda folder: ((folder / "out").mkdir(), ["--output=out", "--count=1", "--frames=1"])[1],
            "another run",
            during=lambda folder: hold_folder(folder / "out"),
            may_leave=("out/.lock",),
        ),
        Case(
            "build-locked",
            BUILD,
            lambda folder: (dataset(folder), with_video()(folder))[1],
            "another run",
            during=lambda folder: hold_folder(folder / "out"),
            may_leave=("out/.lock",),
        ),
        Case(
            "build-disk-full",
            BUILD,
            with_video(),
            "out",
            during=lambda folder: kinds.largest_file(4096),
        ),
    ]
    return cases


def held_out(folder: Path, names: Sequence[str] = ("a", "b")) -> Path:
    """Held-out people: pictures and motions."""
    for name in names:
        path = write_video(folder / "test" / name, 3, size=(16, 16), kinds=("images", "normal"))
        load_authored("wave")[:3].save(path / "motion.npz")
    return folder / "test"


def held_out_tools() -> list[Case]:
    tools = {
        "drivers": (DRIVERS, ["--held_out=test", "--output=out"]),
        "pack": (PACK, ["--source=test", "--names=a", "--output=out"]),
        "results": (RESULTS, ["--held_out=test", "--predictions=made", "--names=a", "--output=out.png"]),
        "predict": (PREDICT, ["--held_out=test", "--train=test", "--output=out"]),
    }
    cases = []
    for tool, (command, arguments) in tools.items():
        for kind, make in {**kinds.NO_FILE, "html": kinds.content(kinds.HTML)}.items():

            def root(folder: Path, make: kinds.Maker = make, arguments: list[str] = arguments) -> list[str]:
                make(folder / "test")
                return arguments

            cases.append(Case(f"{tool}-root-{kind}", command, root, "test"))
    for tool in ("drivers", "pack"):
        command, arguments = tools[tool]
        for kind, make in kinds.ARRAYS.items():

            def motion(folder: Path, make: kinds.Maker = make, arguments: list[str] = arguments) -> list[str]:
                path = held_out(folder) / "a" / "motion.npz"
                path.unlink()
                make(path)
                return arguments

            cases.append(Case(f"{tool}-motion-{kind}", command, motion, "motion.npz"))
    for kind, make in kinds.PICTURES.items():

        def picture(folder: Path, make: kinds.Maker = make) -> list[str]:
            path = held_out(folder) / "a" / "images" / "0002.png"
            path.unlink()
            make(path)
            write_video(folder / "made", 3, size=(16, 16), kinds=("a",))
            return tools["results"][1] + ["--frames=3"]

        if kind not in ("missing", "folder", "fifo", "socket", "device", "dangling-link", "link-loop", "below-a-file"):
            cases.append(Case(f"results-picture-{kind}", RESULTS, picture, "0002.png"))

    def named(command: str, *arguments: str, frames: int = 3) -> Callable[[Path], Sequence[str]]:
        def make(folder: Path) -> list[str]:
            held_out(folder)
            write_video(folder / "made", frames, size=(16, 16), kinds=("a",))
            return [*arguments]

        return make

    single = {
        "drivers-one-video": (DRIVERS, lambda folder: (held_out(folder, "a"), tools["drivers"][1])[1], "test"),
        "pack-name": (PACK, named(PACK, "--source=test", "--names=c", "--output=out"), "--names=c"),
        "pack-twice": (PACK, named(PACK, "--source=test", "--names=a,a", "--output=out"), "--output=out/a"),
        "pack-empty": (PACK, named(PACK, "--source=test", "--names=", "--output=out"), "--names="),
        "pack-onto-source": (PACK, named(PACK, "--source=test", "--names=a", "--output=test"), "test/a"),
        "results-name": (RESULTS, named(RESULTS, *tools["results"][1], "--names=c"), "test/c"),
        "results-frames": (RESULTS, named(RESULTS, *tools["results"][1], frames=2), "made/a"),
        "results-suffix": (RESULTS, named(RESULTS, *tools["results"][1], "--output=out.txt"), "out.txt"),
        "results-onto-input": (
            RESULTS,
            named(RESULTS, *tools["results"][1], "--output=test/a/images/0001.png"),
            "test/a/images/0001.png",
        ),
        "predict-both": (PREDICT, named(PREDICT, *tools["predict"][1], "--weights=w"), "--weights"),
        "predict-neither": (PREDICT, named(PREDICT, "--held_out=test", "--output=out"), "--weights"),
        "predict-onto-source": (
            PREDICT,
            named(PREDICT, "--held_out=test", "--train=test", "--output=test/a/images"),
            "test/a",
        ),
        "predict-train": (PREDICT, named(PREDICT, "--held_out=test", "--train=made", "--output=out"), "made"),
        "predict-weights": (PREDICT, named(PREDICT, "--held_out=test", "--weights=none", "--output=out"), "none"),
        "predict-output-root": (
            PREDICT,
            named(PREDICT, "--held_out=test", "--weights=none", "--output=/"),
            "--output=/",
        ),
    }
    cases += [Case(name, command, make, culprit) for name, (command, make, culprit) in single.items()]
    for value in ("0", "-1", "nan", "1e9", "1000000000", ""):
        make = named(RESULTS, *tools["results"][1], f"--frames={value}")
        cases.append(Case(f"results-frames-{value or 'empty'}", RESULTS, make, "--frames"))
    for kind, make in kinds.FOLDER_OUTPUTS.items():

        def packed(folder: Path, make: kinds.Maker = make) -> list[str]:
            held_out(folder)
            path = make(folder / "people")
            return ["--source=test", "--names=a", f"--output={path}"]

        def onto(folder: Path, make: kinds.Maker = make) -> list[str]:
            held_out(folder)
            make(folder / "people" / "a")
            return ["--source=test", "--names=a", "--output=people"]

        if kind in ("file", "link-loop", "fifo", "device", "below-a-file", "proc"):
            cases.append(Case(f"pack-output-{kind}", PACK, packed, "people"))
        if kind not in ("below-a-file", "long-name", "read-only-folder", "proc"):
            cases.append(Case(f"pack-person-{kind}", PACK, onto, "people/a"))
    for kind, make in kinds.FILE_OUTPUTS.items():

        def results(folder: Path, make: kinds.Maker = make) -> list[str]:
            held_out(folder)
            write_video(folder / "made", 3, size=(16, 16), kinds=("a",))
            return [*tools["results"][1], f"--output={make(folder / 'sheet.png')}"]

        culprit = "nnn" if kind == "long-name" else "sheet"
        cases.append(Case(f"results-output-{kind}", RESULTS, results, culprit))
    return cases


CASES = [
    case
    for group in (sources, outputs, pictures, boxes, parts, listings, settings, people, held_out_tools)
    for case in group()
]


def test_names_differ():
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hostile(case, tmp_path):
    check(case, tmp_path)
