"""Finding people in videos: who is chosen, where they are missed, cuts and tiles. The networks are played by colors."""

from pathlib import Path

import numpy as np
import pytest
from colored_people import BLUE, FPS, RED, SIZE, SMALL, detect, draw, play_networks
from hostile import kinds
from PIL import Image

from champ_jax.common.errors import InputError
from champ_jax.common.videos import write_video
from champ_jax.fitting import video
from champ_jax.fitting.detection import Detections
from champ_jax.fitting.options import Options
from champ_jax.fitting.video import People, find_people


@pytest.fixture(autouse=True)
def networks(monkeypatch):
    play_networks(monkeypatch)


@pytest.fixture
def find(tmp_path):
    def run(frames: list[np.ndarray], **options: str) -> People:
        path = tmp_path / "video.mp4"
        write_video(path, frames, FPS)
        return find_people(path, Options(**options))

    return run


def nose(people: People, shot: int = 0) -> np.ndarray:
    """(T, 2) of the chosen person; NaN where there is none."""
    keypoints = people.shots[shot].chosen.keypoints
    return np.where(keypoints.valid[:, None], keypoints.keypoints[:, 0, :2], np.nan)


def test_one_person_is_followed_frame_by_frame(find):
    frames = [draw((RED, 30 + 3 * t, 50, 60)) for t in range(30)]
    people = find(frames)
    assert people.image_size == SIZE
    assert people.fps == FPS
    assert [len(shot) for shot in people.shots] == [30]
    np.testing.assert_allclose(nose(people), [(30 + 3 * t, 50) for t in range(30)], atol=1)
    track = people.shots[0].chosen
    assert (track.number, track.first, track.last) == (1, 0, 29)
    assert track.boxes.shape == (30, 4)
    np.testing.assert_allclose(track.boxes[4], [42 - 37.5, 50 - 37.5, 42 + 37.5, 50 + 37.5], atol=2)


def test_frames_without_the_person_are_there_and_not_valid(find):
    away = range(10, 26)
    frames = [draw(*([] if t in away else [(RED, 60 + t, 50, 60)])) for t in range(36)]
    people = find(frames)
    valid = people.shots[0].chosen.keypoints.valid
    np.testing.assert_array_equal(valid, [t not in away for t in range(36)])
    assert len(people.shots[0].tracks) == 1  # lost for more than a second, and found again by color and place


def test_a_person_whom_the_detector_misses_for_some_frames_is_found_between(find, monkeypatch):
    frames = [draw((RED, 60 + t, 50, 60)) for t in range(24)]
    calls = iter(range(1000))

    def forgetful(pictures, level: int = 1) -> list[Detections]:
        found = detect(pictures, level)
        numbers = [next(calls) for _ in pictures]
        return [one[np.arange(len(one) if not 8 <= number < 14 else 0)] for number, one in zip(numbers, found)]

    monkeypatch.setattr(video, "detect", forgetful)
    assert find(frames, tiles="none").shots[0].chosen.keypoints.valid.all()


def two() -> list[np.ndarray]:
    """A large person in the first half, a smaller one throughout."""
    return [draw((BLUE, 120, 60, 40), *([(RED, 40, 50, 60)] if t < 15 else [])) for t in range(30)]


@pytest.mark.parametrize(
    ("options", "x"),
    [
        ({}, 40),
        ({"person": "longest"}, 120),
        ({"person": "1"}, 40),
        ({"person": "2"}, 120),
        ({"at": "115,55"}, 120),
        ({"at": "45,50,3"}, 40),
        ({"person": "1", "at": "115,55,29"}, 120),
    ],
)
def test_who_is_chosen(find, options, x):
    people = find(two(), **options)
    np.testing.assert_allclose(nose(people)[2], (x, 60 if x == 120 else 50), atol=1)
    assert [track.chosen for track in people.shots[0].tracks] == [x == 40, x == 120]
    assert "person 2: frames 0 to 29" in "\n".join(people.lines())


def test_everybody_has_points_before_one_is_chosen(find):
    for track in find(two()).shots[0].tracks:
        assert track.keypoints.valid.any()


def test_a_second_detection_of_another_size_is_not_another_person(find, monkeypatch):
    def twice(pictures, level: int = 1) -> list[Detections]:
        found = []
        for one in detect(pictures, level):
            larger = one.points + (one.points[:, 1:2] - one.points[:, :1])  # its circle reaches further
            larger[:, 0] = one.points[:, 0]
            found.append(
                Detections(
                    *(
                        np.concatenate(pair)
                        for pair in zip((one.boxes, one.scores, one.points), (one.boxes + 40, one.scores, larger))
                    )
                )
            )
        return found

    monkeypatch.setattr(video, "detect", twice)
    (shot,) = find([draw((RED, 40 + t, 50, 60)) for t in range(24)]).shots
    assert len(shot.tracks) == 1
    assert shot.chosen.size == pytest.approx(75, abs=3)


def test_somebody_who_rushes_by_in_front_is_not_the_largest(find):
    frames = [draw((BLUE, 120, 60, 40), *([(RED, 40, 50, 80)] if t in (8, 9, 10) else [])) for t in range(40)]
    np.testing.assert_allclose(nose(find(frames))[20], (120, 60), atol=1)


def test_shots_are_taken_one_by_one(find):
    frames = [draw((RED, 40 + t, 50, 60), backdrop=40) for t in range(14)]
    frames += [draw((BLUE, 120, 50, 50), (RED, 40, 60, 40), backdrop=200) for _ in range(16)]
    people = find(frames)
    assert [(shot.first, shot.last) for shot in people.shots] == [(0, 13), (14, 29)]
    assert [len(shot.chosen.keypoints) for shot in people.shots] == [14, 16]
    np.testing.assert_allclose(nose(people, 1)[0], (120, 50), atol=1)
    by_color = find(frames, at="42,50,2")
    np.testing.assert_allclose(nose(by_color, 1)[0], (40, 60), atol=1)  # who looks like the person of the first shot
    assert people.lines()[0] == "shot 1: frames 0 to 13"
    with pytest.raises(InputError, match=r"video\.mp4: has 2 shots \(new ones begin at frame 14\).*--cuts=split"):
        find(frames, cuts="refuse")


def test_a_shot_without_people_does_not_stop_the_others(find):
    frames = [draw(backdrop=30) for _ in range(14)] + [draw((BLUE, 120, 50, 50), backdrop=200) for _ in range(16)]
    people = find(frames)
    assert people.shots[0].chosen is None
    assert people.shots[1].chosen.keypoints.valid.all()
    assert "nobody was found" in people.lines()[1]


@pytest.mark.parametrize(("tiles", "found"), [("3", True), ("none", False)])
def test_tiles_are_chosen_by_hand(find, tiles, found):
    frames = [draw((RED, 30 + t, 50, SMALL)) for t in range(12)]
    if found:
        assert find(frames, tiles=tiles).shots[0].chosen.keypoints.valid.all()
    else:
        with pytest.raises(InputError, match="nobody was found in it"):
            find(frames, tiles=tiles)


def test_tiles_follow_by_themselves_when_people_are_small(find, monkeypatch):
    monkeypatch.setattr(video, "_SMALLEST_TILE", 16)
    people = find([draw((RED, 30 + t, 50, SMALL)) for t in range(24)])
    assert people.level == 2
    assert people.shots[0].chosen.keypoints.valid.all()


def test_a_picture_and_a_folder_of_pictures(tmp_path):
    for index in range(3):
        Image.fromarray(draw((RED, 40 + index, 50, 60))).save(tmp_path / f"{index}.png")
    one = find_people(tmp_path / "1.png")
    np.testing.assert_allclose(nose(one), [(41, 50)], atol=1)
    all_of_them = find_people(tmp_path, fps=5)
    assert (len(all_of_them.shots[0]), all_of_them.fps) == (3, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"person": "tallest"}, "--person=tallest: expected largest, longest or a number"),
        ({"person": "0"}, "--person=0: expected"),
        ({"person": "3"}, r"--person=3: .*video\.mp4 shows 2 people; the largest is 1"),
        ({"at": "here"}, "--at=here: expected x,y or x,y,frame"),
        ({"at": "10,10,30"}, "--at: .*has no frame 30; its last one is 29"),
        ({"at": "500,10"}, "--at=500,10: lies outside of .*160x96"),
        ({"at": "80,10"}, "--at=80,10,0: .*shows nobody there"),
        ({"at": "40,50,28"}, "shows nobody there"),
        ({"tiles": "1"}, "--tiles=1: expected auto, none or a number from 2 to 16"),
        ({"cuts": "keep"}, "--cuts=keep: expected split or refuse"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(find, options, message):
    with pytest.raises(InputError, match=message) as caught:
        find(two(), **options)
    assert "\n" not in str(caught.value)


def test_pictures_of_several_sizes_are_refused(tmp_path):
    Image.fromarray(draw((RED, 40, 50, 60))).save(tmp_path / "0.png")
    Image.new("RGB", (50, 60)).save(tmp_path / "1.png")
    with pytest.raises(InputError, match=r"1\.png is 50x60, the first one 160x96; bring all frames to one size"):
        find_people(tmp_path)


@pytest.mark.parametrize("name", ["missing.mp4", "missing.png", "missing"])
def test_a_missing_file_is_named(tmp_path, name):
    with pytest.raises(InputError, match=name):
        find_people(Path(tmp_path / name))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no pictures"):
        find_people(tmp_path)


@pytest.mark.parametrize("kind", kinds.VIDEOS)
def test_a_broken_video_is_refused_in_one_line(tmp_path, kind):
    path = kinds.VIDEOS[kind](tmp_path / "video.mp4")
    with pytest.raises(InputError, match=r"video\.mp4") as caught:
        find_people(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", kinds.PICTURES)
def test_a_broken_picture_is_refused_in_one_line(tmp_path, kind):
    path = kinds.PICTURES[kind](tmp_path / "person.png")
    with pytest.raises(InputError, match=r"person\.png") as caught:
        find_people(path)
    assert "\n" not in str(caught.value)
