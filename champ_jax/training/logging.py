"""What a run logs: metrics.jsonl, TensorBoard's event files, the progress line."""

import io
import json
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from champ_jax.common.files import real_output, write_text

METRICS = "metrics.jsonl"


class Logs:
    """The logs of a run from step `start` on; `close()` when done.

    Attributes:
      last: the line of metrics.jsonl that the run goes on from; None where there is none.
    """

    def __init__(self, workdir: Path, *, start: int, steps: int, every: int, silent: bool = False):
        """Opens WORKDIR/metrics.jsonl and an event file.

        Lines of steps after `start`, which a run that was cut short wrote after its last checkpoint, are taken out:
        those steps will be taken again.

        Args:
          workdir: the work folder.
          start: steps already taken.
          steps: The number of steps of the whole run.
          every: steps between printed lines where stderr is not a terminal.
          silent: writes and prints nothing: for all processes of a run but the first.
        """
        self._silent = silent
        self.last: dict[str, Any] | None = None
        if silent:
            return
        path = real_output(workdir / METRICS, folder=False)
        if path.exists():
            self.last = _keep_until(path, start)
        self._file = path.open("a")
        self._events = _Events(workdir, start)
        self._bar = tqdm(total=steps, initial=start, unit="step", disable=not sys.stderr.isatty(), smoothing=0.1)
        self._plain, self._every, self._steps = not sys.stderr.isatty(), every, steps
        self._first: tuple[float, int] | None = None  # when the step that was compiled for was done, and which

    def step(self, step: int, metrics: Mapping[str, Any], shown: Mapping[str, str]) -> None:
        """Records a step.

        Args:
          step: its number, 1 for the first.
          metrics: what goes on file; numbers go to TensorBoard too. Numbers that are not finite become null.
          shown: what the progress line says.
        """
        if self._silent:
            return
        line = {"step": step, **{name: _jsonable(value) for name, value in metrics.items()}}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        numbers = {name: value for name, value in line.items() if name != "step" and isinstance(value, int | float)}
        self._events.add_scalars("train", numbers, step)
        if self._first is None:
            self._first = time.monotonic(), step
        self._bar.update(step - self._bar.n)
        self._bar.set_postfix(shown, refresh=False)
        if self._plain and (step % self._every == 0 or step == self._steps):
            words = " ".join(f"{name} {value}" for name, value in shown.items())
            print(f"step {step}/{self._steps} {words} ETA {self._left(step)}", file=sys.stderr, flush=True)

    def _left(self, step: int) -> str:
        """The time to the last step at the mean pace since the first."""
        began, first = self._first
        if step == first:
            return "?" if step < self._steps else "00:00"
        return tqdm.format_interval((time.monotonic() - began) / (step - first) * (self._steps - step))

    def validation(self, step: int, metrics: Mapping[str, float], videos: Sequence[np.ndarray], fps: float) -> None:
        """Puts validation measures and videos (F, H, W, 3) uint8 into the event file."""
        if self._silent:
            return
        self._events.add_scalars("validation", metrics, step)
        for index, video in enumerate(videos):
            self._events.add_video(f"validation/{index}", video, step, fps)

    def print_line(self, line: str) -> None:
        """Prints a line without breaking the progress bar."""
        if self._silent:
            return
        tqdm.write(line, file=sys.stderr)

    def close(self) -> None:
        if self._silent:
            return
        self._bar.close()
        self._events.close()
        self._file.close()


class _Events:
    """An event file for TensorBoard, written at once: tensorboardX's own writer has a thread for it, and where that one
    cannot write, the run waits forever."""

    def __init__(self, folder: Path, start: int):
        """Opens FOLDER/events.out.tfevents.*; steps after `start` of earlier files are hidden."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog

        self._writer = EventsWriter(str(folder / "events"))
        if start:
            self._add(start + 1, session_log=SessionLog(status=SessionLog.START))

    def add_scalars(self, group: str, values: Mapping[str, float], step: int) -> None:
        """Records numbers as GROUP/NAME."""
        from tensorboardX.proto.summary_pb2 import Summary

        numbers = [Summary.Value(tag=f"{group}/{name}", simple_value=value) for name, value in values.items()]
        self._add(step, summary=Summary(value=numbers))

    def add_video(self, tag: str, video: np.ndarray, step: int, fps: float) -> None:
        """Records a video as an animated GIF, which TensorBoard plays; tensorboardX's own way needs moviepy."""
        from tensorboardX.proto.summary_pb2 import Summary

        frames = [Image.fromarray(frame) for frame in video]
        buffer = io.BytesIO()
        frames[0].save(
            buffer, "GIF", save_all=True, append_images=frames[1:], duration=max(round(1000 / fps), 20), loop=0
        )
        height, width = video.shape[1:3]
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=buffer.getvalue())
        self._add(step, summary=Summary(value=[Summary.Value(tag=tag, image=image)]))

    def _add(self, step: int, **content: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._writer.write_event(Event(step=step, wall_time=time.time(), **content))
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _keep_until(path: Path, step: int) -> dict[str, Any] | None:
    """Rewrites metrics.jsonl with the whole lines of steps up to `step`, and returns the last of them.

    A last line that a kill cut off is dropped; other damaged lines are dropped, too, and counted in a warning.
    """
    kept, damaged, last = [], 0, None
    lines = path.read_text(errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            fields = json.loads(line)
            taken = fields["step"]
        except (ValueError, KeyError, TypeError, RecursionError):
            taken = None
        if isinstance(taken, int) and taken <= step:
            kept.append(line + "\n")
            last = fields
        elif not isinstance(taken, int) and number < len(lines):
            damaged += 1
    if damaged:
        warnings.warn(f"{path}: {damaged} damaged lines are dropped", stacklevel=2)
    write_text(path, "".join(kept))
    return last


def _jsonable(value: Any) -> Any:
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return value
