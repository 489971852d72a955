"""Pictures: turned upright, 16 bits and color profiles converted, and nothing but pictures is decoded."""

import io
import os
import stat
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from champ_jax.common import limits, pictures
from champ_jax.common.errors import InputError
from champ_jax.common.pictures import check_image, decode_image, focal_from_exif, list_images, read_image, write_image

RGB = np.random.default_rng(0).integers(0, 256, (10, 14, 3)).astype(np.uint8)
# EXIF orientation: what has to be done to see the picture upright (CIPA DC-008).
ORIENTATIONS = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: lambda image: np.rot90(image, 1),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
def test_exif_orientation(tmp_path, orientation, suffix):
    path = tmp_path / f"x.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"webp": {"lossless": True}}.get(suffix, {})
    Image.fromarray(RGB).save(path, exif=exif, **options)
    upright = ORIENTATIONS[orientation](RGB)
    np.testing.assert_array_equal(read_image(path), upright)
    assert check_image(path) == upright.shape[1::-1]
    np.testing.assert_array_equal(np.asarray(decode_image(io.BytesIO(path.read_bytes()), None, "x")), upright)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bits_are_scaled(tmp_path, suffix):
    gray = np.linspace(0, 65535, 140).astype(np.uint16).reshape(10, 14)
    Image.fromarray(gray).save(tmp_path / f"x.{suffix}")
    expected = np.round(gray / 65535 * 255)
    for mode in ("L", "RGB"):
        read = read_image(tmp_path / f"x.{suffix}", mode).reshape(10, 14, -1)[..., 0]
        assert np.abs(read - expected).max() <= 1
        assert (read.min(), read.max()) == (0, 255)


@pytest.mark.parametrize(("dtype", "word"), [(np.float32, "floating-point"), (np.int32, "32-bit")])
def test_values_of_unknown_range_are_refused(tmp_path, dtype, word):
    Image.fromarray(np.full((4, 4), 1000, dtype)).save(tmp_path / "x.tiff")
    for use in (read_image, check_image):
        with pytest.raises(InputError, match=rf"x\.tiff: holds {word} values; save it with 8 bits"):
            use(tmp_path / "x.tiff")


def test_transparent_pixels_become_black(tmp_path):
    rgba = np.dstack([RGB, np.full((10, 14), 255, np.uint8)])
    rgba[:5, :, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "x.png")
    read = read_image(tmp_path / "x.png")
    assert not read[:5].any()
    np.testing.assert_array_equal(read[5:], RGB[5:])


def swapped_profile():
    """sRGB with the primaries of red and blue exchanged: converting to sRGB exchanges the channels."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {
        bytes(data[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(struct.unpack(">I", data[128:132])[0])
    }
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    data[red + 4 : red + 12], data[blue + 4 : blue + 12] = data[blue + 4 : blue + 12], data[red + 4 : red + 12]
    return bytes(data).replace("sRGB".encode("utf-16-be"), "Swap".encode("utf-16-be"))


def test_color_profiles_are_converted(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "x.png", icc_profile=swapped_profile())
    read = read_image(tmp_path / "x.png")
    assert np.abs(read.astype(int) - RGB[..., ::-1]).max() <= 2
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(RGB).save(tmp_path / "y.png", icc_profile=srgb)
    np.testing.assert_array_equal(read_image(tmp_path / "y.png"), RGB)
    Image.fromarray(RGB).save(tmp_path / "z.png", icc_profile=b"no profile")
    with pytest.warns(UserWarning, match=r"z\.png: its color profile cannot be converted"):
        np.testing.assert_array_equal(read_image(tmp_path / "z.png"), RGB)


def test_hdr_is_said(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "x.png")
    plain = (tmp_path / "x.png").read_bytes()
    with warnings.catch_warnings(action="error"):
        read_image(tmp_path / "x.png")
    body = b"cICP" + bytes([9, 16, 0, 1])
    chunk = struct.pack(">I", 4) + body + struct.pack(">I", zlib.crc32(body))
    (tmp_path / "x.png").write_bytes(plain[:33] + chunk + plain[33:])
    with pytest.warns(UserWarning, match=r"x\.png: is an HDR picture \(PQ\)"):
        np.testing.assert_array_equal(read_image(tmp_path / "x.png"), RGB)


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "is empty"),
        (bytes(200), "nothing but zeros"),
        (b"<!doctype html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic", "HEIC"),
        (b"\x00\x00\x00\x20ftypisom" + bytes(40), "is a video"),
        (b"PK\x03\x04", "zip archive"),
        (b"%PDF-1.4", "PDF"),
        (POSTSCRIPT, "PostScript"),
        (b"<svg xmlns='x'/>", "SVG"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "is a PNG picture that cannot be read"),
        (bytes(range(1, 200)), "is not a picture"),
    ],
)
def test_what_is_not_a_picture(tmp_path, data, word, monkeypatch):
    # A program by this name would be run by Pillow for PostScript.
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    (tmp_path / "x.png").write_bytes(data)
    for use in (read_image, check_image):
        with pytest.raises(InputError, match=rf"x\.png: .*{word}"):
            use(tmp_path / "x.png")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff", "gif"])
def test_truncated_pictures(tmp_path, suffix):
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)).save(path)
    whole = path.read_bytes()
    for share in (0.2, 0.5, 0.9):
        path.write_bytes(whole[: int(share * len(whole))])
        for use in (read_image, check_image):
            with pytest.raises(InputError, match=rf"x\.{suffix}: "):
                use(path)


def huge_png(width, height):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("size", "word"), [((20000, 20000), "too large|more than the"), ((12000, 12000), "144,000,000 in all")]
)
def test_pixels_are_bounded_before_decoding(tmp_path, size, word):
    (tmp_path / "x.png").write_bytes(huge_png(*size))
    with pytest.raises(InputError, match=rf"x\.png: .*({word})"):
        read_image(tmp_path / "x.png")


def test_memory_is_looked_at_before_decoding(tmp_path, monkeypatch):
    (tmp_path / "x.png").write_bytes(huge_png(8000, 8000))
    monkeypatch.setattr(limits, "available_memory", lambda: 2**20)
    with pytest.raises(
        InputError, match=r"decoding 8000x8000 pixels: needs 732.4 MiB of memory, 1.0 MiB are available"
    ):
        read_image(tmp_path / "x.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tiff", "gif", "avif"])
def test_formats(tmp_path, suffix):
    if suffix == "avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    smooth = np.tile(np.linspace(0, 255, 32).astype(np.uint8)[:, None, None], (1, 48, 3))
    Image.fromarray(smooth).save(tmp_path / f"x.{suffix}")
    assert np.abs(read_image(tmp_path / f"x.{suffix}").astype(int) - smooth).max() < 16
    assert check_image(tmp_path / f"x.{suffix}") == (48, 32)


def test_folders_of_pictures(tmp_path):
    for name in ("b.PNG", "a.jpg", ".hidden.png", "notes.txt", "c.webp"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.PNG", "c.webp"]
    with pytest.raises(InputError, match="no such folder"):
        list_images(tmp_path / "none")


def test_writing(tmp_path):
    write_image(tmp_path / "x.png", RGB)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), RGB)
    with pytest.raises(InputError, match=r"x\.txt: must end in \.png"):
        write_image(tmp_path / "x.txt", RGB)
    assert pictures.FORMATS[0] == "PNG"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.png"]


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_the_focal_length_that_a_camera_wrote(tmp_path, kind):
    """26 mm at 35 mm's size is 0.72 of the width of a 3:2 picture; 0 and no entry mean that it is not known."""
    picture = Image.new("RGB", (300, 200))
    for millimeters, expected in ((26, 26 / 43.27 * np.hypot(300, 200)), (0, None), (None, None)):
        exif = Image.Exif()
        if millimeters is not None:
            exif.get_ifd(0x8769)[0xA405] = millimeters
        picture.save(tmp_path / f"shot.{kind}", exif=exif.tobytes())
        found = focal_from_exif(tmp_path / f"shot.{kind}")
        assert found == (None if expected is None else pytest.approx(expected))
