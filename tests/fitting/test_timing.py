"""Videos of uneven frames: when they count as such, the rate they are brought to, and the points between frames."""

from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from champ_jax.common.errors import InputError
from champ_jax.common.videos import read_timed_video
from champ_jax.fitting.frames import Frames
from champ_jax.fitting.keypoints import Keypoints
from champ_jax.fitting.timing import at_even_times, uneven_rate


def points_at(times, valid=None, **changes) -> Keypoints:
    """Points that move at constant speed: point k is at 100 + 50 t, 10 k."""
    points = np.ones((len(times), 134, 3))
    points[..., 0] = 100 + 50 * np.asarray(times)[:, None]
    points[..., 1] = 10 * np.arange(134)
    return Keypoints.create(points, (640, 480), 30, valid, **changes)


def dropped(count: int, rate: float, *numbers: int) -> np.ndarray:
    """Times of a camera that dropped some frames, rounded to milliseconds as Matroska does."""
    return np.round(np.delete(np.arange(count), numbers) / rate, 3)


def test_even_frames_are_left_alone():
    for rate in (23.976, 30, 240):
        assert uneven_rate(np.round(np.arange(50) / rate, 3)) is None
    assert uneven_rate(None) is None
    assert uneven_rate(np.array([0.0, 0.1])) is None
    assert uneven_rate(np.array([0.0, 0.1, 0.1, 0.9])) is None  # no times


@pytest.mark.parametrize("rate", [12, 29.97, 60])
def test_a_camera_that_drops_frames_gets_its_rate_back(rate):
    assert uneven_rate(dropped(90, rate, 3, 20, 21, 60)) == pytest.approx(rate, rel=1e-3)


@given(st.lists(st.floats(0.01, 0.3), min_size=2, max_size=40), st.floats(5, 60))
def test_what_moves_evenly_still_does(steps, rate):
    """Whatever the frames' times, a point of constant speed is at its place at every time k / rate."""
    times = 7 + np.concatenate([[0], np.cumsum(steps)])
    even, nearest = at_even_times(points_at(times), times, rate, "video")
    wanted = np.minimum(np.arange(len(even)) / rate, times[-1] - times[0]) + times[0]
    assert even.fps == rate
    assert even.valid.all()
    assert abs(len(even) - (times[-1] - times[0]) * rate - 1) <= 0.5 + 1e-6
    np.testing.assert_allclose(even.keypoints[:, 3, 0], 100 + 50 * wanted, atol=0.06)  # a frame 1 ms away is its own
    np.testing.assert_allclose(np.abs(times[nearest] - wanted), np.abs(times[:, None] - wanted).min(axis=0), atol=1e-9)


def test_who_is_not_seen_is_not_made_up():
    times = np.array([0.0, 0.1, 0.2, 0.3, 1.3, 1.4])
    valid = np.array([1, 1, 0, 1, 1, 1], bool)
    even, nearest = at_even_times(points_at(times, valid), times, 10.0, "video")
    np.testing.assert_array_equal(np.flatnonzero(even.valid), [0, 1, 3, 13, 14])  # nobody knows what was within 1 s
    assert nearest[:8].tolist() == [0, 1, 2, 3, 3, 3, 3, 3]
    assert nearest[9:].tolist() == [4, 4, 4, 4, 4, 5]
    offset, _ = at_even_times(points_at(times, valid), times, 11.0, "video")
    assert offset.valid[1]  # at 91 ms, between two frames that show the person
    assert offset.valid[3]  # at 273 ms, with one of them, 27 ms later


def test_scores_are_the_lower_ones_and_the_unseen_stays_so():
    times = np.array([0.0, 0.1, 0.3])
    points = points_at(times)
    points.keypoints[1, 5, 2], points.keypoints[2, 6] = 0.25, 0
    even, _ = at_even_times(points, times, 10.0, "video")
    assert even.keypoints[:, 5, 2].tolist() == [1, 0.25, 0.25, 1]
    np.testing.assert_array_equal(even.keypoints[2, 6], 0)
    np.testing.assert_array_equal(even.keypoints[1, 6], points.keypoints[1, 6])


def test_the_camera_goes_with_them():
    times = np.array([0.0, 0.1, 0.3])
    path = np.stack([[[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]] for a in (0, 0.1, 0.3)])
    even, _ = at_even_times(points_at(times, focal=[500, 510, 530], camera_rotations=path), times, 10.0, "video")
    np.testing.assert_allclose(even.camera_rotations[2, 2, 0], np.sin(0.2), atol=1e-6)
    np.testing.assert_allclose(even.focal, [500, 510, 520, 530])


def test_times_that_ask_for_endless_motions():
    times = np.array([0.0, 0.001, 1e6])
    with pytest.raises(InputError, match="at 1000 frames per second: the motion would have"):
        at_even_times(points_at([0, 1, 2]), times, 1000.0, "dance.mp4")


@pytest.fixture
def uneven(tmp_path):
    """A video whose frame k is gray 10 k, with these times in milliseconds."""
    shown = [0, 40, 80, 200, 240, 280, 320]
    path = tmp_path / "uneven.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(shown):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 10 * number, np.uint8), format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path, shown


def test_frames_know_their_times(uneven):
    path, shown = uneven
    frames = Frames(path)
    assert frames.times is None
    assert len(list(frames)) == 7
    np.testing.assert_allclose(frames.times - frames.times[0], np.array(shown) / 1000, atol=1e-4)
    assert uneven_rate(frames.times) == pytest.approx(25)
    grays = [round(float(np.asarray(picture).mean()) / 10) for picture in frames.at([0, 2, 2, 3, 6])]
    assert grays == [0, 2, 2, 3, 6]
    assert all(time is not None for _, time in read_timed_video(path))
