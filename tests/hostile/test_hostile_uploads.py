"""Files that strangers send to the server: refused with one line that names the file, and nothing of them is kept."""

import io
import os
import zipfile
from pathlib import Path

import pytest
from hostile import kinds

from champ_jax.app import uploads
from champ_jax.app.settings import AppSettings
from champ_jax.app.uploads import safe_name
from champ_jax.common.errors import InputError

LIMITS = {"max_upload_mib": 1, "max_picture_pixels": 64 * 64, "max_driving_frames": 20}
_LINK = 0o120777 << 16
_FIFO = 0o010644 << 16


def archive(*members: tuple[str, bytes], mode: int = 0, method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip with these files, which may stand in it twice, be links, or be named as one likes."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, data in members:
            entry = zipfile.ZipInfo(name)
            entry.external_attr, entry.compress_type = mode, method
            made.writestr(entry, data)
    return file.getvalue()


def maps(count: int = 1, size: int = 16, below: str = "") -> list[tuple[str, bytes]]:
    names = ("depth", "normal", "semantic_map", "dwpose", "mask")
    picture = kinds.png(size, size)
    return [(f"{below}{name}/{number:04}.png", picture) for name in names for number in range(1, count + 1)]


def encrypted() -> bytes:
    """A zip whose entries say that they are encrypted."""
    data = bytearray(archive(*maps()))
    for start, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(start)
        while at >= 0:
            data[at + place] |= 1
            at = data.find(start, at + 1)
    return bytes(data)


def bomb() -> bytes:
    """A zip within the limit of an upload whose entries unpack to more than 20 times the limit."""
    return archive(("depth/0001.png", bytes(30 * 2**20)), method=zipfile.ZIP_DEFLATED)


REFUSED = {
    "empty-picture": ("a.png", b"", "a.png"),
    "html-picture": ("a.png", kinds.HTML, "a.png"),
    "postscript-picture": ("a.png", kinds.eps(), "a.png"),
    "cut-picture": ("a.png", kinds.truncated(kinds.png(64, 64)), "a.png"),
    "picture-of-many-pixels": ("a.png", kinds.png(65, 64), "4,096"),
    "picture-bomb": ("a.png", kinds.picture_header(100_000, 100_000), "a.png"),
    "video-as-picture": ("a.png", kinds.mp4(), "a.png"),
    "program": ("a.exe", b"MZ" + bytes(100), "its name must end in"),
    "no-ending": ("picture", kinds.png(), "its name must end in"),
    "playlist": ("a.m3u8", b"#EXTM3U\nhttp://127.0.0.1/x.ts\n", "its name must end in"),
    "playlist-as-video": ("a.mp4", b"#EXTM3U\nhttp://127.0.0.1/x.ts\n", "a.mp4"),
    "html-video": ("a.mp4", kinds.HTML, "a.mp4"),
    "sound": ("a.mp4", kinds.sound(), "a.mp4"),
    "video-of-many-frames": ("a.mp4", kinds.mp4(21), "21 frames, more than the 20"),
    "video-of-many-pixels": ("a.mp4", kinds.mp4(2, (128, 64)), "128x64 pixels, more than the 4,096"),
    "empty-motion": ("a.npz", b"", "a.npz"),
    "pickle-as-motion": ("a.npz", kinds.executing_pickle(), "a.npz"),
    "other-arrays": ("a.npz", kinds.npz(values=kinds.np.zeros(3)), "a.npz"),
    "bomb-motion": ("a.npz", kinds.zip_bomb(size=1 << 30), "a.npz"),
    "no-zip": ("a.zip", b"no zip", "cannot be unpacked"),
    "cut-zip": ("a.zip", kinds.truncated(archive(*maps())), "cannot be unpacked"),
    "empty-zip": ("a.zip", archive(), "holds no depth/"),
    "zip-of-text": ("a.zip", archive(("depth/0001.txt", b"x")), "holds no depth/"),
    "zip-of-html": ("a.zip", archive(("depth/0001.png", kinds.HTML)), "0001.png"),
    "zip-of-links": ("a.zip", archive(("depth/0001.png", b"/etc/passwd"), mode=_LINK), "is a link"),
    "zip-of-pipes": ("a.zip", archive(("depth/0001.png", b""), mode=_FIFO), "is a link or a special file"),
    "encrypted-zip": ("a.zip", encrypted(), "is encrypted"),
    "zip-bomb": ("a.zip", bomb(), "unpacks to more than 20.0 MiB"),
    "zip-of-many-files": ("a.zip", archive(*((f"x/{n}", b"") for n in range(161))), "holds 161 files"),
    "zip-of-many-pixels": ("a.zip", archive(*maps(size=65)), "0001.png"),
    "zip-of-two-folders": ("a.zip", archive(*maps(), *maps(below="b/")), "two files depth/0001.png"),
    "zip-without-all": ("a.zip", archive(*maps(2)[:-1]), "a"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case, tmp_path):
    name, data, culprit = REFUSED[case]
    path = tmp_path / "in" / name
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        uploads.examine(path, AppSettings(**LIMITS))
    assert culprit in str(caught.value)
    assert len(str(caught.value)) < 2000
    assert not (Path.cwd() / "executed").exists()


@pytest.mark.parametrize(
    "below", ["../../../", "/etc/", "C:\\x/", "a/b/c/", "./", "..\\..\\", "\N{RIGHT-TO-LEFT OVERRIDE}/"]
)
def test_names_in_a_zip_never_leave_its_folder(below, tmp_path):
    path = tmp_path / "in" / "walk.zip"
    path.parent.mkdir()
    path.write_bytes(archive(*maps(3, below=below)))
    about = uploads.examine(path, AppSettings(**LIMITS))
    assert (about["frames"], about["width"], about["kind"]) == (3, 16, "motion folder")
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]
    assert [entry.name for entry in (tmp_path / "in").iterdir()] == ["walk"]
    found = sorted(entry.relative_to(about["path"]).as_posix() for entry in about["path"].rglob("*.png"))
    assert found == sorted(name for name, _ in maps(3))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\windows\\a.png", "a.png"),
        ("a\0b\n\x1b[2J.png", "a_b___2J.png"),
        ("..", "file"),
        ("", "file"),
        (".hidden", "hidden"),
        ("\N{RIGHT-TO-LEFT OVERRIDE}gnp.exe", "_gnp.exe"),
        ("é.png", "é.png"),
        ("a" * 300 + ".png", "a" * 76 + ".png"),
        ("\ud800.png", "_.png"),
        ("-rf.png", "-rf.png"),
    ],
)
def test_names_are_made_safe(given, kept):
    assert safe_name(given) == kept
    assert len(os.fsencode(kept)) <= 80
