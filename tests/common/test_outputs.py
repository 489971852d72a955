"""The rule of what a command may write over, and that two runs never write the same thing."""

import os
import re
import subprocess
import sys

import pytest

from champ_jax.common import locks, outputs
from champ_jax.common.errors import InputError
from champ_jax.common.outputs import Output, claim, folder_of, json_with

FRAMES = outputs.FRAMES
PERSON = folder_of("a person", r"reference\.png|motion\.npz")
RECORD = json_with("the record of a run", "config", "frames")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.npz").write_bytes(b"PK\x03\x04 motion")
    (tmp_path / "maps" / "depth").mkdir(parents=True)
    (tmp_path / "maps" / "depth" / "0001.png").write_bytes(b"\x89PNG")
    (tmp_path / "old.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    (tmp_path / "link.npz").symlink_to("in.npz")
    os.link(tmp_path / "in.npz", tmp_path / "hard.npz")
    (tmp_path / "here").symlink_to(".")
    return tmp_path


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


INPUTS = ("in.npz", "maps/depth")


@pytest.mark.parametrize(
    "path",
    [
        "in.npz",
        "./in.npz",
        "maps/../in.npz",
        "absent/../in.npz",
        "link.npz",
        "hard.npz",
        "here/in.npz",
        "here/here/hard.npz",
    ],
)
def test_an_output_is_never_an_input(folder, path):
    before = contents(folder)
    with pytest.raises(InputError, match=rf"^--output={re.escape(path)}: is the input in\.npz"):
        claim([Output("--output", path, outputs.NPZ)], INPUTS)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("path", "kind", "word"),
    [
        ("maps/depth", FRAMES, "is the input maps/depth"),
        ("maps", FRAMES, "holds the input maps/depth"),
        (".", FRAMES, "holds the input"),
        ("maps/depth/new", FRAMES, "is inside the input maps/depth"),
        ("maps/depth/0001.png", outputs.PNG, "is inside the input"),
        ("here/maps/depth", FRAMES, "is the input"),
    ],
)
def test_folders_that_are_read_stay_as_they_are(folder, path, kind, word):
    before = contents(folder)
    with pytest.raises(InputError, match=word):
        claim([Output("--frames", path, kind)], INPUTS)
    assert contents(folder) == before


@pytest.mark.parametrize(
    ("first", "second"),
    [("x.mp4", "x.mp4"), ("x.mp4", "a/../x.mp4"), ("x.mp4", "here/x.mp4"), ("x.mp4", "X.mp4"), ("old.mp4", "old2.mp4")],
)
def test_two_outputs_are_two_files(folder, first, second):
    os.link("old.mp4", "old2.mp4")
    with pytest.raises(InputError, match=rf"line 2: output={second}: is the same as .*line 1: output={first}"):
        claim([Output("line 1: output", first, outputs.VIDEO), Output("line 2: output", second, outputs.VIDEO)])


def test_an_output_does_not_lie_in_another(folder):
    with pytest.raises(InputError, match=r"x\.npy: is inside --frames=out"):
        claim([Output("--frames", "out", FRAMES), Output("--latents", "here/out/x.npy", outputs.NPY)])


@pytest.mark.parametrize(
    ("content", "kind", "allowed"),
    [
        (b"\0\0\0\x20ftypisom", outputs.VIDEO, True),
        (b"", outputs.VIDEO, True),
        (b"my notes", outputs.VIDEO, False),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", outputs.VIDEO, False),
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1miaf", outputs.VIDEO, False),
        (b"\x93NUMPY", outputs.NPY, True),
        (b"PK\x03\x04", outputs.NPY, False),
        (b'{"config": {}, "frames": 3, "seed": 1}', RECORD, True),
        (b'{"mine": true}', RECORD, False),
        (b"[1, 2]", RECORD, False),
        (b"not JSON", RECORD, False),
        (b"\x89PNG", outputs.PNG, True),
        (b"%PDF", outputs.PNG, False),
    ],
)
def test_only_results_of_the_same_kind_are_replaced(folder, content, kind, allowed):
    (folder / "x").write_bytes(content)
    if allowed:
        claim([Output("--output", "x", kind)])
    else:
        with pytest.raises(InputError, match=f"--output=x: .*not {re.escape(kind.name)} that may be replaced"):
            claim([Output("--output", "x", kind)])
    assert (folder / "x").read_bytes() == content


def test_folders_of_other_things_are_not_replaced(folder):
    (folder / "frames").mkdir()
    claim([Output("--frames", "frames", FRAMES)])
    (folder / "frames" / "0001.png").touch()
    claim([Output("--frames", "frames", FRAMES)])
    (folder / "frames" / "mine.txt").touch()
    with pytest.raises(InputError, match="holds other things"):
        claim([Output("--frames", "frames", FRAMES)])


@pytest.mark.parametrize(
    ("kind", "names"),
    [(FRAMES, ["20230101.png"]), (FRAMES, ["0001.png", "0003.png"]), (FRAMES, ["00001.png"]), (PERSON, ["motion.npy"])],
)
def test_folders_of_other_names_are_not_replaced(folder, kind, names):
    (folder / "out").mkdir()
    for name in names:
        (folder / "out" / name).touch()
    with pytest.raises(InputError, match="holds other things"):
        claim([Output("--output", "out", kind)])


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo, lambda path: os.symlink("in.npz", path)])
@pytest.mark.parametrize(("kind", "name"), [(FRAMES, "0001.png"), (PERSON, "motion.npz")])
def test_folders_links_and_pipes_are_no_files_of_ours(folder, kind, name, make):
    (folder / "out").mkdir()
    make(folder / "out" / name)
    with pytest.raises(InputError, match="holds other things"):
        claim([Output("--output", "out", kind)])


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("maps", outputs.VIDEO),
        (".", outputs.VIDEO),
        ("in.npz", FRAMES),
        ("in.npz/below.mp4", outputs.VIDEO),
        ("in.npz/a/b/below.mp4", outputs.VIDEO),
        ("nowhere", outputs.VIDEO),
        ("/dev/null", outputs.VIDEO),
        ("/proc/x.mp4", outputs.VIDEO),
        ("n" * 256 + ".mp4", outputs.VIDEO),
        ("new/" + "n" * 256 + ".mp4", outputs.VIDEO),
        ("a\0b.mp4", outputs.VIDEO),
        ("a\udc80.mp4", outputs.VIDEO),
    ],
)
def test_what_cannot_be_written_is_reported_before_any_work(folder, path, kind):
    (folder / "nowhere").symlink_to("gone")
    before = contents(folder)
    with pytest.raises(InputError) as caught:
        claim([Output("--output", path, kind)])
    assert "\n" not in str(caught.value)
    assert contents(folder) == before
    assert not (folder / "new").exists()


def test_space_is_summed_over_the_outputs(folder):
    free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
    one = Output("--a", "a.mp4", outputs.VIDEO, free * 2 // 3)
    claim([one])
    with pytest.raises(InputError, match=r"--b=b\.mp4: the outputs need .* the disk has .* free"):
        claim([one, Output("--b", "b.mp4", outputs.VIDEO, free * 2 // 3)])


def test_new_outputs_leave_nothing_behind(folder):
    before = contents(folder)
    claim([Output("--output", "new/deep/x.mp4", outputs.VIDEO, 10)], INPUTS)
    assert contents(folder) == before
    assert not (folder / "new").exists()


HOLDER = """
import sys
from champ_jax.common import locks
with (locks.hold_folder if sys.argv[1] == "folder" else locks.hold)(*sys.argv[2:]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder():
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ
        )
        started.append(process)
        assert process.stdout.readline() == b"held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.mark.parametrize("kind", ["outputs", "folder"])
def test_the_second_run_is_refused_until_the_first_ends_or_dies(folder, holder, kind):
    hold = locks.hold_folder if kind == "folder" else locks.hold
    first = holder(kind, "runs/one")
    with (
        pytest.raises(InputError, match=rf"another run \(process {first.pid} on .*\) is writing it"),
        hold("here/runs/one"),
    ):
        raise AssertionError
    first.kill()
    first.wait()
    with hold("runs/one"):
        pass
    second = holder(kind, "runs/one")
    second.communicate(b"")
    with hold("runs/one"):
        pass
    assert not list(folder.rglob("*.lock"))


def test_locks_of_several_outputs_are_all_or_none(folder, holder):
    holder("outputs", "b.mp4", "x.json")
    with pytest.raises(InputError, match=r"x\.json: another run"), locks.hold("a.mp4", "x.json"):
        raise AssertionError
    assert not (folder / ".a.mp4.lock").exists()
    with locks.hold("a.mp4", "y.json"):
        assert (folder / ".a.mp4.lock").exists()


def test_one_process_does_not_hold_twice(folder):
    with locks.hold("x"), pytest.raises(InputError, match="another run"), locks.hold("x"):
        raise AssertionError


def test_long_names_and_places_that_cannot_be_written(folder):
    with locks.hold("n" * 250):
        pass
    with pytest.raises(InputError, match="cannot be written"), locks.hold("in.npz/x"):
        pass
