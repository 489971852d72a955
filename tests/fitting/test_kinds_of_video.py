"""From videos of every kind to the points of their shots: what phones, screen recorders and editors write."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from colored_people import FPS, RED, SIZE, draw, play_networks
from panorama import look, path_of, texture
from PIL import Image

from champ_jax.body.rotations import matrix_to_axis_angle
from champ_jax.common.errors import InputError
from champ_jax.common.progress import Progress
from champ_jax.common.videos import read_video, write_video
from champ_jax.fitting.networks import weights
from champ_jax.fitting.options import Options
from champ_jax.fitting.steps import Shot, find_shots

FRAMES = 14
PICTURES = [draw((RED, 40 + 4 * t, 50, 60)) for t in range(FRAMES)]


@pytest.fixture(autouse=True)
def networks(monkeypatch):
    play_networks(monkeypatch)


def encode(path: Path, pictures, codec="libx264", pixels="yuv420p", times=None, options=None, form="rgb24") -> Path:
    """Writes a video with PyAV; times in milliseconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=int(FPS), options=options or {"crf": "10"})
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixels
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=form)
            if times is not None:
                frame.pts, frame.time_base = int(times[number]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def find(path: Path, fps: float | None = None, **options) -> tuple[list[Shot], list[str]]:
    return find_shots(path, Options(tiles="none"), fps, None, Progress(quiet=True), **options)


def test_an_even_video_keeps_its_frames(tmp_path):
    write_video(tmp_path / "even.mp4", PICTURES, FPS)
    (shot,), notes = find(tmp_path / "even.mp4")
    assert shot.keypoints.fps == FPS
    np.testing.assert_array_equal(shot.frames, np.arange(FRAMES))
    np.testing.assert_allclose(shot.keypoints.keypoints[:, 0, 0], 40 + 4 * np.arange(FRAMES), atol=1)
    assert not any("ms apart" in note for note in notes)


def test_a_variable_frame_rate(tmp_path):
    """A phone that dropped frames: the person walks as evenly as before, at the phone's own rate."""
    kept = [number for number in range(FRAMES) if number not in (4, 8, 9)]
    times = [round(1000 * number / FPS) for number in kept]
    path = encode(tmp_path / "phone.mp4", [PICTURES[number] for number in kept], times=times)
    (shot,), notes = find(path)
    assert shot.keypoints.fps == pytest.approx(FPS, rel=1e-3)
    assert len(shot.keypoints) == FRAMES
    np.testing.assert_allclose(shot.keypoints.keypoints[:, 0, 0], 40 + 4 * np.arange(FRAMES), atol=1)
    nearest = [kept[number] for number in shot.frames]
    assert np.abs(nearest - np.arange(FRAMES)).max() <= 1
    (line,) = [note for note in notes if "ms apart" in note]
    assert line.startswith(f"{path}: its frames come 83 to 250 ms apart")
    (taken,), notes = find(path, fps=10.0)
    assert (len(taken.keypoints), taken.keypoints.fps) == (len(kept), 10.0)
    assert not any("ms apart" in note for note in notes)


def test_shots_of_uneven_frames_begin_at_their_own(tmp_path):
    other = [draw((RED, 120, 60, 50), backdrop=220) for _ in range(12)]
    times = np.cumsum([0, *[80] * 6, 240, *[80] * (FRAMES + 12 - 8)])
    shots, _ = find(encode(tmp_path / "cut.mp4", [*PICTURES, *other], times=times))
    assert [shot.frames[0] for shot in shots] == [0, FRAMES]
    assert [shot.frames[-1] for shot in shots] == [FRAMES - 1, FRAMES + 11]
    assert [len(shot.keypoints) for shot in shots] == [FRAMES + 2, 12]


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("ten.mp4", "libx264", "yuv420p10le"),
        ("ten.mkv", "ffv1", "yuv444p10le"),
        ("twelve.mov", "prores_ks", "yuva444p10le"),
    ],
)
def test_more_than_8_bits(tmp_path, name, codec, pixels):
    (shot,), _ = find(encode(tmp_path / name, PICTURES, codec, pixels, options={}))
    np.testing.assert_allclose(shot.keypoints.keypoints[:, 0, 0], 40 + 4 * np.arange(FRAMES), atol=1)


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [("cut-out.mov", "qtrle", "argb"), ("cut-out.mkv", "ffv1", "bgra"), ("a.mov", "png", "rgba")],
)
def test_what_is_transparent_is_black(tmp_path, name, codec, pixels):
    """As in pictures: somebody in colors that are hidden is not there."""
    hidden = [draw((RED, 40 + 4 * t, 50, 60), (RED, 130, 50, 80)) for t in range(FRAMES)]
    alpha = np.where(np.arange(SIZE[0])[None, :, None] < 100, 255, 0) * np.ones((SIZE[1], 1, 1), int)
    frames = [np.concatenate([picture, alpha], axis=2).astype(np.uint8) for picture in hidden]
    path = encode(tmp_path / name, frames[:8], codec, pixels, options={}, form="rgba")
    first = next(read_video(path))
    assert not first[:, 100:].any()
    np.testing.assert_array_equal(first[:, :100], hidden[0][:, :100])
    (shot,), notes = find(path)
    assert "person 2" not in "\n".join(notes)
    np.testing.assert_allclose(shot.keypoints.keypoints[:, 0, 0], 40 + 4 * np.arange(8), atol=1)


def test_alpha_that_is_not_decoded_is_said(tmp_path):
    frames = [
        np.concatenate([picture, np.full((*picture.shape[:2], 1), 128, np.uint8)], axis=2) for picture in PICTURES[:2]
    ]
    path = encode(tmp_path / "cut-out.webm", frames, "libvpx-vp9", "yuva420p", options={"cpu-used": "8"}, form="rgba")
    with av.open(str(path)) as container:
        assert container.streams.video[0].metadata.get("alpha_mode") == "1"
    with pytest.warns(UserWarning, match=r"cut-out\.webm: its transparency is not decoded"):
        assert len(list(read_video(path))) == 2


def test_a_phone_that_was_held_upright(tmp_path):
    """Frames are stored lying on their side, with a matrix that turns them."""
    path = tmp_path / "phone.mp4"
    write_video(path, [np.rot90(picture) for picture in PICTURES], FPS)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    for place, value in zip((0, 4, 12, 16), (0, 1, -1, 0)):  # a quarter turn clockwise
        data[at + place : at + place + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    (shot,), _ = find(path)
    assert shot.keypoints.image_size.tolist() == list(SIZE)
    np.testing.assert_allclose(shot.keypoints.keypoints[:, 0, 0], 40 + 4 * np.arange(FRAMES), atol=1)


@pytest.mark.parametrize("moving", [False, True])
def test_one_frame(tmp_path, moving):
    write_video(tmp_path / "one.mp4", PICTURES[:1], FPS)
    (shot,), _ = find(tmp_path / "one.mp4", moving_camera=moving)
    assert len(shot.keypoints) == 1
    assert shot.keypoints.camera_rotations is None


def test_4k(tmp_path):
    picture = np.kron(PICTURES[0], np.ones((24, 24, 1), np.uint8))[:2160, :3840]
    write_video(tmp_path / "large.mp4", [picture, picture], FPS)
    (shot,), _ = find(tmp_path / "large.mp4", moving_camera=True)
    assert shot.keypoints.image_size.tolist() == [3840, 2160]
    np.testing.assert_allclose(shot.keypoints.keypoints[0, 0, :2], [960, 1200], atol=24)


def test_nobody_and_damage_with_a_moving_camera(tmp_path):
    write_video(tmp_path / "empty.mp4", [draw() for _ in range(3)], FPS)
    with pytest.raises(InputError, match=r"empty\.mp4: nobody was found in it"):
        find(tmp_path / "empty.mp4", moving_camera=True)
    write_video(tmp_path / "whole.mp4", PICTURES, FPS)
    (tmp_path / "half.mp4").write_bytes((tmp_path / "whole.mp4").read_bytes()[:-400])
    with pytest.raises(InputError, match=r"half\.mp4: .*(damaged|truncated|decoded)"):
        find(tmp_path / "half.mp4", moving_camera=True)


@pytest.mark.parametrize("content", [None, b"version https://git-lfs.github.com/spec/v1\n", bytes(100)])
def test_a_network_of_the_package_that_is_not_there(tmp_path, monkeypatch, content):
    monkeypatch.setattr(weights, "FOLDER", tmp_path)
    if content is not None:
        (tmp_path / "person_detector.safetensors").write_bytes(content)
    with pytest.raises(
        InputError, match=r"person_detector\.safetensors: .*; it belongs to champ_jax: install"
    ) as caught:
        weights.load_weights.__wrapped__("person_detector")
    assert "\n" not in str(caught.value)


def test_a_moving_camera_of_every_shot(tmp_path):
    """Two shots: the background turns by 12 degrees in the first, and stands still in the second."""
    size, focal, first = (320, 240), 300.0, path_of([-10], [0], [0])[0]
    path = path_of(12 * np.linspace(0, 1, 12), np.zeros(12), np.zeros(12))
    surroundings = texture(0) * 0.5, texture(1) * 0.4 + 150
    frames = [look(surroundings[0], turn @ first, focal, size) for turn in path]
    frames += [look(surroundings[1], np.eye(3), focal, size)] * 12
    for number, frame in enumerate(frames):
        frame[100:180, 130 + number : 170 + number] = RED
        frames[number] = frame.copy()
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{number:02}.png", compress_level=1)
    shots, notes = find(tmp_path, fps=12.0, moving_camera=True)
    assert [len(shot.keypoints) for shot in shots] == [12, 12]
    between = shots[0].keypoints.camera_rotations @ path.transpose(0, 2, 1)
    assert np.degrees(np.linalg.norm(matrix_to_axis_angle(between), axis=-1)).max() < 0.5
    assert shots[0].keypoints.focal[0] == pytest.approx(focal, rel=0.05)
    assert shots[1].keypoints.camera_rotations is None
    assert any("frames 0 to 11: the camera turned by up to 12.0 degrees" in note for note in notes)
    assert any("frames 12 to 23: the camera stood still" in note for note in notes)
