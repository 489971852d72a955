"""What a file is, by its first bytes: names the reason when it is not what it should be."""

import re

HEAD = 4096
"""Bytes from the start of a file that `describe` wants to see."""

_AGAIN = "download it again"
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the file that it points at; run `git lfs pull`"),
    (b"%PDF", "is a PDF document"),
    (b"%!PS", "is a PostScript document"),
    (b"\xc5\xd0\xd3\xc6", "is a PostScript document"),
    (b"\x89PNG\r\n\x1a\n", "is a PNG picture"),
    (b"\xff\xd8\xff", "is a JPEG picture"),
    (b"GIF8", "is a GIF picture"),
    (b"BM", "is a BMP picture"),
    (b"II*\x00", "is a TIFF picture"),
    (b"MM\x00*", "is a TIFF picture"),
    (b"\x93NUMPY", "is a NumPy array (.npy)"),
    (b"PK\x03\x04", "is a zip archive (or .npz, or PyTorch's .pth)"),
    (b"PK\x05\x06", "is an empty zip archive"),
    (b"\x1f\x8b", "is compressed with gzip"),
    (b"BZh", "is compressed with bzip2"),
    (b"\xfd7zXZ", "is compressed with xz"),
    (b"\x28\xb5\x2f\xfd", "is compressed with zstd"),
    (b"7z\xbc\xaf\x27\x1c", "is a 7z archive"),
    (b"Rar!", "is a RAR archive"),
    (b"\x1aE\xdf\xa3", "is a video (Matroska or WebM)"),
    (b"FLV\x01", "is a video (FLV)"),
    (b"ID3", "is a sound file (MP3)"),
    (b"fLaC", "is a sound file (FLAC)"),
    (b"OggS", "is a sound file (Ogg)"),
    (b"\x7fELF", "is a program"),
    (b"MZ", "is a program"),
    (b"\x89HDF", "is an HDF5 file"),
)
_RIFF = {b"WEBP": "is a WebP picture", b"AVI ": "is a video (AVI)", b"WAVE": "is a sound file (WAV)"}
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}


def describe(head: bytes) -> str | None:
    """A phrase that follows the file's name: 'is empty', 'is a Git LFS pointer ...'; None for unknown bytes.

    Args:
      head: the first `HEAD` bytes of the file, or all if there are fewer.
    """
    if not head:
        return f"is empty (a failed download or copy); {_AGAIN}"
    if not head.strip(b"\x00"):
        return f"holds nothing but zeros (a failed download or copy); {_AGAIN}"
    for magic, phrase in _MAGIC:
        if head.startswith(magic):
            return phrase
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12], "is a RIFF file")
    if head[4:8] == b"ftyp":
        return _describe_iso_media(head)
    if re.match(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|\?xml|head|body|svg)", head, re.IGNORECASE):
        if b"<svg" in head[:1024].lower():
            return "is an SVG drawing"
        return f"is a web page (a failed download); {_AGAIN}"
    if is_text(head):
        return "is text"
    if head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05":
        return "is a pickle"
    if len(head) > 8 and head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return "is a .safetensors file"
    return None


def _describe_iso_media(head: bytes) -> str:
    length = min(int.from_bytes(head[:4], "big"), 64)
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, length, 4))}
    if brands & {b"avif", b"avis"}:
        return "is an AVIF picture"
    if brands & _HEIF:
        return "is a HEIC picture (an iPhone's), which is not supported; save it as JPEG or PNG"
    return "is a video (MP4 or MOV)"


def is_text(head: bytes) -> bool:
    """Whether the bytes are UTF-8 text; a character may be cut in two at the end."""
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:
            return False
        text = head[: error.start].decode()
    return all(character.isprintable() or character.isspace() for character in text)
