"""Files in pieces come back bit for bit, and what is missing or damaged is named."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from champ_jax.common.errors import InputError
from tools.accelerator import pieces

LINE = 4096  # what the first line of a piece may take


def write(folder: Path, data: bytes) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(data)
    return path


@settings(max_examples=30)
@given(data=st.binary(max_size=300), room=st.integers(1, 120))
def test_pieces_make_the_file_again(data, room):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        made = pieces.split(write(folder, data), folder, "w", largest=LINE + room)
        assert len(made) == max(1, -(-len(data) // room))
        assert all(path.stat().st_size <= LINE + room for path in made)
        assert pieces.names(folder) == ["w"]
        pieces.join(folder, "w", folder / "again")
        assert (folder / "again").read_bytes() == data


def test_pieces_are_small_enough_for_machines_that_hand_back_little(tmp_path):
    size = 2 * pieces.LARGEST
    with open(tmp_path / "large", "wb") as file:
        file.truncate(size)
    made = pieces.split(tmp_path / "large", tmp_path, "large")
    assert len(made) == 3
    assert all(path.stat().st_size <= 15 * 2**20 for path in made)


def test_pieces_of_a_smaller_file_replace_those_of_a_larger_one(tmp_path):
    pieces.split(write(tmp_path, b"x" * 100), tmp_path, "w", largest=LINE + 20)
    pieces.split(write(tmp_path, b"y" * 30), tmp_path, "w", largest=LINE + 20)
    pieces.join(tmp_path, "w", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == b"y" * 30
    assert len(list(tmp_path.glob("*.piece"))) == 2


def change(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda folder: (folder / "w.01.piece").unlink(), r"of 3 pieces w\.01\.piece is missing"),
        (lambda folder: [p.unlink() for p in folder.glob("*.piece")], r"w\.00\.piece: no such file"),
        (lambda folder: change(folder / "w.01.piece", b"f" * 20, b"f" * 19 + b"g"), r"w\.01\.piece: is damaged"),
        (lambda folder: change(folder / "w.02.piece", b"f" * 10, b""), r"w\.02\.piece: is damaged"),
        (lambda folder: (folder / "w.01.piece").write_bytes(b""), r"w\.01\.piece: is not a piece of w"),
        (lambda folder: (folder / "w.01.piece").write_bytes(b"\xff" * 9000), r"w\.01\.piece: is not a piece of w"),
        (lambda folder: (folder / "w.01.piece").write_text("[]\n"), r"w\.01\.piece: is not a piece of w"),
        (lambda folder: (folder / "w.02.piece").rename(folder / "w.07.piece"), r"w\.07\.piece: is not a piece of w"),
        (lambda folder: change(folder / "w.01.piece", b'"pieces": 3', b'"pieces": 4'), r"w\.01\.piece: belongs to"),
        (lambda folder: change(folder / "w.01.piece", b'"size": 50', b'"size": -1'), r"w\.01\.piece: is not a piece"),
        (lambda folder: change(folder / "w.00.piece", b'"piece_sha256"', b'"other"'), r"w\.00\.piece: is not a piece"),
    ],
)
def test_missing_and_damaged_pieces_are_named(tmp_path, harm, words):
    pieces.split(write(tmp_path, b"f" * 50), tmp_path, "w", largest=LINE + 20)
    harm(tmp_path)
    with pytest.raises(InputError, match=words):
        pieces.join(tmp_path, "w", tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_pieces_of_two_files_are_not_mixed(tmp_path):
    pieces.split(write(tmp_path, b"a" * 50), tmp_path, "w", largest=LINE + 20)
    old = (tmp_path / "w.01.piece").read_bytes()
    pieces.split(write(tmp_path, b"b" * 50), tmp_path, "w", largest=LINE + 20)
    (tmp_path / "w.01.piece").write_bytes(old)
    with pytest.raises(InputError, match=r"w\.01\.piece: belongs to another file"):
        pieces.join(tmp_path, "w", tmp_path / "again")


def test_a_name_that_machines_would_not_hand_back_is_refused(tmp_path):
    with pytest.raises(InputError, match="letters, digits"):
        pieces.split(write(tmp_path, b"a"), tmp_path, "a b")


def test_every_piece_says_what_belongs_to_it(tmp_path):
    made = pieces.split(write(tmp_path, b"a" * 50), tmp_path, "w", largest=LINE + 20)
    heads = [json.loads(path.read_bytes().split(b"\n", 1)[0]) for path in made]
    assert [head["piece"] for head in heads] == [0, 1, 2]
    assert {(head["pieces"], head["size"]) for head in heads} == {(3, 50)}
