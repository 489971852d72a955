"""Which of the people in a video is wanted, and how they are looked for: the settings of `find_people`."""

import dataclasses
import re

from champ_jax.common.errors import InputError
from champ_jax.common.ranges import Choice

_NUMBER = r"\d{1,9}(?:\.\d{1,9})?"
_AT = re.compile(rf"({_NUMBER}),({_NUMBER})(?:,(\d{{1,9}}))?")
MOST_TILES = 16
CUTS = Choice("split", "refuse")
DETECTORS = Choice("mediapipe", "dwpose")


@dataclasses.dataclass(frozen=True)
class Options:
    """The settings, as they stand at the command line.

    Attributes:
      person: 'largest', 'longest' (seen in the most frames), or the number that the person has in the list that
        `People.lines` gives.
      at: 'x,y' or 'x,y,frame': the person at this place (px) in this frame (0 by default); goes before `person`.
      tiles: 'auto' looks for people that are small in the picture where none are found otherwise; 'none' does not; a
        number N from 2 to 16 always looks at tiles of an N-th of the picture's longer side, too.
      cuts: 'split' takes every shot of a video for itself; 'refuse' refuses a video of several shots.
      detector: 'mediapipe', whose networks are in the package, or 'dwpose'.
      dwpose_weights: the folder of DWPose's two files.
    """

    person: str = "largest"
    at: str | None = None
    tiles: str = "auto"
    cuts: str = "split"
    detector: str = "mediapipe"
    dwpose_weights: str | None = None

    def check(self) -> None:
        """Raises InputError, which names the flag, for a setting that means nothing."""
        if self.person not in ("largest", "longest") and not re.fullmatch(r"[1-9]\d{0,5}", self.person):
            raise InputError(f"--person={self.person}: expected largest, longest or a number from 1 on")
        if self.at is not None and not _AT.fullmatch(self.at):
            raise InputError(f"--at={self.at}: expected x,y or x,y,frame, as 320,200 or 320,200,15")
        if self.tiles not in ("auto", "none") and not (self.tiles.isdecimal() and 2 <= int(self.tiles) <= MOST_TILES):
            raise InputError(f"--tiles={self.tiles}: expected auto, none or a number from 2 to {MOST_TILES}")
        CUTS.check("--cuts", self.cuts)
        DETECTORS.check("--detector", self.detector)
        if (self.detector == "dwpose") != (self.dwpose_weights is not None):
            raise InputError(
                "--detector=dwpose, --dwpose_weights: go together; the folder of weights holds yolox_l.onnx and "
                "dw-ll_ucoco_384.onnx, which https://huggingface.co/yzd-v/DWPose publishes"
            )
        if self.detector == "dwpose" and self.tiles.isdecimal():
            raise InputError(f"--tiles={self.tiles}: is of --detector=mediapipe; DWPose looks at whole pictures")

    @property
    def place(self) -> tuple[float, float, int] | None:
        """x, y (px) and frame of `at`."""
        found = _AT.fullmatch(self.at or "")
        return (float(found[1]), float(found[2]), int(found[3] or 0)) if found else None
