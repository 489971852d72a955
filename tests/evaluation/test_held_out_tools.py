"""tools/pack_people.py and tools/make_results_sheet.py: what they write is what their names say."""

import numpy as np
import pytest

from champ_jax.body.authored import load_authored
from champ_jax.body.motion import Motion
from champ_jax.common.errors import InputError
from champ_jax.common.pictures import read_image, write_image
from champ_jax.common.videos import read_video, video_fps
from tools.make_results_sheet import main as draw
from tools.pack_people import main as pack

SIZE = 64


def write_frames(folder, levels):
    folder.mkdir(parents=True)
    for number, level in enumerate(levels, 1):
        write_image(folder / f"{number:04}.png", np.full((SIZE, SIZE, 3), level, np.uint8))


@pytest.fixture
def held_out(tmp_path):
    """One video of four gray frames."""
    write_frames(tmp_path / "test/a/images", (10, 60, 110, 160))
    write_frames(tmp_path / "test/a/normal", (210, 220, 230, 240))
    load_authored("wave")[:4].save(tmp_path / "test/a/motion.npz")
    return tmp_path / "test"


def test_a_packed_person_is_the_video(held_out, tmp_path):
    pack([f"--source={held_out}", "--names=a", f"--output={tmp_path / 'people'}"])
    folder = tmp_path / "people" / "a"
    assert (folder / "reference.png").read_bytes() == (held_out / "a/images/0001.png").read_bytes()
    motion = Motion.load(folder / "motion.npz")
    np.testing.assert_array_equal(motion.rotations, load_authored("wave")[:4].rotations)
    assert video_fps(folder / "truth.mp4") == motion.fps
    levels = [frame.mean() for frame in read_video(folder / "truth.mp4")]
    np.testing.assert_allclose(levels, (10, 60, 110, 160), atol=4)
    with pytest.raises(InputError, match=r"--names=b: .* holds no such video"):
        pack([f"--source={held_out}", "--names=b", f"--output={tmp_path / 'people'}"])


def test_a_sheet_has_the_truth_above_the_model(held_out, tmp_path):
    write_frames(tmp_path / "made/a", (11, 61, 111, 161))
    arguments = [f"--held_out={held_out}", f"--predictions={tmp_path / 'made'}", "--names=a", "--frames=2"]
    draw([*arguments, f"--output={tmp_path / 'sheet.png'}"])
    sheet = read_image(tmp_path / "sheet.png")[:, 72:]  # right of the words
    above, below = (sheet[row, 2 :: SIZE + 4, 0].tolist() for row in (SIZE // 2, SIZE + 4 + SIZE // 2))
    assert above == [10, 110, 160]
    assert below == [240, 111, 161]


def test_every_folder_of_predictions_has_its_row(held_out, tmp_path):
    write_frames(tmp_path / "one/made/a", (11, 61, 111, 161))
    write_frames(tmp_path / "two/made/a", (12, 62, 112, 162))  # a folder of the same name
    folders = f"--predictions={tmp_path / 'one/made'},{tmp_path / 'two/made'}"
    draw([f"--held_out={held_out}", folders, "--names=a", "--frames=2", f"--output={tmp_path / 'sheet.png'}"])
    sheet = read_image(tmp_path / "sheet.png")[:, 72:]
    rows = [sheet[row + SIZE // 2, 2 :: SIZE + 4, 0].tolist() for row in range(0, 3 * (SIZE + 4), SIZE + 4)]
    assert rows == [[10, 110, 160], [240, 111, 161], [240, 112, 162]]


def test_predictions_of_another_length_are_reported(held_out, tmp_path):
    write_frames(tmp_path / "made/a", (11, 61))
    arguments = [f"--held_out={held_out}", f"--predictions={tmp_path / 'made'}", "--names=a"]
    with pytest.raises(InputError, match=r"has 2 frames, .* has 4"):
        draw([*arguments, f"--output={tmp_path / 'sheet.png'}"])
