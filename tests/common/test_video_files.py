"""Videos: turned upright, damage noticed, and the same frames always the same file."""

import random
import warnings

import av
import numpy as np
import pytest
from hostile.kinds import largest_file

from champ_jax.common import videos
from champ_jax.common.errors import InputError
from champ_jax.common.videos import VideoWriter, read_video, video_fps, write_video


def picture(height=48, width=64, shift=0):
    y, x = np.mgrid[:height, :width]
    return np.stack([(x * 3 + shift) % 256, y * 4 % 256, (x + y) % 256], -1).astype(np.uint8)


FRAMES = [picture(shift=5 * i) for i in range(12)]


@pytest.fixture
def video(tmp_path):
    write_video(tmp_path / "x.mp4", FRAMES, 24)
    return tmp_path / "x.mp4"


def psnr(a, b):
    return 10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2))


def test_frames_come_back(video):
    frames = list(read_video(video))
    assert len(frames) == len(FRAMES)
    assert min(map(psnr, frames, FRAMES)) > 28
    assert video_fps(video) == 24


# The matrices (a, b, c, d) that phones write, and what they mean: ISO/IEC 14496-12, 8.3.2 and 6.2.2.
TURNS = {
    "none": ((1, 0, 0, 1), lambda image: image),
    "clockwise": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "half": ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
    "counterclockwise": ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
    "mirrored": ((-1, 0, 0, 1), np.fliplr),
    "transposed": ((0, 1, 1, 0), lambda image: image.swapaxes(0, 1)),
}


@pytest.mark.parametrize("name", TURNS)
def test_videos_are_turned_upright(video, name):
    matrix, turn = TURNS[name]
    plain = list(read_video(video))
    data = bytearray(video.read_bytes())
    at = data.index(b"tkhd") + 4 + 40
    for place, value in zip((0, 4, 12, 16), matrix):
        data[at + place : at + place + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    video.write_bytes(data)
    for read, frame in zip(read_video(video), plain, strict=True):
        np.testing.assert_array_equal(read, turn(frame))


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (50, 34)])
def test_the_same_frames_give_the_same_file(tmp_path, size):
    rng = np.random.default_rng(0)
    frames = [
        np.kron(rng.integers(0, 255, (-(-size[0] // 8), -(-size[1] // 8), 3)), np.ones((8, 8, 1))) for _ in range(16)
    ]
    frames = [np.clip(frame[: size[0], : size[1]] + rng.integers(-60, 60, (*size, 3)), 0, 255) for frame in frames]
    files = set()
    for number in range(4):
        # What is in freed memory differs from file to file, as it does from run to run.
        dirt = [np.full(2**16 + 997 * i, number * 50 + 7, np.uint8) for i in range(64)]
        del dirt
        write_video(tmp_path / "x.mp4", [frame.astype(np.uint8) for frame in frames], 24)
        files.add((tmp_path / "x.mp4").read_bytes())
    assert len(files) == 1


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
def test_truncated_videos_are_noticed(video, share):
    whole = video.read_bytes()
    video.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=r"x\.mp4: .*(damaged|truncated|decoded|opened)"):
        list(read_video(video))


def test_flipped_bits_are_noticed(video):
    """H.264 has no checksums; nine of ten flips that change a picture break its code all the same."""
    whole, plain = video.read_bytes(), list(read_video(video))
    rng, noticed, silent = random.Random(0), 0, 0
    for _ in range(40):
        data = bytearray(whole)
        data[rng.randrange(whole.index(b"mdat") + 700, len(data))] ^= 1 << rng.randrange(8)
        video.write_bytes(data)
        try:
            frames = list(read_video(video))
        except InputError:
            noticed += 1
            continue
        silent += len(frames) != len(plain) or any((a != b).any() for a, b in zip(frames, plain))
    assert noticed >= 9 * silent
    assert noticed > 10


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "is empty"),
        (b"<html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x89PNG\r\n\x1a\n", "is a PNG picture"),
        (b"#EXTM3U\n#EXTINF:1,\nother.mp4\n", "is text"),
        (b"ffconcat version 1.0\nfile other.mp4\n", "is text"),
        (b"\x00\x00\x00\x20ftypisom" + bytes(100), "is a video .* that cannot be opened"),
    ],
)
def test_what_is_not_a_video(video, data, word):
    video.rename(video.with_name("other.mp4"))  # a playlist must not open it
    video.write_bytes(data)
    for use in (video_fps, lambda path: list(read_video(path))):
        with pytest.raises(InputError, match=rf"x\.mp4: .*{word}"):
            use(video)


def write_with(path, **options):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for name, value in options.items():
            setattr(stream.codec_context, name, value)
        for frame in FRAMES[:2]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("options", "word"),
    [({"color_trc": 16}, "HDR video .PQ"), ({"color_trc": 18}, "HLG"), ({"color_primaries": 9}, "BT.2020")],
)
def test_hdr_and_wide_gamut_are_said(tmp_path, options, word):
    write_with(tmp_path / "x.mp4", **options)
    with pytest.warns(UserWarning, match=word):
        assert len(list(read_video(tmp_path / "x.mp4"))) == 2
    write_with(tmp_path / "y.mp4")
    with warnings.catch_warnings(action="error"):
        assert len(list(read_video(tmp_path / "y.mp4"))) == 2


def test_sizes_are_bounded_before_decoding(video, monkeypatch):
    monkeypatch.setattr(videos, "MAX_PIXELS", 1000)
    with pytest.raises(InputError, match="frames of 64x48 pixels, more than the 1,000"):
        next(read_video(video))


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e12, 1e-9])
def test_impossible_frame_rates(tmp_path, fps):
    with pytest.raises(InputError, match=r"x\.mp4: .* frames per second"):
        VideoWriter(tmp_path / "x.mp4", fps)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_keeps_the_earlier_video(video):
    before = video.read_bytes()
    noise = np.random.default_rng(0).integers(0, 255, (8, 128, 128, 3)).astype(np.uint8)
    with largest_file(20_000), pytest.raises(InputError, match=r"x\.mp4: the disk or quota is full"):
        write_video(video, noise, 24)
    assert video.read_bytes() == before
    assert len(list(video.parent.iterdir())) == 1


def test_names_with_colons(tmp_path):
    write_video(tmp_path / "a:b http:c.mp4", FRAMES[:1], 24)
    assert len(list(read_video(tmp_path / "a:b http:c.mp4"))) == 1


def test_frames_of_other_sizes_leave_nothing(tmp_path):
    with pytest.raises(ValueError, match="another size"):
        write_video(tmp_path / "x.mp4", [FRAMES[0], FRAMES[0][:10]], 24)
    assert not list(tmp_path.iterdir())
