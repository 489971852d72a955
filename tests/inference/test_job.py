"""A job's inputs, frame rate and outputs, with a stand-in for the pipeline: nothing is compiled here."""

import json
import warnings

import numpy as np
import pytest
from hostile import kinds
from PIL import Image

from champ_jax.common import locks
from champ_jax.common.errors import InputError
from champ_jax.common.pictures import list_images
from champ_jax.common.progress import Progress
from champ_jax.common.videos import read_video, video_fps
from champ_jax.inference import batch, builtin
from champ_jax.inference.config import get_config
from champ_jax.inference.job import Job
from champ_jax.inference.result import Animation


class StandIn:
    """A pipeline that gives noise of the right size."""

    def __init__(self, devices, fail_at=None):
        self.devices, self.fail_at = devices, fail_at

    def animate(self, picture, motion, settings, *, noise, fps, progress, profiler):
        width, height = settings.width or 128, settings.height or 128
        rng = np.random.default_rng(settings.seed)

        def decode():
            for start in range(0, len(motion), 4):
                if start == self.fail_at:
                    raise RuntimeError("broken")
                yield rng.random((min(4, len(motion) - start), height, width, 3), np.float32)

        return Animation(np.zeros((len(motion), height // 8, width // 8, 4), np.float32), (width, height), fps, decode)


@pytest.fixture(scope="module")
def weights():
    return batch.find_weights(get_config())


@pytest.fixture
def open_job(tmp_path, weights):
    """Opens a job on built-in inputs with some fields changed."""

    def opened(**fields):
        config = get_config()
        config.update({"output": str(tmp_path / "out.mp4"), "frames": "0:8", "width": 128, "height": 128} | fields)
        config.lock()
        batch.settle(config)
        return Job.open(config, weights)

    return opened


@pytest.fixture(scope="module")
def devices():
    import jax

    return jax.devices()[:1]


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def run(job, devices, **options):
    job.run(lambda: StandIn(devices, **options), Progress(quiet=True))


def test_all_outputs_are_written_and_the_job_is_done(open_job, devices, tmp_path):
    fields = {"frames_output": str(tmp_path / "frames"), "latents_output": str(tmp_path / "latents.npy")}
    job = open_job(**fields)
    assert not job.is_done
    run(job, devices)
    assert open_job(**fields).is_done
    assert len(list(read_video(tmp_path / "out.mp4"))) == 8
    assert len(list_images(tmp_path / "frames")) == 8
    assert np.load(tmp_path / "latents.npy").shape == (8, 16, 16, 4)
    assert next(read_video(tmp_path / "out_comparison.mp4")).shape == (128, 6 * 128, 3)
    record = json.loads((tmp_path / "out.json").read_text())
    assert set(record["outputs"]) == {"video", "comparison", "frames", "latents", "record"}
    assert {path.name for path in tmp_path.iterdir()} == {
        *("out.mp4", "out_comparison.mp4", "frames", "latents.npy", "out.json")
    }
    assert not open_job(**fields, seed=1).is_done


def test_the_video_may_have_the_pictures_size(open_job, devices, tmp_path):
    run(open_job(width=64, height=64, picture_size=True, comparison=False), devices)
    assert next(read_video(tmp_path / "out.mp4")).shape == (128, 128, 3)


def test_a_failing_run_leaves_the_earlier_result(open_job, devices, tmp_path):
    fields = {"frames_output": str(tmp_path / "frames")}
    run(open_job(**fields), devices)
    before = contents(tmp_path)
    with pytest.raises(RuntimeError, match="broken"):
        run(open_job(**fields, seed=1), devices, fail_at=4)
    assert contents(tmp_path) == before


def test_a_disk_that_fills_leaves_the_earlier_result(open_job, devices, tmp_path):
    run(open_job(), devices)
    before = contents(tmp_path)
    job = open_job(seed=1, frames="0:24")
    with kinds.largest_file(20_000), pytest.raises(InputError, match="the disk or quota is full") as raised:
        run(job, devices)
    assert str(tmp_path / "out") in str(raised.value)
    assert "/." not in str(raised.value), "the message names the output, not the hidden file"
    assert contents(tmp_path) == before


def test_two_runs_do_not_write_one_output(open_job, devices, tmp_path):
    job = open_job()
    with locks.hold(tmp_path / "out_comparison.mp4"), pytest.raises(InputError, match="another run"):
        run(job, devices)
    assert not contents(tmp_path)


def test_what_a_killed_run_left_is_removed(open_job, devices, tmp_path):
    left = tmp_path / ".out.mp4.abcd1234"
    left.mkdir()
    (left / ".in-use").touch()
    (left / "out.mp4").write_bytes(b"half a video")
    run(open_job(), devices)
    assert not left.exists()


def test_an_input_that_changes_after_the_check_is_noticed(open_job, devices, tmp_path):
    Image.new("RGB", (128, 128), "red").save(tmp_path / "person.png")
    job = open_job(reference=str(tmp_path / "person.png"))
    Image.new("RGB", (128, 128), "blue").save(tmp_path / "person.png")
    with pytest.raises(InputError, match=r"person\.png: changed since it was checked"):
        run(job, devices)


@pytest.mark.parametrize(("frames", "fps"), [("0:24", 24), ("0:24:6", 4), ("::2", 12), (" 1 : 9 : 4 ", 6)])
def test_a_step_plays_as_many_times_slower(open_job, devices, tmp_path, frames, fps):
    job = open_job(frames=frames)
    assert job.config.fps == fps
    run(job, devices)
    assert video_fps(tmp_path / "out.mp4") == fps
    assert open_job(frames=frames, fps=30.0).config.fps == 30


def test_a_fast_motion_draws_a_hint(open_job, tmp_path):
    with np.load(builtin.MOTION) as archive:
        np.savez(tmp_path / "fast.npz", **(dict(archive) | {"fps": np.float64(120)}))
    with pytest.warns(UserWarning, match=r"fast\.npz: is at 120 .* last 0\.2 s; .*--resample=24"):
        assert open_job(motion=str(tmp_path / "fast.npz"), frames="0:24").config.fps == 120
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        open_job()


@pytest.mark.parametrize("fit", ["crop", "pad", "none"])
def test_a_motion_of_another_aspect_is_fitted_and_said(open_job, tmp_path, fit):
    Image.new("RGB", (64, 128), "red").save(tmp_path / "tall.png")
    with pytest.warns(UserWarning, match=f"128x128, the picture 64x128.*fit={'crop' if fit != 'crop' else 'pad'}"):
        job = open_job(reference=str(tmp_path / "tall.png"), fit=fit, width=64)
    frame = job.motion.read(0, 1, (64, 128))["depth"][0, ..., 0]
    rows, columns = np.flatnonzero(frame.any(axis=1)), np.flatnonzero(frame.any(axis=0))
    square = open_job().motion.read(0, 1, (128, 128))["depth"][0, ..., 0]
    tall, wide = np.ptp(np.flatnonzero(square.any(axis=1))) + 1, np.ptp(np.flatnonzero(square.any(axis=0))) + 1
    scale = {"crop": (1, 1), "pad": (0.5, 0.5), "none": (1, 0.5)}[fit]
    assert np.ptp(rows) + 1 == pytest.approx(scale[0] * tall, abs=2)
    if fit != "crop":  # which may cut an arm off
        assert np.ptp(columns) + 1 == pytest.approx(scale[1] * wide, abs=2)
