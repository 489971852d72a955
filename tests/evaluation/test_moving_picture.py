"""tools/make_moving_picture.py: the frames of all videos above each other, at their rate."""

import numpy as np
import pytest
from PIL import Image, ImageSequence

from champ_jax.common.errors import InputError
from champ_jax.common.videos import write_video
from tools.make_moving_picture import main


def gray(path, levels, size=(32, 64), fps=8):
    write_video(path, [np.full((*size, 3), level, np.uint8) for level in levels], fps)
    return path


def test_videos_stand_above_each_other_for_as_long_as_the_shortest(tmp_path):
    first, second = gray(tmp_path / "a.mp4", (10, 90, 170)), gray(tmp_path / "b.mp4", (240, 160, 80, 0))
    main([f"--videos={first},{second}", f"--output={tmp_path / 'out.webp'}"])
    with Image.open(tmp_path / "out.webp") as picture:
        frames = [np.asarray(frame.convert("RGB"), float) for frame in ImageSequence.Iterator(picture)]
        assert picture.info["loop"] == 0
    assert len(frames) == 3
    for frame, top, bottom in zip(frames, (10, 90, 170), (240, 160, 80)):
        assert frame.shape == (64, 64, 3)
        assert abs(frame[:30].mean() - top) < 6
        assert abs(frame[34:].mean() - bottom) < 6


def test_what_does_not_fit_is_named(tmp_path):
    first = gray(tmp_path / "a.mp4", (10, 90))
    for other in (gray(tmp_path / "b.mp4", (10, 90), size=(64, 64)), gray(tmp_path / "c.mp4", (10, 90), fps=24)):
        with pytest.raises(InputError, match=rf"{other.name}: is .*make them alike"):
            main([f"--videos={first},{other}", f"--output={tmp_path / 'out.webp'}"])
    with pytest.raises(InputError, match=r"--output=.*gif: name a \.webp file"):
        main([f"--videos={first}", f"--output={tmp_path / 'out.gif'}"])
    (tmp_path / "notes.webp").write_text("mine")
    with pytest.raises(InputError, match=r"notes\.webp"):
        main([f"--videos={first}", f"--output={tmp_path / 'notes.webp'}"])
    assert (tmp_path / "notes.webp").read_text() == "mine"
