"""Which of a file's people is taken, and one person whom a tracker lost and found again under other IDs."""

from pathlib import Path

import numpy as np

from champ_jax.body.fields import check_frame_count
from champ_jax.body.importers.tracks import Source, Track
from champ_jax.common.errors import InputError

_LISTED = 5  # people that a message names


def choose_person(source: Source, path: Path, person: str | None, notes: list[str]) -> tuple[str, Track]:
    """The name and the track of the person asked for, by default of the person seen longest.

    Args:
      person: an ID, or several separated by commas whose tracks are joined.
      notes: lines for the user, to which what was decided is added.

    Raises:
      InputError: there is no such person, or the parts of the person's track do not fit together.
    """
    lengths = {name: len(track.frames) for name, track in source.tracks.items()}
    names = sorted(lengths, key=lambda name: -lengths[name])
    listed = ", ".join(f"{name} ({lengths[name]} frames)" for name in names[:_LISTED])
    listed += f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    wanted = [names[0]]
    if person is not None:
        wanted = [person] if person in source.tracks else [name.strip() for name in person.split(",")]
    elif len(names) > 1:
        notes.append(
            f"several people: {listed}; person {names[0]}, seen longest, was taken (--person=ID for another, "
            "--person=ID,ID,... joins the tracks of one person)"
        )
    for name in wanted:
        if name not in source.tracks:
            raise InputError(f"{path}: has no person {name}; it has {listed}")
        _check(source.tracks[name], f"{path}: person {name}" if len(names) > 1 else str(path))
    return ",".join(wanted), _join([source.tracks[name] for name in dict.fromkeys(wanted)], wanted, notes)


def _check(track: Track, source: str) -> None:
    """Refuses a track whose parts are of different lengths, or that shows a frame twice."""
    seen = len(track.frames)
    check_frame_count(source, seen)
    positions = track.world if track.translation is None else track.translation
    assert positions is not None  # every file has one of the two
    if not len(track.rotations) == len(positions) == seen:
        raise InputError(
            f"{source}: {len(track.rotations)} poses, {len(positions)} translations and {seen} frame numbers"
        )
    if len(np.unique(track.frames)) != seen:
        raise InputError(f"{source}: frame numbers repeat")
    if np.atleast_2d(track.betas).shape[-1] < 1:
        raise InputError(f"{source}: has no betas")


def _join(tracks: list[Track], names: list[str], notes: list[str]) -> Track:
    """One track of several; where two show the same frame, the one named first counts."""
    if len(tracks) == 1:
        return tracks[0]
    if len({(track.rotations.shape[1], np.shape(track.betas)[-1]) for track in tracks}) > 1:
        raise InputError(f"--person={','.join(names)}: cannot be joined, for their joints or betas differ in number")
    translations = [track.translation for track in tracks if track.translation is not None]
    assert len(translations) == len(tracks)  # files of several people have a camera
    columns = {
        "frames": [track.frames for track in tracks],
        "rotations": [track.rotations for track in tracks],
        "betas": [_repeat(np.median(np.atleast_2d(track.betas), axis=0), len(track.frames)) for track in tracks],
        "translation": translations,
    }
    joined = {name: np.concatenate(values) for name, values in columns.items()}
    _, kept = np.unique(joined["frames"], return_index=True)
    twice = len(joined["frames"]) - len(kept)
    if twice:
        notes.append(f"{twice} frames show several of {', '.join(names)}; the one named first was taken")
    focal = None
    if all(track.focal is not None for track in tracks):
        lengths = [(np.asarray(track.focal), len(track.frames)) for track in tracks]
        focal = np.concatenate([values if values.ndim else _repeat(values, count) for values, count in lengths])[kept]
    return Track(**{name: values[kept] for name, values in joined.items()}, focal=focal)


def _repeat(values: np.ndarray, count: int) -> np.ndarray:
    return np.repeat(values[None], count, axis=0)
