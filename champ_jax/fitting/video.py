"""Finds the people in a video or picture, chooses one, and gives that person's key points frame by frame.

The video is gone through three times. First the detector looks for people, in every second frame or so, and its finds
are linked to paths. Then everybody's points are found in a few frames, which tells people from what only looks like one
and joins the paths of a person who was lost in between. Last, the chosen person's points are found in all frames, where
the detector missed the person as well: in a square between those before and after.
"""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from PIL import Image

from champ_jax.common.errors import InputError
from champ_jax.common.progress import Progress
from champ_jax.fitting.cuts import find_cuts, thumbnail
from champ_jax.fitting.detection import Detections, detect, tile_squares
from champ_jax.fitting.dwpose import DWPose
from champ_jax.fitting.frames import Frames
from champ_jax.fitting.keypoints import Keypoints
from champ_jax.fitting.landmarks import PRESENT, Bodies, find_bodies, find_faces, find_hands
from champ_jax.fitting.options import Options
from champ_jax.fitting.point_bias import correct
from champ_jax.fitting.programs import BATCH
from champ_jax.fitting.squares import Squares
from champ_jax.fitting.tracking import Path, color_distance, link, rejoin, torso_colors
from champ_jax.fitting.whole_body import whole_body

_LOOKS = 12.0  # times a second that the detector looks for people
_CROPS = 4.0  # squares a frame that it may look at on average
_SLOWEST_LOOKS = 2.0  # times a second, however many tiles there are
_SAMPLES = 6  # frames in which everybody's points are found
_REAL = 0.5  # the share of these in which the pose network must see somebody, too
_SAME = 0.12  # of a square's side: closer hips are one person's
_HIPS = [8, 11]  # of the 134 points
_FILL = 1.0  # seconds from a detection up to which the chosen person is looked for
_LEVELS = (2, 3, 5, 8)  # tried by --tiles=auto
_SMALLEST_TILE = 128  # px
_LEVEL_FRAMES = 8
_ENOUGH = 0.75  # the share of the frames with people in which --tiles=auto is content


@dataclasses.dataclass(frozen=True)
class Track:
    """A person in one shot.

    Attributes:
      number: from 1 on, the largest person of the shot first.
      first, last: the first and the last frame of the video in which the person was detected.
      size: median side of the square about the body, px: somewhat more than the body's height.
      boxes: (T, 4) float32 left, top, right, bottom of these squares in the frames of the shot; NaN in others.
      keypoints: in the frames of the shot; of a person who is not chosen, in a few frames only.
      colors: (64,) of the torso, as `tracking.torso_colors`.
      chosen: whether this is the person who is wanted.
    """

    number: int
    first: int
    last: int
    size: float
    boxes: np.ndarray
    keypoints: Keypoints
    colors: np.ndarray
    chosen: bool = False


@dataclasses.dataclass(frozen=True)
class Shot:
    """Frames between two cuts.

    Attributes:
      first, last: numbers of the frames.
      tracks: the people; none where nobody was found.
    """

    first: int
    last: int
    tracks: list[Track]

    def __len__(self) -> int:
        return self.last - self.first + 1

    @property
    def chosen(self) -> Track | None:
        """The person who is wanted; None where the shot shows nobody."""
        return next((track for track in self.tracks if track.chosen), None)


@dataclasses.dataclass(frozen=True)
class People:
    """The people in a video.

    Attributes:
      image_size: (width, height) px.
      fps: frames per second.
      shots: one at least.
      level: of the tiles that were looked at (`detection.tile_squares`); 1: the whole picture only.
      times: (T,) s, when each frame of the video is shown; None where it does not say it, and for pictures.
    """

    image_size: tuple[int, int]
    fps: float
    shots: list[Shot]
    level: int
    times: np.ndarray | None = None

    def lines(self) -> list[str]:
        """What was found, in words: a line for each shot and each person."""
        result = []
        for index, shot in enumerate(self.shots):
            if len(self.shots) > 1:
                result.append(f"shot {index + 1}: frames {shot.first} to {shot.last}")
            if not shot.tracks:
                result.append("  nobody was found")
            for track in shot.tracks:
                text = f"  person {track.number}: frames {track.first} to {track.last}, about {track.size:.0f} px tall"
                if track.chosen:
                    share = track.keypoints.valid.mean()
                    text += f"; chosen, with points in {share:.0%} of the frames"
                result.append(text)
        return result


def find_people(
    path: str | os.PathLike, options: Options | None = None, fps: float | None = None, progress: Progress | None = None
) -> People:
    """Finds people and the key points of the one who is wanted.

    Args:
      path: a video, a picture, or a folder of pictures.
      options: whom to look for, and how.
      fps: frames per second, instead of what the video says (on average; a folder: 24).
      progress: is told what happens; quiet by default.

    Returns:
      The people of every shot; in each shot in which there are any, one is chosen.

    Raises:
      InputError: a setting means nothing; the file cannot be read; it shows nobody, not the person who is wanted, or,
        with --cuts=refuse, several shots.
    """
    options, progress = options or Options(), progress or Progress(quiet=True)
    options.check()
    dwpose = DWPose(options.dwpose_weights) if options.dwpose_weights is not None else None
    frames = Frames(path, fps)
    level = int(options.tiles) if options.tiles.isdecimal() else 1
    with progress.stage("finding people"):
        survey = _survey(frames, level, dwpose)
    if options.cuts == "refuse" and len(survey.shots) > 1:
        firsts = ", ".join(str(shot.start) for shot in survey.shots[1:])
        raise InputError(
            f"{path}: has {len(survey.shots)} shots (new ones begin at frame {firsts}); cut it, or use --cuts=split"
        )
    if dwpose is None and options.tiles == "auto" and survey.share < _ENOUGH:
        with progress.stage("looking for smaller people"):
            level = _choose_level(frames, survey)
            if level > 1:
                survey = _survey(frames, level)
    paths = [_link(survey, shot, frames.fps) for shot in survey.shots]
    with progress.stage("telling people apart"):
        candidates = _recognize(frames, survey, paths, dwpose)
    if not any(candidates):
        raise InputError(
            f"{path}: nobody was found in it; the person must be seen from head to knees at best"
            + ("" if options.tiles != "none" else ", and --tiles=auto looks for small people")
        )
    chosen = _choose(path, options, survey, candidates)
    wanted = [None if index is None else people[index].path for index, people in zip(chosen, candidates)]
    with progress.bar("finding points", survey.count, "frame") as bar:
        points = _follow(frames, survey, wanted, bar.update, dwpose)
    shots = []
    for shot, people, index, found in zip(survey.shots, candidates, chosen, points):
        if index is not None and found is not None:
            people[index] = dataclasses.replace(people[index], points=found)
        tracks = [
            _track(survey, frames.fps, shot, person, number + 1, number == index)
            for number, person in enumerate(people)
        ]
        shots.append(Shot(shot.start, shot.stop - 1, tracks))
    return People(survey.size, frames.fps, shots, level, frames.times)


@dataclasses.dataclass
class _Survey:
    """What the first pass saw: `looked` are the numbers of the frames that the detector looked at."""

    size: tuple[int, int]
    count: int
    shots: list[range]
    looked: list[int]
    detections: list[Detections]
    colors: list[np.ndarray]

    @property
    def share(self) -> float:
        return float(np.mean([len(found) > 0 for found in self.detections]))


@dataclasses.dataclass(frozen=True)
class _Points:
    """The 134 points of a person in some frames of the video: `points` (N, 134, 3)."""

    frames: np.ndarray
    points: np.ndarray
    squares: Squares


@dataclasses.dataclass(frozen=True)
class _Candidate:
    path: Path
    points: _Points

    @property
    def size(self) -> float:
        """The median side of the squares that the points ask for, px."""
        return float(np.median(self.points.squares.side))


def _survey(frames: Frames, level: int, dwpose: DWPose | None = None) -> _Survey:
    looked: list[int] = []
    detections: list[Detections] = []
    colors: list[np.ndarray] = []
    thumbnails: list[np.ndarray] = []
    pending: list[Image.Image] = []

    def look() -> None:
        found = detect(pending, level) if dwpose is None else dwpose.detect(pending)
        detections.extend(found)
        colors.extend(torso_colors(picture, people) for picture, people in zip(pending, found))
        pending.clear()

    size, step, frame = (0, 0), 1, None
    for index, frame in enumerate(frames):
        if not index:
            size = frame.size
            # DWPose's crops are cut about the boxes of their own frames.
            step = 1 if dwpose is not None else _step(frames.fps, len(tile_squares(size, level)))
        thumbnails.append(thumbnail(frame))
        if index % step == 0:
            looked.append(index)
            pending.append(frame)
            if len(pending) == BATCH:
                look()
    last = len(thumbnails) - 1
    if frame is not None and looked[-1] != last:
        looked.append(last)
        pending.append(frame)
    look()
    starts = [0, *find_cuts(np.stack(thumbnails)), last + 1]
    shots = [range(start, stop) for start, stop in itertools.pairwise(starts)]
    return _Survey(size, last + 1, shots, looked, detections, colors)


def _step(fps: float, crops: int) -> int:
    """Every how many frames the detector looks."""
    wanted = max(fps / _LOOKS, crops / _CROPS)
    return max(int(min(wanted, fps / _SLOWEST_LOOKS)), 1)


def _choose_level(frames: Frames, survey: _Survey) -> int:
    """The coarsest level of tiles that finds people in most frames, else the last that found any more.

    A finer level is tried on the frames in which no coarser one found anybody; after two that found nobody the rest are
    given up: the frames are empty.
    """
    numbers = set(np.linspace(0, survey.count - 1, _LEVEL_FRAMES).round().astype(int).tolist())
    pictures = [frame for index, frame in enumerate(frames) if index in numbers]
    left = [picture for picture, found in zip(pictures, detect(pictures)) if not len(found)]
    best, in_vain = 1, 0
    for level in _LEVELS:
        if max(survey.size) / level < _SMALLEST_TILE or len(left) <= (1 - _ENOUGH) * len(pictures) or in_vain == 2:
            break
        still = [picture for picture, found in zip(left, detect(left, level)) if not len(found)]
        best, in_vain = (level, 0) if len(still) < len(left) else (best, in_vain + 1)
        left = still
    return best


def _link(survey: _Survey, shot: range, fps: float) -> list[Path]:
    places = [place for place, frame in enumerate(survey.looked) if frame in shot]
    detections = [survey.detections[place] for place in places]
    paths = link([survey.looked[place] for place in places], detections, [survey.colors[p] for p in places], fps)
    least = 1 if len(places) <= 3 else 2
    return [path for path in paths if len(path.frames) >= least]


def _recognize(
    frames: Frames, survey: _Survey, paths: Sequence[Sequence[Path]], dwpose: DWPose | None = None
) -> list[list[_Candidate]]:
    """The people of each shot, the largest first: paths on which the pose network sees somebody, too."""
    requests: dict[int, list[tuple[tuple[int, int], Squares]]] = {}
    for shot, in_shot in enumerate(paths):
        for number, path in enumerate(in_shot):
            samples = np.unique(np.linspace(0, len(path.frames) - 1, _SAMPLES).round().astype(int))
            for sample in samples:
                request = (shot, number), path.squares[[sample]]
                requests.setdefault(int(path.frames[sample]), []).append(request)
    found = _points_at(frames, requests, False, dwpose)
    result: list[list[_Candidate]] = []
    for shot, in_shot in enumerate(paths):
        real = [
            (path, found[shot, number])
            for number, path in enumerate(in_shot)
            if (shot, number) in found and len(found[shot, number].frames) >= _REAL * min(len(path.frames), _SAMPLES)
        ]
        ends = [(points.points[0, :18, :2], points.points[-1, :18, :2]) for _, points in real]
        groups = rejoin([path for path, _ in real], ends, frames.fps)
        people = []
        for group in groups:
            path, points = real[group[0]]
            for member in group[1:]:
                path, points = path.joined(real[member][0]), _join([points, real[member][1]])
            people.append(_Candidate(path, points))
        result.append(sorted(_once(people), key=lambda person: -person.size))
    return result


def _once(people: Sequence[_Candidate]) -> list[_Candidate]:
    """Every person once: a path whose hips are where those of one seen longer are is the same person."""
    kept: list[_Candidate] = []
    for person in sorted(people, key=lambda person: -len(person.path.frames)):
        hips = person.points.points[:, _HIPS, :2].mean(axis=1)
        for other in kept:
            there = (person.points.frames >= other.path.frames[0]) & (person.points.frames <= other.path.frames[-1])
            squares = other.path.at(person.points.frames)
            away = np.linalg.norm(hips - squares.center, axis=-1) / squares.side
            if np.mean(there & (away < _SAME)) >= 0.5:
                break
        else:
            kept.append(person)
    return kept


def _choose(
    path: str | os.PathLike, options: Options, survey: _Survey, people: Sequence[Sequence[_Candidate]]
) -> list[int | None]:
    """Of each shot the number of the person who is wanted."""
    if options.place is not None:
        return _choose_at(path, options.place, survey, people)
    chosen: list[int | None] = []
    for in_shot in people:
        if not in_shot:
            chosen.append(None)
        elif options.person == "largest":
            # Somebody who was there for a moment only is not meant, however large.
            lasting = max(len(person.path.frames) for person in in_shot) / 4
            chosen.append(next(i for i, person in enumerate(in_shot) if len(person.path.frames) >= lasting))
        elif options.person == "longest":
            chosen.append(int(np.argmax([len(person.path.frames) for person in in_shot])))
        else:
            number = int(options.person) - 1
            chosen.append(number if number < len(in_shot) else None)
    if all(index is None for index in chosen):
        most = max(len(in_shot) for in_shot in people)
        raise InputError(
            f"--person={options.person}: {path} shows {most} {'person' if most == 1 else 'people'}; the largest is 1"
        )
    return chosen


def _choose_at(
    path: str | os.PathLike, place: tuple[float, float, int], survey: _Survey, people: Sequence[Sequence[_Candidate]]
) -> list[int | None]:
    """The person at a place of a frame, and in other shots who has the most similar colors."""
    x, y, frame = place
    if frame >= survey.count:
        raise InputError(f"--at: {path} has no frame {frame}; its last one is {survey.count - 1}")
    if x > survey.size[0] or y > survey.size[1]:
        raise InputError(f"--at={x:g},{y:g}: lies outside of {path}, which is {survey.size[0]}x{survey.size[1]}")
    shot = next(index for index, numbers in enumerate(survey.shots) if frame in numbers)
    distances = []
    for person in people[shot]:
        square = person.path.at(np.array([frame]))
        away = np.linalg.norm(square.center[0] - (x, y)) / (square.side[0] / 2)
        seen = person.path.frames[0] - 1 <= frame <= person.path.frames[-1] + 1
        distances.append(away if seen else np.inf)
    if not distances or min(distances) > 1:
        raise InputError(
            f"--at={x:g},{y:g},{frame}: {path} shows nobody there; --tiles=2 finds more people, --person=largest takes "
            "the largest"
        )
    index = int(np.argmin(distances))
    wanted = people[shot][index].path.colors[None]
    result: list[int | None] = []
    for number, in_shot in enumerate(people):
        alike = [float(color_distance(person.path.colors[None], wanted)[0, 0]) for person in in_shot]
        result.append(index if number == shot else int(np.argmin(alike)) if alike else None)
    return result


def _follow(
    frames: Frames,
    survey: _Survey,
    wanted: Sequence[Path | None],
    advance: Callable[[int], object],
    dwpose: DWPose | None = None,
) -> list[_Points | None]:
    """The points of one person of each shot, in all frames near to a detection."""
    requests: dict[int, list[tuple[tuple[int, int], Squares]]] = {}
    for shot, (numbers, path) in enumerate(zip(survey.shots, wanted)):
        if path is None:
            continue
        everywhere = np.arange(numbers.start, numbers.stop)
        after = np.searchsorted(path.frames, everywhere).clip(1, len(path.frames) - 1) if len(path.frames) > 1 else 0
        away = np.minimum(abs(everywhere - path.frames[after]), abs(everywhere - path.frames[after - 1]))
        near = everywhere[away <= max(_FILL * frames.fps, 1)]
        squares = path.at(near)
        for place, frame in enumerate(near):
            requests[int(frame)] = [((shot, 0), squares[[place]])]
    found = _points_at(frames, requests, True, dwpose, advance)
    return [found.get((shot, 0)) for shot in range(len(wanted))]


def _points_at(
    frames: Frames,
    requests: dict[int, list[tuple[tuple[int, int], Squares]]],
    details: bool,
    dwpose: DWPose | None,
    advance: Callable[[int], object] = lambda count: None,
) -> dict[tuple[int, int], _Points]:
    """Finds points in many squares.

    Args:
      frames: of the video.
      requests: {frame: [(whose, square)]}.
      details: whether hands and faces are looked for.
      dwpose: the networks to look with instead of the package's, which find everything at once.
      advance: is called with 1 after every frame.

    Returns:
      {whose: the points in the frames in which there is somebody}; who is nowhere is left out.
    """
    collected: dict[tuple[int, int], list[_Points]] = {}
    pending: list[tuple[int, tuple[int, int], Image.Image, Squares]] = []

    def look() -> None:
        if not pending:
            return
        pictures = [picture for _, _, picture, _ in pending]
        squares = Squares.join([squares for *_, squares in pending])
        if dwpose is not None:
            points, present = dwpose.points(pictures, squares)
        else:
            bodies = find_bodies(pictures, squares)
            points, present = _whole(pictures, bodies, details), bodies.presence >= PRESENT
            squares = bodies.next_squares()
        for place in np.flatnonzero(present).tolist():
            frame, whose, _, _ = pending[place]
            one = _Points(np.array([frame]), points[[place]], squares[[place]])
            collected.setdefault(whose, []).append(one)
        pending.clear()

    for index, frame in enumerate(frames):
        for whose, squares in requests.get(index, ()):
            pending.append((index, whose, frame, squares))
            if len(pending) == BATCH:
                look()
        advance(1)
    look()
    return {whose: _join(parts) for whose, parts in collected.items()}


def _whole(pictures: Sequence[Image.Image], bodies: Bodies, details: bool) -> np.ndarray:
    if details:
        hands, faces = find_hands(pictures, bodies), find_faces(pictures, bodies)
    else:
        hands, faces = np.zeros((len(bodies), 2, 21, 3)), np.zeros((len(bodies), 468, 3))
    return correct(whole_body(bodies.points, bodies.scores, hands, faces), bodies)


def _join(parts: Iterable[_Points]) -> _Points:
    parts = list(parts)
    return _Points(
        np.concatenate([part.frames for part in parts]),
        np.concatenate([part.points for part in parts]),
        Squares.join([part.squares for part in parts]),
    )


def _track(survey: _Survey, fps: float, shot: range, person: _Candidate, number: int, chosen: bool) -> Track:
    points = np.zeros((len(shot), *person.points.points.shape[1:]), np.float32)
    boxes = np.full((len(shot), 4), np.nan, np.float32)
    places = person.points.frames - shot.start
    points[places], boxes[places] = person.points.points, person.points.squares.boxes()
    path = person.path
    return Track(
        number,
        int(path.frames[0]),
        int(path.frames[-1]),
        person.size,
        boxes,
        Keypoints.create(points, survey.size, fps, source="the points found"),
        path.colors,
        chosen,
    )
