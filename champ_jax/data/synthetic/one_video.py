"""One video of one synthetic person: from the numbers that name it to its folder."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np
from PIL import Image

from champ_jax.body.motion import Motion
from champ_jax.common.files import atomic_path
from champ_jax.conditions.rendered_motion import RENDERED, render_motion
from champ_jax.data.synthetic.anatomy import load_anatomy
from champ_jax.data.synthetic.choreography import FPS, choreograph, draw_motif, pose_frames
from champ_jax.data.synthetic.identity import Identity, draw_identity, undecorated
from champ_jax.data.synthetic.keypoints import whole_body_keypoints
from champ_jax.data.synthetic.outfit import dress
from champ_jax.data.synthetic.poses import to_rotations
from champ_jax.data.synthetic.renderer import PersonRenderer
from champ_jax.data.synthetic.scene import SHOTS, Backdrop, Camera, Light, draw_backdrop, draw_camera, draw_light

PARTS = ("train", "test")
SOLE = 0.006
"""Meters from the floor to the lowest point of the bare body: the soles of shoes."""

_SHOT_SHARES = (0.56, 0.28, 0.16)
_REACH = {"full": 1.0, "half": 0.25, "close": 0.06}  # nobody walks out of the picture


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of a run. Together with them, a video's number determines every byte of it.

    Attributes:
      seed: The seed of all random numbers.
      size: (width, height) of the pictures, px.
      frames: The number of frames of each video.
      extreme: whether shapes lie far from the mean.
      plain: whether all videos are in studios and all clothes without patterns, so that a small model can learn them.
      videos_per_identity: motions that each person performs.
      test_share: share of the videos that are for testing.
    """

    seed: int = 0
    size: tuple[int, int] = (128, 128)
    frames: int = 48
    extreme: bool = False
    plain: bool = False
    videos_per_identity: int = 1
    test_share: float = 0.1


@dataclasses.dataclass(frozen=True)
class VideoName:
    """The name of a video: its part of the split, and the numbers of its person and its motion.

    Both are counted from 0 in each part. People and motions of two parts are drawn from separate streams of random
    numbers, so they are never the same.

    Attributes:
      part: 'train' or 'test'.
      identity: number of the person.
      motion: number of the motion.
    """

    part: str
    identity: int
    motion: int

    @property
    def folder(self) -> str:
        """The video's folder in the output."""
        return f"{self.part}/p{self.identity:05}_m{self.motion:05}"


def name_video(settings: Settings, number: int) -> VideoName:
    """The name of the `number`-th video of a run; it does not depend on the count, so a run can be extended."""
    before = int(np.floor(number * settings.test_share + 1e-9))
    is_test = int(np.floor((number + 1) * settings.test_share + 1e-9)) > before
    place = before if is_test else number - before
    return VideoName(PARTS[is_test], place // settings.videos_per_identity, place)


@dataclasses.dataclass(frozen=True)
class Take:
    """A video before it is drawn.

    Attributes:
      identity: the person.
      motion: The motion in camera space, with the bare body's key points.
      camera, light, backdrop: the scene.
      shot: one of `SHOTS`.
      actions: names of the actions.
    """

    identity: Identity
    motion: Motion
    camera: Camera
    light: Light
    backdrop: Backdrop
    shot: str
    actions: tuple[str, ...]


def draw_take(settings: Settings, name: VideoName) -> Take:
    """Draws the person, the motion and the scene of a video at random."""
    anatomy = load_anatomy()
    identity = draw_identity(_stream(settings, name.part, 0, name.identity), extreme=settings.extreme)
    motif = draw_motif(_stream(settings, name.part, 1, name.motion), settings.frames / FPS)
    rng = _stream(settings, name.part, 2, name.motion)
    shot = str(rng.choice(SHOTS, p=_SHOT_SHARES))
    angles, root, path = choreograph(motif, settings.frames, _REACH[shot])
    rotations = to_rotations(angles)
    rotations[:, 0] = root
    vertices, joints = pose_frames(anatomy.body, identity.betas, rotations)
    rest = joints[0, 0]  # the root turns about the pelvis, which stays where it rests
    lift = SOLE + path[:, 2] - (vertices[..., 1].min(axis=1) - rest[1])
    pelvis = np.stack([path[:, 0], lift, path[:, 1]], axis=-1)
    joints = joints - rest + pelvis[:, None]
    crown = vertices[:, np.argmax(anatomy.points[:, 1])] - rest + pelvis
    camera = draw_camera(rng, shot, joints, crown, settings.size)
    rotations[:, 0] = camera.rotation @ root
    motion = Motion.create(
        rotations,
        identity.betas,
        (pelvis - camera.position) @ camera.rotation.T - rest,
        camera.focal,
        np.array(settings.size),
        FPS,
        anatomy.body.space,
        source=name.folder,
    )
    seen = [
        points + motion.translation[:, None] for points in pose_frames(anatomy.body, motion.betas, motion.rotations)
    ]
    keypoints = whole_body_keypoints(*seen, camera.focal, settings.size)
    motion = dataclasses.replace(motion, keypoints=keypoints)
    light, backdrop = draw_light(rng), draw_backdrop(rng, joints)
    if settings.plain:
        identity, backdrop = undecorated(identity), dataclasses.replace(backdrop, kind="studio")
    return Take(identity, motion, camera, light, backdrop, shot, motif.actions)


def draw_images(take: Take, motion: Motion | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The pictures (T, H, W, 3) uint8 of a take, and (T, H, W) bool: where pixel centers see the dressed person.

    Args:
      motion: some frames of the take's motion; all by default.
    """
    motion = take.motion if motion is None else motion
    outfit = dress(take.identity)
    renderer = PersonRenderer(take.identity, outfit, take.camera, take.light, take.backdrop)
    vertices, _ = pose_frames(outfit.model, np.zeros(10), motion.rotations)
    frames = [renderer.draw(points) for points in vertices + motion.translation[:, None]]
    return np.stack([image for image, _ in frames]), np.stack([seen for _, seen in frames])


def write_video(settings: Settings, name: VideoName, output: str | os.PathLike) -> None:
    """Writes a video's folder: images/, the conditions, motion.npz and video.json. It appears whole or not at all.

    The conditions are those of the bare body, as a fitted SMPL body lies under clothes, byte for byte as
    `champ render` draws them from the motion.npz.

    Raises:
      InputError: `output` cannot be written, or the disk is full.
    """
    take = draw_take(settings, name)
    images, _ = draw_images(take)
    rendered = render_motion(take.motion, load_anatomy().body)
    with atomic_path(Path(output) / name.folder, folder=True) as folder:
        for kind in ("images", *RENDERED):
            (folder / kind).mkdir(parents=True)
        for index in range(len(images)):
            for kind, picture in ({"images": images[index]} | rendered[index]).items():
                Image.fromarray(picture).save(folder / kind / f"{index + 1:04}.png")
        take.motion.save(folder / "motion.npz")
        about = {"identity": name.identity, "motion": name.motion, "shot": take.shot, "actions": list(take.actions)}
        (folder / "video.json").write_text(json.dumps(about, indent=2) + "\n")


def _stream(settings: Settings, part: str, kind: int, number: int) -> np.random.Generator:
    return np.random.default_rng([settings.seed, PARTS.index(part), kind, number])
