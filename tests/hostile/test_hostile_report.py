"""Hostile inputs of tools/report_builtin.py: videos, masks, motions, records, weights, detectors and outputs."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile import kinds
from hostile.harness import Case, check
from tiny_videos import write_video

from champ_jax.body.authored import load_authored

REPORT = "tools/report_builtin.py"
VIDEO = "p00000_m00000"
RECORD = {"seed": 0, "size": [16, 16], "frames": 3, "extreme": False, "plain": True, "videos_per_identity": 1}
RECORD |= {"test_share": 1.0}
LENGTH = 3


def report(*more: str, change: Callable[[Path], object] = lambda folder: None) -> Callable[[Path], list]:
    """Arguments for one good video and what a model made of it, in which `change(folder)` has made something wrong."""

    def make(folder: Path) -> list:
        for part in ("test", "train"):
            path = write_video(folder / part / VIDEO, LENGTH, size=(16, 16), kinds=("images", "mask"))
            load_authored("wave")[:LENGTH].save(path / "motion.npz")
        shutil.copytree(folder / "test" / VIDEO / "images", folder / "made" / VIDEO)
        change(folder)
        options = {"held_out": "test", "predictions": "made", "output": "out/report.json"}
        options |= dict(argument.removeprefix("--").split("=", 1) for argument in more)
        return [f"--{name}={value}" for name, value in options.items()]

    return make


def put(maker: kinds.Maker, place: str) -> Callable[[Path], None]:
    """Replaces the file at `place` by what `maker` makes."""

    def change(folder: Path) -> None:
        path = folder / place
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        maker(path)

    return change


def record(**changes: object) -> Callable[[Path], None]:
    text = json.dumps(RECORD | changes).encode()
    return put(kinds.content(text), "people.json")


def _cases() -> list[Case]:
    cases = []

    def add(name: str, make: Callable, culprit: str, **options: object) -> None:
        cases.append(Case(name, REPORT, make, culprit, **options))

    for place in (f"test/{VIDEO}/images", f"test/{VIDEO}/mask", f"made/{VIDEO}"):
        kind = place.split("/")[-1]
        for name in ("empty", "truncated", "bomb", "html", "no-permission", "missing"):
            # A frame that is not there is a number of frames that does not fit.
            frame = f"{place}/0002.png"
            numbers = {"images": "mask: has 3 masks for 2 frames", "mask": "mask: has 2 masks for 3 frames"}
            culprit = frame if name != "missing" else numbers.get(kind, f"{place}: has 2 frames")
            maker = kinds.PICTURES.get(name, kinds.missing)
            add(f"{kind}-{name}", report(change=put(maker, frame)), culprit)
    tall = put(kinds.content(kinds.png(16, 24)), f"test/{VIDEO}/images/0003.png")
    add("frames-change-size", report(change=tall), "images/0003.png: is 16x24")
    small = put(kinds.content(kinds.png(8, 8, "L")), f"test/{VIDEO}/mask/0001.png")
    add("masks-change-size", report(change=small), "mask/0002.png: is 16x16")

    # Places.
    for name, maker in {**kinds.NO_FILE, "html": kinds.content(kinds.HTML)}.items():
        for option in ("held_out", "train", "predictions"):
            place = "elsewhere" if name != "long-name" else "n" * 9
            add(f"{option}-{name}", report(f"--{option}=elsewhere", change=put(maker, "elsewhere")), place)
    add("predictions-twice", report("--predictions=made,test/../made"), "--predictions=made,test/../made")
    add("predictions-named-copy", report("--predictions=copy"), "copy needs a name of its own")
    add("predictions-none", report("--predictions="), "--predictions=")
    add("predictions-lack-a-video", report(change=lambda f: shutil.rmtree(f / "made" / VIDEO)), "lacks 1 of 1 videos")

    # Outputs.
    for kind, maker in kinds.FILE_OUTPUTS.items():
        for suffix in (".json", ".md", "_sheet.png", "_detector.safetensors"):
            if suffix != ".json" and kind in ("below-a-file", "long-name", "read-only-folder", "proc"):
                continue
            add(f"onto-{kind}{suffix}", _onto(maker, suffix), "nnn" if kind == "long-name" else "report")
    for output in (f"test/{VIDEO}/report.json", f"made/{VIDEO}/images/report.json", "report.txt", ""):
        add(f"output-{output.replace('/', '-') or 'empty'}", report(f"--output={output}"), "--output")
    add("detector-inside-a-video", report("--train=train", f"--detector=train/{VIDEO}/d"), "--detector")

    # Who the people are.
    for kind, maker in kinds.JSON.items():
        if kind != "missing" and kind != "below-a-file":
            add(f"record-{kind}", report(change=put(maker, "people.json")), "people.json")
    for name, changes in {
        "seed": {"seed": -1}, "seed-huge": {"seed": 1e300}, "size-text": {"size": "16x16"},
        "size-huge": {"size": [2**31] * 2},
        "frames": {"frames": 10**9}, "share": {"test_share": 7}, "plain": {"plain": "yes"}, "more": {"unknown": 1},
    }.items():  # fmt: skip
        add(f"record-{name}", report(change=record(**changes)), "people.json")
    add("record-of-others", report(change=record(size=[512, 512], frames=LENGTH)), "motion.npz")
    for kind, maker in kinds.ARRAYS.items():
        change = put(maker, f"test/{VIDEO}/motion.npz")
        add(f"motion-{kind}", report(change=lambda folder, c=change: (record()(folder), c(folder))), "motion.npz")
        change = put(maker, f"train/{VIDEO}/motion.npz")
        add(f"train-motion-{kind}", report("--train=train", change=change), f"train/{VIDEO}/motion.npz")

    # Weights and detectors.
    for kind, maker in kinds.SAFETENSORS.items():
        if kind not in ("missing", "below-a-file", "dangling-link"):
            add(
                f"weights-{kind}",
                report("--weights=w.safetensors", change=put(maker, "w.safetensors")),
                "w.safetensors",
            )
        if kind not in ("below-a-file", "dangling-link"):
            change = put(maker, "d.safetensors")
            add(f"detector-{kind}", report("--detector=d.safetensors", change=change), "d.safetensors")
    add("lpips-none", report("--lpips=nowhere"), "nowhere")
    add("lpips-empty", report("--lpips=empty", change=lambda folder: (folder / "empty").mkdir()), "empty")
    add("low-noise-without-weights", report("--low_noise=200"), "--low_noise=200: needs --weights")

    # Settings.
    for option in ("low_noise", "detector_steps", "resamples"):
        for value in ("-1", "1e9", "nan", "text", "1.5", "²", ""):
            add(f"{option}-{value or 'empty'}", report(f"--{option}={value}"), f"--{option}")
    add("missing-other", report("--missing=never"), "--missing")
    return cases


def _onto(maker: kinds.Maker, suffix: str) -> Callable[[Path], list]:
    def make(folder: Path) -> list:
        place = folder / "out" / f"report{suffix}"
        place.parent.mkdir()
        made = maker(place)
        output = made if suffix == ".json" else place.with_name("report.json")
        return report(f"--output={output}", "--train=train")(folder)

    return make


@pytest.mark.parametrize("case", _cases(), ids=str)
def test_hostile_report(case, tmp_path):
    check(case, tmp_path)
