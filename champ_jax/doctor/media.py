"""Videos and pictures written and read again, text drawn, OpenGL started."""

import importlib.metadata
import importlib.util
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from champ_jax.doctor.findings import OK, WARNING, Finding
from champ_jax.doctor.probing import Attempt, Probe, reason

GROUP = "Pictures and videos"
DECODERS = {"h264": "most videos", "hevc": "videos of phones", "vp9": ".webm", "av1": "newer downloads"}
_FRAMES = np.stack([np.full((48, 64, 3), color, np.uint8) for color in ((200, 40, 40), (40, 40, 200))])


def try_media() -> Probe:
    """Every writer of the project: two frames are encoded and decoded."""
    from champ_jax.common import pictures, videos

    wheel = "pip install --force-reinstall av: its wheels bring FFmpeg and x264"
    with tempfile.TemporaryDirectory(prefix="champ-doctor-") as name:
        folder = Path(name)

        def video() -> np.ndarray:
            videos.write_video(folder / "two.mp4", _FRAMES, 24)
            return np.stack(list(videos.read_video(folder / "two.mp4")))

        def picture(form: str) -> np.ndarray:
            for number, frame in enumerate(_FRAMES):
                pictures.write_image(folder / f"{number}.{form}", frame)
            return np.stack([pictures.read_image(folder / f"{number}.{form}") for number in range(len(_FRAMES))])

        pillow = "pip install --force-reinstall pillow: its wheels bring all codecs"
        yield from _try(Attempt(GROUP, "H.264 (.mp4)", wheel, needed=True), video, 12)
        yield from _try(Attempt(GROUP, "PNG", pillow, needed=True), lambda: picture("png"), 0)
        yield from _try(Attempt(GROUP, "JPEG", pillow), lambda: picture("jpg"), 12)
        yield from _try(Attempt(GROUP, "WebP", pillow), lambda: picture("webp"), 12)
        yield from _try(Attempt(GROUP, "GIF", pillow), lambda: _gif(folder), 12)
    yield from _decoders(wheel)
    yield from _fonts()


def try_graphics() -> Probe:
    """The optional second renderer: a triangle, drawn by OpenGL without a display."""
    name = "OpenGL (pyrender)"
    if importlib.util.find_spec("pyrender") is None:
        yield Finding(GROUP, name, OK, "not installed; only champ render --backend=pyrender needs it")
        return
    remedy = (
        "apt-get install libosmesa6 and pip install 'champ_jax[pyrender]', or do without: --backend=jax draws the same"
    )
    attempt = Attempt(GROUP, name, remedy)
    yield attempt
    from champ_jax.conditions.pyrender_backend import PyrenderRasterizer

    corners = np.array([[-0.5, -0.5, 2], [0.5, -0.5, 2], [0, 0.5, 2.1]], np.float32)
    raster = PyrenderRasterizer(np.array([[0, 1, 2]]), (64, 48)).rasterize(corners, np.array([60.0, 60.0]))
    seen = int((np.asarray(raster.triangle) == 0).sum())
    if not 50 < seen < 1500:
        yield attempt.failed(f"draws nothing right: {seen} pixels of a triangle")
    else:
        yield Finding(GROUP, name, OK, f"works ({os.environ.get('PYOPENGL_PLATFORM')})")


def _try(attempt: Attempt, run: Callable[[], np.ndarray], tolerance: int) -> Probe:
    """Two frames through a writer and its reader."""
    yield attempt
    try:
        found = run()
    except Exception as error:
        yield attempt.failed(reason(error))
        return
    if found.shape != _FRAMES.shape:
        yield attempt.failed(f"gave {found.shape} back for {_FRAMES.shape}")
        return
    off = int(np.abs(found.astype(int) - _FRAMES.astype(int)).max())
    if off > tolerance:
        yield attempt.failed(f"gave other colors back: off by {off} of 255")
    else:
        yield Finding(attempt.group, attempt.name, OK, f"two frames written and read, colors within {off} of 255")


def _gif(folder: Path) -> np.ndarray:
    """As TensorBoard's summaries of a training have it."""
    from PIL import Image

    from champ_jax.common.videos import read_video

    first, second = (Image.fromarray(frame) for frame in _FRAMES)
    first.save(folder / "two.gif", save_all=True, append_images=[second], duration=100, loop=0)
    return np.stack(list(read_video(folder / "two.gif")))


def _decoders(remedy: str) -> Probe:
    """What videos of strangers may be encoded with."""
    attempt = Attempt(GROUP, "video decoders", remedy)
    yield attempt
    import av

    lacking = {}
    for name, use in DECODERS.items():
        try:
            av.codec.Codec(name, "r")
        except (av.FFmpegError, ValueError):
            lacking[name] = use
    if lacking:
        yield attempt.failed(f"PyAV has no {', '.join(f'{name} ({use})' for name, use in lacking.items())}")
    else:
        yield Finding(GROUP, attempt.name, OK, f"{', '.join(DECODERS)} (PyAV {av.__version__})")


def _fonts() -> Probe:
    """The font of charts and sheets; Pillow ships it."""
    attempt = Attempt(GROUP, "font of drawings", "pip install --force-reinstall 'pillow>=10.1': it brings a font")
    yield attempt
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default()
    picture = Image.new("L", (80, 24))
    ImageDraw.Draw(picture).text((2, 2), "champ 0.5", fill=255, font=font)
    inked = int((np.asarray(picture) > 128).sum())
    name = " ".join(map(str, font.getname())) if isinstance(font, ImageFont.FreeTypeFont) else "Pillow's bitmap font"
    if inked < 20:
        yield attempt.failed(f"{name}: text leaves no trace")
    elif not isinstance(font, ImageFont.FreeTypeFont):
        yield Finding(GROUP, attempt.name, WARNING, f"{name}: Pillow has no FreeType, text is coarse", attempt.remedy)
    else:
        yield Finding(GROUP, attempt.name, OK, name)
