"""Evaluation on hostile videos, frames, outputs, settings and weights of networks."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hostile import kinds
from hostile.harness import Case, check
from PIL import Image

LENGTH = 3  # frames


def evaluate(*more: str, change: Callable[[Path], object] = lambda folder: None) -> Callable[[Path], list]:
    """Arguments of an evaluation of one good video of frames, in which `change(folder)` has made something wrong."""

    def make(folder: Path) -> list:
        for side in ("predictions", "ground_truth"):
            for number in range(LENGTH):
                kinds.content(kinds.png())(folder / side / "video" / f"{number:04}.png")
        change(folder)
        options = {"predictions": "predictions", "ground_truth": "ground_truth", "output": "out/report.json"}
        options |= {"metrics": "psnr"}
        options |= dict(argument.removeprefix("--config.").split("=", 1) for argument in more)
        return [f"--config.{name}={value}" for name, value in options.items()]

    return make


def both(*changes: Callable[[Path], object]) -> Callable[[Path], None]:
    return lambda folder: [change(folder) for change in changes]


def _remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def _cases() -> list[Case]:
    cases = []

    def add(name: str, make: Callable, culprit: str, **options: object) -> None:
        cases.append(Case(name, "evaluate", make, culprit, **options))

    # A frame that is not a picture. Those that leave no file there are a missing frame.
    for kind, maker in kinds.PICTURES.items():
        if kind in ("missing", "folder", "fifo", "socket", "device", "dangling-link", "below-a-file"):
            if kind != "below-a-file":
                frame = "ground_truth/video/0001.png"
                add(
                    f"frame-{kind}",
                    evaluate(change=kinds.put(maker, frame)),
                    "video: 3 predicted frames, 2 of ground truth",
                )
        elif kind != "link-loop":
            frame = "predictions/video/0001.png"
            add(f"frame-{kind}", evaluate(change=kinds.put(maker, frame)), frame)
    for name, picture in (("float", Image.new("F", (16, 16))), ("signed", Image.new("I", (16, 16)))):
        maker = _tiff(picture)
        add(
            f"frame-{name}",
            evaluate(change=kinds.put(maker, "predictions/video/0002.png")),
            "predictions/video/0002.png",
        )
    tall = kinds.put(kinds.content(kinds.png(16, 24)), "ground_truth/video/0002.png")
    add("frames-change-size", evaluate(change=tall), "ground_truth/video/0002.png: 16x24")
    small = [f"{side}/video/{n:04}.png" for side in ("predictions", "ground_truth") for n in range(LENGTH)]
    tiny = kinds.put(kinds.content(kinds.png(4, 4)), *small)
    add("frames-too-small", evaluate("--config.metrics=ssim", change=tiny), "video/0000.png: 4x4 is too small for ssim")
    add("frames-too-small-for-psnr", evaluate(change=tiny), "video/0000.png: 4x4 is too small for psnr")

    # A video file that is not one.
    for kind, maker in kinds.VIDEOS.items():
        if kind in ("below-a-file", "folder", "picture"):  # a picture is a video of one frame
            continue
        for side in ("predictions", "ground_truth"):
            make = evaluate(f"--config.{side}=video.mp4", change=kinds.put(maker, "video.mp4"))
            add(f"{side}-file-{kind}", make, "video.mp4")
        if kind != "missing":
            change = both(
                lambda folder: _remove(folder / "predictions/video"), kinds.put(maker, "predictions/video.mp4")
            )
            add(f"video-in-folder-{kind}", evaluate(change=change), "predictions/video.mp4")

    # Names and places.
    places = ("", "nowhere", kinds.LONG_NAME, "predictions/video/0001.png", "notes.txt", "empty", "notes.txt/below")
    for side in ("predictions", "ground_truth"):
        for place in places:
            make = evaluate(f"--config.{side}={place}", change=_clutter)
            add(f"{side}-is-{place[:20].replace('/', '-') or 'unset'}", make, place or f"--config.{side}")
    add("names-differ", evaluate(change=lambda folder: _rename(folder, "other")), "lacks 1 of 1 videos: video")
    make = evaluate("--config.missing=skip", change=lambda folder: _rename(folder, "other"))
    add("no-name-in-common", make, "predictions are other; ground truth is video")
    second = kinds.put(kinds.content(kinds.png()), "ground_truth/other/0001.png")
    make = evaluate("--config.predictions=predictions/video", change=second)
    add("one-against-many", make, "one side is a single video")
    add("lengths-differ", evaluate(change=_remove_frame), "video: 2 predicted frames, 3 of ground truth")
    add(
        "two-of-one-name",
        evaluate(change=kinds.put(kinds.content(kinds.mp4()), "predictions/video.mp4")),
        "share a name",
    )
    closed = evaluate(change=lambda folder: (folder / "predictions/video").chmod(0))
    add("closed-folder", closed, "predictions/video")

    # Outputs.
    for kind, maker in kinds.FILE_OUTPUTS.items():
        for suffix in (".json", ".md", "_worst.png"):
            if suffix != ".json" and kind in ("below-a-file", "long-name", "read-only-folder", "proc"):
                continue
            add(f"onto-{kind}{suffix}", _onto(maker, suffix), kinds.LONG_NAME if kind == "long-name" else "report")
    inside = (f"{place}/report.json" for place in ("predictions", "ground_truth/video", "weights"))
    for output in (*inside, "report.txt", ""):
        name = output.replace("/", "-") or "empty"
        make = evaluate(f"--config.output={output}", "--config.weights=weights", change=_weights)
        add(f"output-{name}", make, "--config.output")

    # Settings.
    for field, values in SETTINGS.items():
        for value in values:
            add(f"{field}-{value[:20] or 'empty'}", evaluate(f"--config.{field}={value}"), f"--config.{field}")

    # Weights of the networks.
    for kind, maker in kinds.SAFETENSORS.items():
        if kind not in ("missing", "below-a-file", "dangling-link"):
            place = "weights/lpips_alex.safetensors"
            make = evaluate("--config.metrics=lpips_alex", "--config.weights=weights", change=kinds.put(maker, place))
            add(f"network-{kind}", make, place)
    for name, make in (("missing", kinds.missing), ("file", kinds.content(b"x")), ("fifo", kinds.fifo)):
        change = kinds.put(make, "weights")
        add(f"networks-{name}", evaluate("--config.metrics=fid", "--config.weights=weights", change=change), "weights")
    return cases


def _tiff(picture: Image.Image) -> kinds.Maker:
    def make(path: Path) -> Path:
        picture.save(path, "TIFF")
        return path

    return make


def _clutter(folder: Path) -> None:
    (folder / "notes.txt").write_text("the user's own")
    (folder / "empty").mkdir()


def _rename(folder: Path, name: str) -> None:
    (folder / "predictions/video").rename(folder / "predictions" / name)


def _remove_frame(folder: Path) -> None:
    (folder / "predictions/video/0002.png").unlink()


def _weights(folder: Path) -> None:
    kinds.content(kinds.safetensors_file())(folder / "weights/other.safetensors")


def _onto(maker: kinds.Maker, suffix: str) -> Callable[[Path], list]:
    def make(folder: Path) -> list:
        place = folder / "out" / f"report{suffix}"
        place.parent.mkdir()
        made = maker(place)
        output = made if suffix == ".json" else place.with_name("report.json")
        return evaluate(f"--config.output={output}")(folder)

    return make


SETTINGS = {
    "resamples": ("-1", "1000000000", "1e9", "nan", "text", "1.5", "²"),
    "worst_frames": ("-1", "1000000", "nan", "text"),
    "protocol": ("", "tictok", "nan"),
    "metrics": ("sim", "psnr,psnr", "psnr,,sim", "PSNR", "fid", "fvd,fid_vid"),
    "missing": ("", "never", "true"),
    "lengths": ("", "any"),
    "published": ("tik", "1"),
    "unknown": ("1",),
}


CASES = _cases()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_hostile_evaluation(case, tmp_path):
    check(case, tmp_path)


def test_a_flipped_video_is_not_scored_as_if_whole(tmp_path):
    """Bytes of the middle of a video's pictures are changed: the reader says so, and no report is written."""
    data = bytearray(kinds.mp4(frames=40, size=(64, 64)))
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[middle : middle + 40] = bytes(byte ^ 0xFF for byte in data[middle : middle + 40])
    change = kinds.put(kinds.content(bytes(data)), "flipped.mp4")
    make = evaluate("--config.predictions=flipped.mp4", "--config.ground_truth=ground_truth/video", change=change)
    check(Case("flipped", "evaluate", make, "flipped.mp4"), tmp_path)
