"""The drawing before any time is spent: what it shows, and how it follows the edits."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from champ_jax.app.preview import BODY, DRIVING, PICTURE, SIDE, draw_preview
from champ_jax.app.request import FieldError, MotionEdits, built_in_motions, built_in_pictures
from champ_jax.app.uploads import MOTION, MOTION_FOLDER, VIDEO
from champ_jax.body.motion import Motion
from champ_jax.common.condition_names import CONDITIONS
from champ_jax.common.videos import write_video

REFERENCE = built_in_pictures()["p00000_m00000"]
WAVE = built_in_motions()["wave"]


def center(image: np.ndarray) -> np.ndarray:
    """The mean place (x, y) of what is not black."""
    rows, columns = np.nonzero(image.any(axis=-1))
    return np.array([columns.mean(), rows.mean()])


def body_size(image: np.ndarray) -> int:
    """How many rows show something."""
    return int(image.any(axis=(1, 2)).sum())


def draw(frame: int = 0, **edits):
    return draw_preview(REFERENCE, MOTION, WAVE, MotionEdits(**edits), frame)


def test_body_and_maps_lie_over_the_picture():
    drawn = draw(5)
    assert (drawn.frames, drawn.frame) == (36, 5)
    assert list(drawn.images) == [PICTURE, BODY, *CONDITIONS]
    assert {image.shape for image in drawn.images.values()} == {(SIDE, SIDE, 3)}
    shown = (drawn.images[BODY] != drawn.images[PICTURE]).any(axis=-1)
    there = drawn.images["normal"].any(axis=-1)
    assert 0.02 < there.mean() < 0.5
    assert not shown[~there].any()
    assert shown[there].mean() > 0.9


def test_it_follows_the_edits():
    still = draw(0).images["semantic_map"]
    moved = draw(0, move_x=0.2, move_y=-0.05).images["semantic_map"]
    np.testing.assert_allclose(center(moved) - center(still), [0.2 * SIDE, -0.05 * SIDE], atol=3)
    larger = draw(0, scale=0.5).images["semantic_map"]
    assert body_size(larger) / body_size(still) == pytest.approx(0.5, abs=0.03)
    mirrored = draw(0, mirror=True).images["depth"]
    difference = np.abs(mirrored[:, ::-1].astype(int) - draw(0).images["depth"])
    assert (difference > 24).mean() < 0.01  # the open body is its own mirror image; outlines differ by a pixel


def test_the_frame_that_is_shown_is_one_that_is_kept():
    assert draw(30, start=4, stop=9).frame == 8
    assert draw(0, start=4, stop=9).frame == 4
    np.testing.assert_array_equal(draw(0, start=4, stop=9).images["normal"], draw(4).images["normal"])


def test_a_picture_of_another_aspect_gets_the_body_unstretched(tmp_path: Path):
    tall = tmp_path / "tall.png"
    Image.new("RGB", (120, 240), (90, 120, 150)).save(tall)
    drawn = draw_preview(tall, MOTION, WAVE, MotionEdits(), 0)
    assert drawn.images[BODY].shape == (SIDE, SIDE // 2, 3)
    square, narrow = draw(0).images["normal"].any(axis=-1), drawn.images["normal"].any(axis=-1)
    aspects = [np.ptp(np.nonzero(one)[1]) / np.ptp(np.nonzero(one)[0]) for one in (square, narrow)]
    assert aspects[1] == pytest.approx(aspects[0], rel=0.03)


def test_frames_without_the_body_and_bodies_outside_are_said(tmp_path: Path):
    motion = Motion.load(WAVE)
    motion.valid[3] = False
    motion.save(tmp_path / "gap.npz")
    drawn = draw_preview(REFERENCE, MOTION, tmp_path / "gap.npz", MotionEdits(), 3)
    assert drawn.notes == ("frame 3 does not show the body",)
    assert list(drawn.images) == [PICTURE]
    with pytest.warns(UserWarning, match="outside the picture"):
        assert draw(7, move_x=2).notes == ("frame 7: the body is outside the picture",)


def test_a_motion_folders_maps_are_shown_as_they_are(tmp_path: Path):
    for name, color in (("normal", (128, 128, 255)), ("depth", (200, 200, 200))):
        (tmp_path / name).mkdir()
        for frame in range(3):
            picture = np.zeros((64, 64, 3), np.uint8)
            picture[8 + frame * 8 : 48, 20:40] = color
            Image.fromarray(picture).save(tmp_path / name / f"{frame:04}.png")
    drawn = draw_preview(REFERENCE, MOTION_FOLDER, tmp_path, MotionEdits(start=1), 0)
    assert (drawn.frames, drawn.frame) == (3, 1)
    assert set(drawn.images) == {PICTURE, BODY, "normal", "depth"}
    assert body_size(drawn.images["depth"]) == pytest.approx(32 * SIDE / 64, abs=6)
    with pytest.raises(FieldError, match="only start and stop") as caught:
        draw_preview(REFERENCE, MOTION_FOLDER, tmp_path, MotionEdits(mirror=True), 0)
    assert caught.value.field == "edits"
    with pytest.raises(FieldError, match=r"edits.stop=4: the motion has 3 frames"):
        draw_preview(REFERENCE, MOTION_FOLDER, tmp_path, MotionEdits(stop=4), 0)


def test_a_driving_videos_frame_is_shown_beside_the_picture(tmp_path: Path):
    frames = [np.full((48, 64, 3), level, np.uint8) for level in (40, 120, 200)]
    write_video(tmp_path / "clip.mp4", frames, 10)
    for frame, level in ((1, 120), (9, 200)):
        drawn = draw_preview(REFERENCE, VIDEO, tmp_path / "clip.mp4", MotionEdits(), frame)
        assert drawn.images[DRIVING].mean() == pytest.approx(level, abs=6)
        assert drawn.frames is None
