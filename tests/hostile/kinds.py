"""Broken files, values and outputs, made on the spot for the tables of hostile cases.

A maker takes the path where a good file would be, makes something else there and returns the path to name on the
command line. The groups map a kind's name to its maker, so that a table is a loop:

    def reference(make):
        return lambda folder: [f"--config.reference={make(folder / 'person.png')}"]

    CASES = [
        Case(f"reference-{kind}", "animate", reference(make), "person.png") for kind, make in kinds.PICTURES.items()
    ]
"""

import contextlib
import io
import json
import os
import pickle
import resource
import socket
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import safetensors.numpy
from PIL import Image

Maker = Callable[[Path], Path]

HTML = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>Not Found</body></html>\n"
LFS_POINTER = (
    b"version https://git-lfs.github.com/spec/v1\n"
    b"oid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345678\n"
)
_COVER = av.stream.Disposition.attached_pic
LONG_NAME = "n" * 300  # no file system takes more than 255 bytes
NUMBERS = ("nan", "inf", "-inf", "-1", "0", "1e300", "1e9", "1000000000000", "text", "", "²", "1,2", "true")


def content(data: bytes) -> Maker:
    """A maker of files with these bytes."""

    def make(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    return make


# Good files, to break or to rename.


def png(width: int = 16, height: int = 16, mode: str = "RGB") -> bytes:
    rows = np.arange(height * width * 3).reshape(height, width, 3) % 251
    return _saved(Image.fromarray(rows.astype(np.uint8)).convert(mode), "PNG")


def eps() -> bytes:
    """PostScript, which Pillow would hand to the ghostscript on PATH."""
    return _saved(Image.new("RGB", (16, 16), "red"), "EPS")


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **(arrays or {"values": np.arange(100.0)}))
    return stream.getvalue()


def npy(array: np.ndarray | None = None) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.arange(100.0) if array is None else array)
    return stream.getvalue()


def safetensors_file(**arrays: np.ndarray) -> bytes:
    return safetensors.numpy.save(arrays or {"weight": np.arange(100, dtype=np.float32)})


def zip_file(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in (members or {"readme.txt": b"nothing here"}).items():
            archive.writestr(name, data)
    return stream.getvalue()


def mp4(frames: int = 8, size: tuple[int, int] = (32, 32)) -> bytes:
    """A video (width, height) of gray frames."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=8)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        for index in range(frames):
            picture = np.full((size[1], size[0], 3), 20 * index % 256, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
    return stream.getvalue()


def sound(cover: bool = False) -> bytes:
    """A second of silence in an .mp4 without pictures, but perhaps that of a cover."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as container:
        audio = container.add_stream("aac", rate=44100)
        if cover:
            picture = container.add_stream("png", rate=1)
            picture.width, picture.height, picture.pix_fmt, picture.disposition = 32, 32, "rgb24", _COVER
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 99, np.uint8), format="rgb24")
            container.mux([*picture.encode(frame), *picture.encode(None)])
        for index in range(8):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.rate, silence.pts = 44100, 1024 * index
            container.mux(audio.encode(silence))
        container.mux(audio.encode(None))
    return stream.getvalue()


def picture_header(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is this large: a bomb."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b""))
    )


def zip_bomb(member: str = "values.npy", size: int = 4 << 30) -> bytes:
    """A small zip file whose member unpacks to `size` bytes: an array of zeros, if it is read as an .npz."""
    stream = io.BytesIO()
    block = bytes(1 << 24)
    header = {"descr": "|u1", "fortran_order": False, "shape": (size,)}
    with (
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(member, "w", force_zip64=True) as file,
    ):
        np.lib.format.write_array_header_1_0(file, header)
        for _ in range(size >> 24):
            file.write(block)
    return stream.getvalue()


def npy_header(descr: str = "<f8", shape: tuple[int, ...] = (10**12,)) -> bytes:
    """An .npy file of a header alone, which promises an array of this shape."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": descr, "fortran_order": False, "shape": shape})
    return stream.getvalue()


def slow_header() -> bytes:
    """An .npy header whose shape never ends: a pattern that backtracks searches it for ever."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (" + b"1" * 9999
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


def executing_pickle(command: str = "touch executed") -> bytes:
    """A pickle that runs a command in the working directory if it is loaded without care."""

    class Run:
        def __reduce__(self) -> tuple:
            return os.system, (command,)

    return pickle.dumps(Run(), protocol=2)


def _saved(image: Image.Image, format: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format)
    return stream.getvalue()


def truncated(data: bytes, share: float = 0.5) -> bytes:
    return data[: int(len(data) * share)]


# What may be where a file should be.


def missing(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "notes.txt").write_text("the user's own")
    return path


def fifo(path: Path) -> Path:
    """A named pipe nobody writes to: opening it waits forever."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)
    return path


def local_socket(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(path.parent):
        server.bind(path.name)  # a name of up to 107 bytes
    return path


def device(path: Path) -> Path:
    """A link to a device that never ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("/dev/zero")
    return path


def dangling_link(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("nowhere")
    return path


def link_loop(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(path.name)
    return path


def unreadable(path: Path) -> Path:
    """A file without permissions, which bind the run even if it is root's (harness)."""
    content(b"secret")(path)
    path.chmod(0)
    return path


def below_a_file(path: Path) -> Path:
    content(b"a file")(path)
    return path / path.name


def long_name(path: Path) -> Path:
    return path.with_name(LONG_NAME + path.suffix)


def nested_json(depth: int = 100_000) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


def sparse(size: int = 1 << 40) -> Maker:
    """A file that holds `size` bytes and takes no space."""

    def make(path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size)
        return path

    return make


NO_FILE: dict[str, Maker] = {
    "missing": missing,
    "folder": folder,
    "fifo": fifo,
    "socket": local_socket,
    "device": device,
    "dangling-link": dangling_link,
    "link-loop": link_loop,
    "no-permission": unreadable,
    "below-a-file": below_a_file,
}
"""Where a file is wanted and there is none that can be read. The error names the path. See also `long_name`."""

FOREIGN: dict[str, Maker] = {
    "empty": content(b""),
    "html": content(HTML),
    "lfs-pointer": content(LFS_POINTER),
    "zeros": content(bytes(4096)),
    "noise": content(np.random.default_rng(0).bytes(4096)),
    "text": content("Ünïcode ²²²\n".encode()),
    "latin-1": content(b"\xff\xfe\xe4\xf6\xfc\n"),
}
"""Files of no format, or of one that no reader here takes."""

PICTURES: dict[str, Maker] = {
    **NO_FILE,
    **FOREIGN,
    "truncated": content(truncated(png(64, 64))),
    "header-alone": content(png()[:33]),
    "bomb": content(picture_header(60_000, 60_000)),
    "no-pixels": content(picture_header(0, 0)),
    "postscript": content(eps()),
    "video": content(mp4()),
    "npz": content(npz()),
    "zip": content(zip_file()),
    "svg": content(b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'),
    "heic": content(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)),
}
"""Where a picture is wanted."""

VIDEOS: dict[str, Maker] = {
    **NO_FILE,
    **FOREIGN,
    "truncated": content(truncated(mp4(64), 0.3)),
    "header-alone": content(mp4()[:40]),
    "without-codec": content(mp4().replace(b"avc1", b"none").replace(b"avcC", b"none")),
    "sound": content(sound()),
    "sound-with-a-cover": content(sound(cover=True)),
    "wav": content(b"RIFF" + struct.pack("<I", 36) + b"WAVEfmt " + bytes(24)),
    "picture": content(png()),
    "npz": content(npz()),
    "zip": content(zip_file()),
    "playlist": content(b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n#EXT-X-ENDLIST\n"),
    "concat-script": content(b"ffconcat version 1.0\nfile /etc/hostname\n"),
}
"""Where a video is wanted. A playlist would have libav open other files."""

ARRAYS: dict[str, Maker] = {
    **NO_FILE,
    **FOREIGN,
    "truncated": content(truncated(npz())),
    "no-arrays": content(zip_file()),
    "pickle": content(pickle.dumps({"values": [1, 2, 3]})),
    "executing-pickle": content(executing_pickle()),
    "object-array": content(npz(values=np.array([{"a": 1}], dtype=object))),
    "promises-terabytes": content(zip_file(**{"values.npy": npy_header()})),
    "slow-shape": content(zip_file(**{"values.npy": slow_header()})),
    "picture": content(png()),
    "text-array": content(npz(values=np.array(["a", "b"]))),
}
"""Where an .npz is wanted. The bomb of `zip_bomb` takes a second to make and stands apart."""

JSON: dict[str, Maker] = {
    **NO_FILE,
    **FOREIGN,
    "nested": content(nested_json()),
    "list": content(b"[]"),
    "number": content(b"17"),
    "null": content(b"null"),
    "truncated": content(b'{"a": [1, 2'),
    "not-a-number": content(b'{"a": NaN, "a": Infinity}'),
    "long-number": content(b'{"a": ' + b"9" * 10_000 + b"}"),
    "lone-surrogate": content(b'{"a": "\\ud800"}'),
    "utf-16": content(json.dumps({"a": 1}).encode("utf-16")),
}
"""Where a JSON object with certain fields is wanted; the last ones parse, but have no such fields."""

SAFETENSORS: dict[str, Maker] = {
    **NO_FILE,
    **FOREIGN,
    "truncated": content(truncated(safetensors_file())),
    "header-alone": content(safetensors_file()[:60]),
    "promises-terabytes": content(struct.pack("<Q", 1 << 42) + b"{}"),
    "pickle": content(executing_pickle()),
    "zip": content(zip_file()),
    "other-tensors": content(safetensors_file()),
}
"""Where certain tensors are wanted."""


def folder_of_user(path: Path) -> Path:
    """A folder that holds the user's own files, links and a folder."""
    folder(path)
    (path / "photos").mkdir()
    (path / "photos" / "one.png").write_bytes(png())
    (path / "link.txt").symlink_to("notes.txt")
    return path


def link_to_folder(path: Path) -> Path:
    folder_of_user(path.with_name(f"{path.stem}-target"))
    path.symlink_to(f"{path.stem}-target")
    return path


def link_to_file(path: Path) -> Path:
    content(b"the user's own")(path.with_name(f"{path.stem}-target.txt"))
    path.symlink_to(f"{path.stem}-target.txt")
    return path


def read_only_folder(path: Path) -> Path:
    """A place in a folder that may not be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    closed = path.parent / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    return closed / path.name


_OUTPUTS: dict[str, Maker] = {
    "folder-of-user": folder_of_user,
    "link-to-folder": link_to_folder,
    "link-to-file": link_to_file,
    "dangling-link": dangling_link,
    "link-loop": link_loop,
    "fifo": fifo,
    "device": device,
    "below-a-file": below_a_file,
    "long-name": long_name,
    "read-only-folder": read_only_folder,
    "proc": lambda path: Path("/proc") / path.name,
}

FILE_OUTPUTS: dict[str, Maker] = _OUTPUTS | {
    "empty-folder": lambda path: (path.mkdir(parents=True), path)[1],
    "foreign-file": content(b"the user's own notes\n"),
}
"""Outputs that a command which writes a file refuses, and leaves as they are."""

FOLDER_OUTPUTS: dict[str, Maker] = _OUTPUTS | {"file": content(b"the user's own notes\n")}
"""Outputs that a command which writes a folder refuses, and leaves as they are."""


# Conditions that hold while a command runs (`Case.during`).


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: writes fail as on a full disk, in native code too (EFBIG)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def put(maker: Maker, *places: str) -> Callable[[Path], None]:
    """Replaces the files at `places` of a folder by what `maker` makes, which is to be at these paths."""

    def change(folder: Path) -> None:
        for place in places:
            path = folder / place
            path.unlink(missing_ok=True)
            path.parent.mkdir(parents=True, exist_ok=True)
            assert maker(path) == path, "this kind stands for another path"

    return change
