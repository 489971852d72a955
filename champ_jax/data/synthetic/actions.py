"""Actions: functions of time that give joint angles and a path.

An action takes `seconds` (T,) since its start and a `Style`, and returns angles (T, 24, 3) as in `poses` (the root's
angle about y is a turn on the spot) and a path (T, 3): meters forward, sideways, and above the ground.
"""

import dataclasses
from collections.abc import Callable

import numpy as np

from champ_jax.body.smpl import JOINT_NAMES
from champ_jax.data.synthetic.poses import GESTURES, mirrored, pose

_J = {name: number for number, name in enumerate(JOINT_NAMES)}
_TURN = 2 * np.pi
_LEG = 0.83  # meters from the mean body's hip to its ankle


@dataclasses.dataclass(frozen=True)
class Style:
    """The manner in which a person performs an action.

    Attributes:
      tempo: speed relative to the action's usual one.
      amplitude: factor on the action's angles, about 1.
      left: whether the action is mirrored, so that it begins with the left side.
      gestures: names in `poses.GESTURES`, for the actions that use them.
      phase: position in its cycle at which the action begins, 0..1.
    """

    tempo: float
    amplitude: float
    left: bool
    gestures: tuple[str, ...]
    phase: float


Action = Callable[[np.ndarray, Style], tuple[np.ndarray, np.ndarray]]


def draw_style(rng: np.random.Generator) -> Style:
    """A random style."""
    return Style(
        tempo=float(rng.uniform(0.8, 1.25)),
        amplitude=float(rng.uniform(0.75, 1.2)),
        left=bool(rng.integers(2)),
        gestures=tuple(str(name) for name in rng.choice(list(GESTURES), 4, replace=False)),
        phase=float(rng.uniform()),
    )


def _still(seconds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Standing and breathing."""
    angles = np.repeat(pose()[None], len(seconds), axis=0)
    breath = np.sin(_TURN * 0.3 * seconds)
    angles[:, _J["spine3"], 0] += 0.015 * breath
    angles[:, _J["head"], 1] += 0.06 * np.sin(_TURN * 0.17 * seconds)
    return angles, np.zeros((len(seconds), 3))


def _bend_legs(angles: np.ndarray, bend: np.ndarray) -> None:
    """Bends both knees by `bend` (T,) radians, the feet flat and the weight above them."""
    for side in ("left", "right"):
        angles[:, _J[f"{side}_hip"], 0] -= 0.55 * bend
        angles[:, _J[f"{side}_knee"], 0] += bend
        angles[:, _J[f"{side}_ankle"], 0] -= 0.45 * bend


def stand(seconds: np.ndarray, style: Style):
    """Shifts the weight and looks about."""
    angles, path = _still(seconds)
    sway = style.amplitude * np.sin(_TURN * (0.25 * style.tempo * seconds + style.phase))
    for side in ("left", "right"):
        angles[:, _J[f"{side}_hip"], 2] += 0.05 * sway
        angles[:, _J[f"{side}_ankle"], 2] -= 0.05 * sway
    angles[:, _J["spine1"], 2] -= 0.05 * sway
    angles[:, _J["neck"], 1] += 0.3 * sway
    path[:, 1] = 0.04 * sway
    return angles, path


def walk(seconds: np.ndarray, style: Style):
    """Walks ahead; swings the arms."""
    return _gait(seconds, style, cycles=0.9, thigh=0.42, swing=0.9, arms=0.45, elbow=0.35)


def run(seconds: np.ndarray, style: Style):
    """Jogs ahead."""
    angles, path = _gait(seconds, style, cycles=1.35, thigh=0.6, swing=1.5, arms=0.6, elbow=1.45)
    angles[:, _J["spine1"], 0] += 0.12
    path[:, 2] += 0.05 * np.abs(np.sin(_TURN * (1.35 * style.tempo * seconds + style.phase)))
    return angles, path


def march(seconds: np.ndarray, style: Style):
    """Marches on the spot with high knees."""
    angles, path = _gait(seconds, style, cycles=0.9, thigh=0.0, swing=0.0, arms=0.7, elbow=0.7)
    phase = _TURN * (0.9 * style.tempo * seconds + style.phase)
    for side, sign in (("left", 1), ("right", -1)):
        lift = style.amplitude * np.clip(np.sin(sign * phase), 0, None)
        angles[:, _J[f"{side}_hip"], 0] -= 0.95 * lift
        angles[:, _J[f"{side}_knee"], 0] += 1.2 * lift
    return angles, path


def _gait(seconds, style, *, cycles, thigh, swing, arms, elbow):
    """Steps: the thighs go `thigh` radians ahead and back, half a cycle apart; the path is what the legs reach."""
    angles, path = _still(seconds)
    cycles = cycles * style.tempo
    phase = _TURN * (cycles * seconds + style.phase)
    amplitude = style.amplitude
    for side, sign in (("left", 1), ("right", -1)):
        own = phase if sign > 0 else phase + np.pi
        # Nearly a triangle wave: the foot on the ground goes back as fast as the body comes ahead.
        forward = np.arcsin(0.95 * np.sin(own)) / np.arcsin(0.95)
        angles[:, _J[f"{side}_hip"], 0] = -thigh * amplitude * forward - 0.08
        # The knee bends while its leg comes forward.
        coming = np.clip(np.cos(own), 0, None) ** 1.5
        knee = 0.12 + swing * amplitude * coming
        angles[:, _J[f"{side}_knee"], 0] = knee
        push = np.clip(-forward, 0, None)
        angles[:, _J[f"{side}_ankle"], 0] = 0.35 * push * np.clip(-np.cos(own) + 0.3, 0, 1) - 0.10 * np.clip(
            forward, 0, 1
        )
        angles[:, _J[f"{side}_shoulder"], 0] += arms * amplitude * forward
        angles[:, _J[f"{side}_elbow"], 1] -= sign * elbow * (0.7 + 0.3 * -forward)
    turn = np.sin(phase)
    angles[:, _J["spine1"], 1] -= 0.06 * turn
    angles[:, _J["spine3"], 1] += 0.14 * turn * amplitude
    angles[:, _J["neck"], 1] -= 0.06 * turn
    path[:, 0] = 4 * _LEG * np.sin(thigh * amplitude) * cycles * seconds
    return angles, path


def side_step(seconds: np.ndarray, style: Style):
    """Steps to one side and back."""
    angles, path = _still(seconds)
    phase = _TURN * (0.45 * style.tempo * seconds + style.phase)
    side, beat = np.sin(phase), np.abs(np.sin(phase))
    spread = 0.22 * style.amplitude * (1 - beat)
    for name, sign in (("left", 1), ("right", -1)):
        angles[:, _J[f"{name}_hip"], 2] += sign * spread
        angles[:, _J[f"{name}_ankle"], 2] -= sign * spread
        angles[:, _J[f"{name}_shoulder"], 2] += sign * 0.5 * style.amplitude * (1 - beat)
    _bend_legs(angles, 0.25 * (1 - beat))
    angles[:, _J["spine2"], 2] += 0.1 * side
    path[:, 1] = 0.30 * style.amplitude * side
    return angles, path


def wave(seconds: np.ndarray, style: Style):
    """Raises an arm and waves."""
    angles, path = _still(seconds)
    raised = _hold(seconds, 0.1, 0.5)
    swing = np.sin(_TURN * 1.5 * style.tempo * seconds) * style.amplitude
    angles[:, _J["right_shoulder"], 2] += -1.45 * raised
    angles[:, _J["right_elbow"], 2] += raised * (-1.15 + 0.42 * swing)
    angles[:, _J["right_wrist"], 2] += 0.25 * raised * swing
    angles[:, _J["spine2"], 2] += 0.06 * raised
    angles[:, _J["head"], 2] -= 0.1 * raised
    return angles, path


def turn(seconds: np.ndarray, style: Style):
    """Turns round on the spot in small steps: once in about three seconds."""
    angles, path = _still(seconds)
    angles[:, 0, 1] = _TURN / 3.0 * style.tempo * seconds
    step = np.abs(np.sin(_TURN * 0.9 * style.tempo * seconds))
    odd = np.sin(_TURN * 0.9 * style.tempo * seconds) > 0
    for side, chosen in (("left", odd), ("right", ~odd)):
        lift = 0.45 * step * chosen
        angles[:, _J[f"{side}_hip"], 0] -= 0.55 * lift
        angles[:, _J[f"{side}_knee"], 0] += lift
        angles[:, _J[f"{side}_ankle"], 0] -= 0.45 * lift
    for side, sign in (("left", 1), ("right", -1)):
        angles[:, _J[f"{side}_shoulder"], 2] += sign * 0.25 * style.amplitude
    return angles, path


def squat(seconds: np.ndarray, style: Style):
    """Goes down and up again, arms ahead."""
    angles, path = _still(seconds)
    down = 0.5 - 0.5 * np.cos(_TURN * 0.45 * style.tempo * seconds)
    depth = np.clip(1.55 * style.amplitude, 0.9, 1.8) * down
    for side, sign in (("left", 1), ("right", -1)):
        angles[:, _J[f"{side}_hip"], 0] -= 0.92 * depth
        angles[:, _J[f"{side}_hip"], 2] += sign * 0.16
        angles[:, _J[f"{side}_hip"], 1] += sign * 0.25 * down
        angles[:, _J[f"{side}_knee"], 0] += depth
        angles[:, _J[f"{side}_ankle"], 0] -= 0.38 * depth
        angles[:, _J[f"{side}_shoulder"], 1] -= sign * 1.3 * down
        angles[:, _J[f"{side}_shoulder"], 2] += sign * 1.1 * down
    angles[:, 0, 0] += 0.32 * down
    angles[:, _J["neck"], 0] -= 0.15 * down
    return angles, path


def jump(seconds: np.ndarray, style: Style):
    """Crouches, jumps, lands; again and again."""
    angles, path = _still(seconds)
    phase = (0.6 * style.tempo * seconds) % 1
    flight = np.clip((phase - 0.40) / 0.28, 0, 1)
    crouch = np.exp(-(((phase - 0.27) / 0.10) ** 2)) + 0.8 * np.exp(-(((phase - 0.76) / 0.09) ** 2))
    _bend_legs(angles, 1.2 * style.amplitude * crouch)
    angles[:, 0, 0] += 0.25 * crouch
    air = np.sin(np.pi * flight)
    for side, sign in (("left", 1), ("right", -1)):
        angles[:, _J[f"{side}_ankle"], 0] += 0.55 * air
        angles[:, _J[f"{side}_shoulder"], 0] += 0.7 * crouch
        angles[:, _J[f"{side}_shoulder"], 2] += sign * 1.9 * style.amplitude * air
    path[:, 2] = 0.30 * style.amplitude * 4 * flight * (1 - flight)
    return angles, path


def jumping_jack(seconds: np.ndarray, style: Style):
    """Legs apart and arms up, legs together and arms down."""
    angles, path = _still(seconds)
    phase = 0.9 * style.tempo * seconds
    out = 0.5 - 0.5 * np.cos(_TURN * phase)
    for side, sign in (("left", 1), ("right", -1)):
        angles[:, _J[f"{side}_hip"], 2] += sign * 0.42 * out
        angles[:, _J[f"{side}_ankle"], 2] -= sign * 0.30 * out
        angles[:, _J[f"{side}_shoulder"], 2] += sign * 2.4 * out
    hop = np.abs(np.sin(_TURN * phase))
    _bend_legs(angles, 0.3 * (1 - hop))
    path[:, 2] = 0.08 * style.amplitude * hop
    return angles, path


def dance(seconds: np.ndarray, style: Style):
    """Sways to a beat, the arms swing with bent elbows."""
    angles, path = _still(seconds)
    phase = _TURN * (0.75 * style.tempo * seconds + style.phase)
    side, beat, a = np.sin(phase), 0.5 - 0.5 * np.cos(2 * phase), style.amplitude
    _bend_legs(angles, 0.12 + 0.5 * a * beat)
    for name, sign in (("left", 1), ("right", -1)):
        angles[:, _J[f"{name}_shoulder"], 2] += sign * 0.25 + 0.45 * a * side
        angles[:, _J[f"{name}_shoulder"], 1] -= sign * 0.5 * beat
        angles[:, _J[f"{name}_elbow"], 1] -= sign * (0.7 + 0.5 * a * beat)
        angles[:, _J[f"{name}_hip"], 2] += 0.12 * a * side
        angles[:, _J[f"{name}_ankle"], 2] -= 0.12 * a * side
        angles[:, _J[f"{name}_hip"], 1] += 0.15 * sign
    angles[:, 0, 1] = 0.3 * a * side
    angles[:, _J["spine1"], 2] -= 0.14 * a * side
    angles[:, _J["spine3"], 1] += 0.25 * a * np.sin(phase + 0.7)
    angles[:, _J["head"], 2] += 0.12 * a * side
    path[:, 1] = 0.12 * a * side
    return angles, path


def disco(seconds: np.ndarray, style: Style):
    """One arm up and one down across the body, by turns; a knee goes with it."""
    angles, path = _still(seconds)
    phase = _TURN * (0.6 * style.tempo * seconds + style.phase)
    up = 0.5 + 0.5 * np.tanh(2.5 * np.sin(phase))
    for name, sign, share in (("left", 1, up), ("right", -1, 1 - up)):
        angles[:, _J[f"{name}_shoulder"], 2] += sign * 2.1 * style.amplitude * share
        angles[:, _J[f"{name}_shoulder"], 1] -= sign * 0.5 * (1 - share)
        angles[:, _J[f"{name}_elbow"], 1] -= sign * 0.8 * (1 - share)
        bent = 0.5 * (1 - share)
        angles[:, _J[f"{name}_hip"], 0] -= 0.55 * bent
        angles[:, _J[f"{name}_knee"], 0] += bent
        angles[:, _J[f"{name}_ankle"], 0] -= 0.2 * bent
    angles[:, _J["spine2"], 2] += 0.25 * (0.5 - up)
    angles[:, _J["spine3"], 1] += 0.5 * (0.5 - up)
    angles[:, _J["neck"], 1] += 0.5 * (up - 0.5)
    path[:, 1] = 0.08 * np.sin(phase)
    return angles, path


def gestures(seconds: np.ndarray, style: Style):
    """From one key pose to the next, holding each for a moment; knees give a little on the way."""
    angles, path = _still(seconds)
    targets = np.stack([GESTURES[name] for name in style.gestures])
    place = 0.8 * style.tempo * seconds
    number, share = np.floor(place).astype(int), place % 1
    share = np.clip((share - 0.25) / 0.6, 0, 1)
    share = (share * share * (3 - 2 * share))[:, None, None]
    first, second = targets[number % len(targets)], targets[(number + 1) % len(targets)]
    angles += first + share * (second - first) - pose()
    _bend_legs(angles, 0.15 * np.sin(np.pi * share[:, 0, 0]))
    return angles, path


def stretch(seconds: np.ndarray, style: Style):
    """Bends from side to side with one arm over the head."""
    angles, path = _still(seconds)
    phase = _TURN * (0.3 * style.tempo * seconds)
    bent = np.sin(phase)
    for name, weight in (("spine1", 0.22), ("spine2", 0.18), ("spine3", 0.18), ("neck", 0.1)):
        angles[:, _J[name], 2] -= weight * style.amplitude * bent
    for name, sign in (("left", 1), ("right", -1)):
        over = np.clip(sign * bent, 0, None)
        angles[:, _J[f"{name}_shoulder"], 2] += sign * 2.5 * over
        angles[:, _J[f"{name}_elbow"], 2] += sign * 0.6 * over
        angles[:, _J[f"{name}_hip"], 2] += sign * 0.15
        angles[:, _J[f"{name}_ankle"], 2] -= sign * 0.15
    return angles, path


ACTIONS: dict[str, Action] = {
    "stand": stand,
    "walk": walk,
    "run": run,
    "march": march,
    "side_step": side_step,
    "wave": wave,
    "turn": turn,
    "squat": squat,
    "jump": jump,
    "jumping_jack": jumping_jack,
    "dance": dance,
    "disco": disco,
    "gestures": gestures,
    "stretch": stretch,
}


def perform(name: str, seconds: np.ndarray, style: Style) -> tuple[np.ndarray, np.ndarray]:
    """An action in a style: angles (T, 24, 3) and path (T, 3), mirrored if the style says left."""
    angles, path = ACTIONS[name](seconds, style)
    if style.left:
        angles, path = mirrored(angles), path * [1, -1, 1]
    return angles, path


def _hold(seconds: np.ndarray, start: float, rise: float) -> np.ndarray:
    """0 before `start`, 1 from `start + rise` on, smooth between."""
    share = np.clip((seconds - start) / rise, 0, 1)
    return share * share * (3 - 2 * share)
