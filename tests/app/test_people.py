"""Fits in the background: asked for again and again, made once, in turn."""

import threading
import time
from pathlib import Path

import pytest

from champ_jax.app import people
from champ_jax.app.people import People
from champ_jax.common.errors import InputError


class Fits:
    """A fit that ends when it is let, and tells what was asked of it."""

    def __init__(self):
        self.asked: list[tuple[Path, Path]] = []
        self.go = threading.Semaphore(0)

    def __call__(self, picture: Path, place: Path):
        self.asked.append((picture, place))
        assert self.go.acquire(timeout=20)
        if picture.name == "empty.png":
            raise InputError("empty.png: nobody is seen")
        if picture.name == "bug.png":
            raise KeyError("bug")
        return f"person of {picture.name}"


def wait(find):
    end = time.monotonic() + 20
    while (found := find()) is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    return found


def test_a_person_is_fitted_once_however_often_it_is_asked_for():
    fits = Fits()
    found = People(fits)
    one, place = Path("one.png"), Path("place.npz")
    assert [found.find(one, place) for _ in range(3)] == [None] * 3
    fits.go.release()
    assert wait(lambda: found.find(one, place)) == "person of one.png"
    assert fits.asked == [(one, place)]


def test_pictures_take_turns_and_a_bad_one_holds_up_nobody():
    fits = Fits()
    found = People(fits)
    pictures = [Path(name) for name in ("empty.png", "bug.png", "good.png")]
    for picture in pictures:
        assert found.find(picture, picture) is None
    for _ in pictures:
        fits.go.release()
    assert wait(lambda: found.find(pictures[2], pictures[2])) == "person of good.png"
    assert [picture for picture, _ in fits.asked] == pictures
    with pytest.raises(InputError, match=r"^empty.png: nobody is seen$"):
        found.find(pictures[0], pictures[0])
    with pytest.raises(InputError, match=r"bug.png: the person could not be fitted \(KeyError\)"):
        found.find(pictures[1], pictures[1])


def test_who_no_longer_looks_is_left_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(people, "_WAITING", 2)
    monkeypatch.setattr(people, "_KEPT", 2)
    fits = Fits()
    found = People(fits)
    pictures = [Path(f"{number}.png") for number in range(5)]
    found.find(pictures[0], pictures[0])
    while not fits.asked:
        time.sleep(0.01)
    for picture in pictures[1:]:
        found.find(picture, picture)
    for _ in range(3):
        fits.go.release()
    wait(lambda: found.find(pictures[4], pictures[4]))
    assert [picture.name for picture, _ in fits.asked] == ["0.png", "3.png", "4.png"]
    assert found.find(pictures[0], pictures[0]) is None  # forgotten, and asked for again
    fits.go.release()
    wait(lambda: found.find(pictures[0], pictures[0]))
