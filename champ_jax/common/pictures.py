"""Pictures in and out: the only place where picture files are decoded (Pillow)."""

import io
import math
import os
import struct
import warnings
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from champ_jax.common.contents import HEAD, describe
from champ_jax.common.errors import InputError
from champ_jax.common.files import atomic_path, open_input, require_folder
from champ_jax.common.limits import require_memory

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")
"""Pillow's names of the formats that are read. Others, as PostScript, can start programs or are of no use here."""

MAX_PIXELS = 2**27
"""Pixels of the largest picture that is decoded (11585x11585)."""

# `_check_decodable` bounds the pixels instead, in one line with the file's name.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)

_BYTES_PER_PIXEL = 12  # at most, while a picture is decoded, turned and converted
_DEEP = ("I", "F")  # how Pillow's modes of more than 8 bits a channel begin
_FILM_DIAGONAL = 43.27  # mm
_HDR_TRANSFERS = {16: "PQ", 18: "HLG"}  # ITU-T H.273


def read_image(path: str | os.PathLike, mode: str = "RGB") -> np.ndarray:
    """Reads a picture as uint8 sRGB, (height, width, 3) for mode 'RGB', (height, width) for 'L'.

    It is turned upright as its EXIF orientation says. Transparent pixels become black. Pictures of 16 bits a channel
    are scaled to 8. An embedded color profile is converted to sRGB.

    Raises:
      InputError: the file is missing or not a picture (the message says what it is), is broken, too large to decode,
        or holds floating-point or 32-bit values, whose range is unknown.

    Warns:
      UserWarning: the picture is HDR or its color profile cannot be converted, so its colors will be off.
    """
    with open_input(path) as file:
        return np.asarray(decode_image(file, mode, str(path)))


def decode_image(file: IO[bytes], mode: str | None, name: str) -> Image.Image:
    """Decodes a picture as `read_image` does, from an opened file or from memory.

    Args:
      file: seekable.
      mode: 'RGB' or 'L'; None takes 'L' for a gray picture and 'RGB' for others.
      name: what a message calls it.
    """
    with _open(file, name) as image:
        _check_decodable(image, name)
        try:
            image.load()
            image = ImageOps.exif_transpose(image)
        except Exception as error:  # damaged bytes raise nearly anything
            raise InputError(f"{name}: is a damaged picture ({error}); save or download it again") from error
        if image.mode.startswith(_DEEP):
            image = Image.fromarray(_to_8_bits(np.asarray(image)))
        _warn_of_hdr(file, name)
        image = _to_srgb(image, name)
        if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
            rgba = image.convert("RGBA")
            flat = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
            flat.alpha_composite(rgba)
            image = flat
        return image.convert(mode or ("L" if image.mode in ("1", "L") else "RGB"))


def check_image(path: str | os.PathLike, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Looks whether a picture can be read, at the least cost: PNG files by their checksums, others are decoded.

    Args:
      path: the file.
      max_pixels: pixels of the largest picture that is allowed, which is known before it is decoded.

    Returns:
      (width, height) as `read_image` will give it.

    Raises:
      InputError: as `read_image`.
    """
    with open_input(path) as file, _open(file, str(path)) as image:
        _check_decodable(image, str(path), max_pixels)
        try:
            if image.format == "PNG":  # `getexif` would decode the pixels, after which nothing can be verified
                exif = Image.Exif()
                exif.load(image.info.get("exif", b""))
                image.verify()
            else:
                image.load()
                exif = image.getexif()  # of a TIFF, it is turned by now
        except Exception as error:  # damaged bytes raise nearly anything
            raise InputError(f"{path}: is a damaged picture ({error}); save or download it again") from error
        return image.size[::-1] if exif.get(0x0112, 1) in (5, 6, 7, 8) else image.size


def has_alpha(path: str | os.PathLike) -> bool:
    """Whether a picture has transparency; it is not decoded."""
    with open_input(path) as file, _open(file, str(path)) as image:
        return image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info


def focal_from_exif(path: str | os.PathLike) -> float | None:
    """The focal length in px that a camera wrote into a picture, by its equivalent at 35 mm; None where it wrote none.

    The equivalent is about the picture's diagonal, which is 43.27 mm for a film of 35 mm (CIPA DCG-001).

    Raises:
      InputError: the file is missing or not a picture.
    """
    with open_input(path) as file, _open(file, str(path)) as image:
        try:
            _check_decodable(image, str(path))  # a PNG may hold its EXIF after the pixels
            exif = image.getexif()
            value = float(exif.get_ifd(0x8769).get(0xA405, 0))  # FocalLengthIn35mmFilm; 0 where it is not known
        except InputError:
            raise
        except Exception:  # damaged bytes raise nearly anything
            return None
        return value / _FILM_DIAGONAL * math.hypot(*image.size) if 1 <= value <= 10_000 else None


def is_deep(path: str | os.PathLike) -> bool:
    """Whether a picture has more than 8 bits a channel and one channel; it is not decoded."""
    with open_input(path) as file, _open(file, str(path)) as image:
        return image.mode.startswith(_DEEP)


def _open(file: IO[bytes], name: str) -> Image.Image:
    head = file.read(HEAD)
    file.seek(0)
    try:
        return Image.open(file, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise InputError(f"{name}: is too large to decode ({error}); make it smaller") from error
    except Exception as error:  # damaged headers raise nearly anything
        what = describe(head)
        if what is None or what.endswith("picture"):
            why = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"  # which names Python's object
            what = f"{what} that cannot be read{why}" if what else "is not a picture"
        raise InputError(f"{name}: {what}; PNG, JPEG, WebP, BMP, TIFF, GIF and AVIF pictures are read") from error


def _check_decodable(image: Image.Image, name: str, max_pixels: int = MAX_PIXELS) -> None:
    """Refuses what would take too much memory, and modes whose range of values is not known."""
    width, height = image.size
    if width * height > max_pixels:
        raise InputError(
            f"{name}: has {width}x{height} pixels, {width * height:,} in all, more than the {max_pixels:,} that are "
            "read; make it smaller"
        )
    require_memory(width * height * _BYTES_PER_PIXEL, f"{name}: decoding {width}x{height} pixels", "make it smaller")
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise InputError(
            f"{name}: holds {'floating-point' if image.mode == 'F' else '32-bit'} values; save it with 8 bits a channel"
        )


def _to_8_bits(values: np.ndarray) -> np.ndarray:
    """16 bits to 8, rounded: 65535 becomes 255."""
    return ((np.clip(values, 0, 65535).astype(np.uint32) + 128) // 257).astype(np.uint8)


def _to_srgb(image: Image.Image, name: str) -> Image.Image:
    """Converts from the embedded color profile, if there is one that is not sRGB."""
    profile = image.info.get("icc_profile")
    if not profile or image.mode in ("1", "L", "LA", "La"):
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        described = ImageCms.getProfileDescription(source).strip()
        if "srgb" in described.lower() or source.profile.xcolor_space.strip() == "GRAY":
            return image
        if image.mode == "P":
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        target = "RGBA" if image.mode == "RGBA" else "RGB"
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode=target)
        return image if converted is None else converted
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, AttributeError) as error:
        warnings.warn(
            f"{name}: its color profile cannot be converted to sRGB ({error}); colors may be off", stacklevel=4
        )
        return image


def _warn_of_hdr(file: IO[bytes], name: str) -> None:
    """Warns where the file's header says PQ or HLG (cICP of PNG, nclx of AVIF): Pillow decodes these as if SDR."""
    file.seek(0)
    head = file.read(HEAD)
    for mark, form in ((b"cICP", ">xB"), (b"colrnclx", ">xxH")):
        at = head.find(mark)
        if at >= 0 and len(head) >= at + len(mark) + struct.calcsize(form):
            transfer = _HDR_TRANSFERS.get(struct.unpack_from(form, head, at + len(mark))[0])
            if transfer:
                warnings.warn(
                    f"{name}: is an HDR picture ({transfer}); its colors will be off, save it as sRGB", stacklevel=4
                )
            return


def write_image(path: str | os.PathLike, image: np.ndarray) -> None:
    """Writes a picture in the format of the suffix, whole or not at all.

    Args:
      path: the output; its suffix is one of `IMAGE_SUFFIXES`.
      image: uint8 (height, width), (height, width, 3) or (height, width, 4).

    Raises:
      InputError: another suffix, or the file cannot be written.
    """
    if Path(path).suffix.lower() not in IMAGE_SUFFIXES:
        raise InputError(f"{path}: must end in {', '.join(IMAGE_SUFFIXES)}")
    with atomic_path(path) as temporary:
        Image.fromarray(np.ascontiguousarray(image)).save(temporary)


def resize_image(image: np.ndarray, size: tuple[int, int], filter: str = "bicubic") -> np.ndarray:
    """Pillow's antialiased resizing of uint8 (height, width) or (height, width, C) to size (width, height).

    Rows first, then columns, rounded to 8 bit between: what Pillow does up to version 12. Version 13 takes the cheaper
    pass first, which moves single pixels by a level.

    Args:
      image: uint8.
      size: (width, height).
      filter: 'bicubic', 'lanczos' or 'nearest'.
    """
    width, height = size
    if image.shape[:2] == (height, width):
        return image
    resample = Image.Resampling[filter.upper()]
    wide = Image.fromarray(image).resize((width, image.shape[0]), resample)
    return np.asarray(wide.resize((width, height), resample))


def list_images(folder: str | os.PathLike) -> list[Path]:
    """The picture files of a folder, sorted by name; anything else (.DS_Store, an .mp4) is ignored.

    Raises:
      InputError: `folder` is missing or not a folder.
    """
    return sorted(
        path
        for path in require_folder(folder).iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
    )
