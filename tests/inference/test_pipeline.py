"""The pipeline from Python on the golden model: one compile for every length, several devices, bad arguments."""

from pathlib import Path

import jax
import numpy as np
import pytest
from golden_models import relative

from champ_jax.common.errors import InputError
from champ_jax.common.pictures import read_image
from champ_jax.common.progress import Progress
from champ_jax.common.videos import read_video, video_fps
from champ_jax.conditions.motion_folder import MotionFolder
from champ_jax.diffusion.windows import Windows
from champ_jax.inference.autoencoder import Autoencoder
from champ_jax.inference.pipeline import ChampPipeline
from champ_jax.inference.settings import Settings
from champ_jax.weights.opening import open_weights

GOLDEN = Path(__file__).parents[1] / "golden" / "model"
PICTURE = GOLDEN / "pictures" / "ref.png"
MOTION = GOLDEN / "pictures" / "motion"
SHORT = {"width": 128, "height": 128, "windows": Windows("shifted", 8, 2), "quiet": True}


@pytest.fixture(scope="module")
def pipeline(golden_checkpoint):
    return ChampPipeline.from_checkpoint(golden_checkpoint, dtype="float32", devices=jax.devices()[:1])


@pytest.fixture(scope="module")
def animation(pipeline):
    return pipeline(read_image(PICTURE), MotionFolder(MOTION, frames="0:13"), steps=2, fps=12, **SHORT)


def test_the_result_has_frames_in_both_kinds_and_saves_itself(animation, tmp_path):
    assert animation.frames.shape == (13, 128, 128, 3)
    assert animation.frames.dtype == np.uint8
    np.testing.assert_allclose(animation.frames / 255, animation.frames_float, atol=0.5 / 255 + 1e-6)
    assert len(animation) == 13
    animation.save(tmp_path / "small.mp4", size=(150, 180))
    frames = list(read_video(tmp_path / "small.mp4"))
    assert len(frames) == 13
    assert frames[0].shape == (180, 150, 3)
    assert video_fps(tmp_path / "small.mp4") == 12


def test_one_compiled_denoiser_serves_every_length(pipeline, animation):
    before = set(pipeline.compiled)
    longer = pipeline(read_image(PICTURE), MotionFolder(MOTION), steps=1, **SHORT)
    assert len(longer) == 30
    assert set(pipeline.compiled) == before


@pytest.mark.parity
def test_conditions_may_be_arrays(pipeline, animation):
    arrays = MotionFolder(MOTION, frames="0:13").read(0, 13)
    again = pipeline(read_image(PICTURE), arrays, steps=2, fps=12, **SHORT)
    np.testing.assert_array_equal(again.latents, animation.latents)


def test_the_noise_of_a_frame_is_its_own_whatever_the_length(pipeline):
    from champ_jax.inference.programs import initial_noise

    everywhere = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    short, long = (np.asarray(initial_noise(3, (count, 4, 4, 4), everywhere)) for count in (5, 9))
    np.testing.assert_array_equal(long[:5], short)
    assert abs(long.mean()) < 0.15
    assert long.std() == pytest.approx(1, abs=0.1)


def test_the_autoencoder_alone_decodes_as_the_pipeline_does(golden_checkpoint, animation):
    autoencoder = Autoencoder(open_weights(golden_checkpoint))
    frames = autoencoder.decode(np.asarray(animation.latents)[:5])
    assert np.abs(frames.astype(int) - animation.frames[:5]).max() <= 1
    latents = autoencoder.encode(frames)
    assert latents.shape == animation.latents[:5].shape
    np.testing.assert_allclose(autoencoder.encode(frames[4:]), latents[4:], atol=1e-4)
    with pytest.raises(InputError, match=r"multiples of 8; the frames are 60x128"):
        autoencoder.encode(frames[:, :, :60])


def test_latents_with_hardly_any_noise_are_restored(pipeline, animation):
    """Whatever the network says weighs little there: x0 = alpha x - sigma v."""
    before = set(pipeline.compiled)
    clean, motion = np.asarray(animation.latents), MotionFolder(MOTION, frames="0:13")
    settings, quiet = Settings(width=128, height=128, windows=SHORT["windows"]), Progress(quiet=True)

    def error(timestep):
        made = pipeline.restore(clean, read_image(PICTURE), motion, settings, timestep, progress=quiet)
        assert made.size == (128, 128)
        return np.linalg.norm(made.latents - clean) / np.linalg.norm(clean)

    assert error(0) < 0.15
    assert error(600) > 3 * error(0)
    assert set(pipeline.compiled) == before
    with pytest.raises(InputError, match="timestep"):
        error(1000)


def test_eight_devices_give_the_single_device_result(golden_checkpoint, animation):
    """Windows and guidance halves on 8 devices; 2 windows do not fill them."""
    wide = ChampPipeline.from_checkpoint(golden_checkpoint, dtype="float32", devices=jax.devices())
    result = wide(read_image(PICTURE), MotionFolder(MOTION, frames="0:13"), steps=2, chunk=1, **SHORT)
    expected = np.asarray(animation.latents)
    assert np.linalg.norm(result.latents - expected) <= 1e-4 * np.linalg.norm(expected)
    np.testing.assert_allclose(result.frames_float, animation.frames_float, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parity
def test_bfloat16_is_close(golden_checkpoint, animation):
    half = ChampPipeline.from_checkpoint(golden_checkpoint, dtype="bfloat16", devices=jax.devices()[:1])
    result = half(read_image(PICTURE), MotionFolder(MOTION, frames="0:13"), steps=2, **SHORT)
    assert relative(result.latents, animation.latents) <= 0.05


def test_numbers_that_are_not_finite_end_the_run(pipeline, animation, monkeypatch):
    spoiled = jax.tree.map(lambda x: x * np.nan, pipeline.parameters["denoising_unet"])
    monkeypatch.setitem(pipeline.parameters, "denoising_unet", spoiled)
    with pytest.raises(InputError, match="step 1 of 2: the latents are not finite"):
        pipeline(read_image(PICTURE), MotionFolder(MOTION, frames="0:13"), steps=2, **SHORT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"sampler": "euler"}, "sampler=euler: expected ddim"),
        ({"sampler": "unipc", "eta": 0.5}, "eta=0.5"),
        ({"seed": -1}, "seed=-1"),
        ({"width": 0}, "width=0"),
        ({"batch": 0}, "batch=0"),
        ({"guidance_scale": float("nan")}, "guidance_scale"),
        ({"windows": Windows(frames=40)}, "windows.frames=40: the motion modules know 32"),
        ({"noise": np.zeros((3, 4, 4, 4), np.float32)}, "noise: is"),
        ({"noise": np.full((30, 16, 16, 4), np.nan, np.float32)}, "noise: holds"),
    ],
)
def test_arguments_that_cannot_work_are_refused_before_compiling(pipeline, monkeypatch, arguments, message):
    monkeypatch.setattr(pipeline, "compile", None)
    with pytest.raises(InputError, match=message):
        pipeline(read_image(PICTURE), MotionFolder(MOTION), **(SHORT | arguments))


@pytest.mark.parametrize("picture", [np.zeros((8, 8), np.uint8), np.zeros((8, 8, 3)), np.zeros((0, 8, 3), np.uint8)])
def test_the_picture_is_checked(pipeline, picture):
    with pytest.raises(InputError, match="reference: is"):
        pipeline(picture, MotionFolder(MOTION))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"depth": np.zeros((2, 8, 8), np.uint8)}, r"conditions\[depth\]"),
        ({"depth": np.zeros((2, 8, 8, 3))}, r"conditions\[depth\]"),
        ({"depth": np.zeros((2, 8, 8, 3), np.uint8), "normal": np.zeros((3, 8, 8, 3), np.uint8)}, "number of frames"),
        ({"pose": np.zeros((2, 8, 8, 3), np.uint8)}, "has no pose"),
    ],
)
def test_condition_arrays_are_checked(pipeline, arrays, message):
    with pytest.raises(InputError, match=message):
        pipeline(read_image(PICTURE), arrays)
