"""What the people look like: the silhouette against the mask, samples, identities, backdrops."""

import dataclasses

import numpy as np
import pytest

from champ_jax.body.motion import Motion, camera_points
from champ_jax.body.rotations import rotation_about
from champ_jax.body.smpl import JOINT_NAMES
from champ_jax.common.errors import InputError
from champ_jax.common.files import write_json
from champ_jax.conditions.rendered_motion import render_motion
from champ_jax.conditions.skeleton import FACE, LEFT_HAND, RIGHT_HAND
from champ_jax.data.synthetic import garments, palette, patterns
from champ_jax.data.synthetic.anatomy import BODY, EYE, MOUTH, load_anatomy
from champ_jax.data.synthetic.choreography import pose_frames
from champ_jax.data.synthetic.identity import draw_identity, undecorated
from champ_jax.data.synthetic.keypoints import whole_body_keypoints
from champ_jax.data.synthetic.one_video import Settings, VideoName, draw_images, draw_take, write_video
from champ_jax.data.synthetic.outfit import dress
from champ_jax.data.synthetic.paint import paint

SETTINGS = Settings(seed=1, frames=6, size=(72, 56))


@pytest.fixture(scope="module")
def takes():
    """Six dressed people, as they are made."""
    return [draw_take(SETTINGS, VideoName("train", k, k)) for k in range(6)]


@pytest.fixture(scope="module")
def drawn(takes):
    """(pictures, person seen, mask) of each take."""
    body = load_anatomy().body
    result = []
    for take in takes:
        images, seen = draw_images(take)
        mask = render_motion(take.motion, body, conditions=("mask",)).read(0, len(take.motion))["mask"][..., 0]
        result.append((images, seen, mask > 0))
    return result


def _undressed(identity):
    """The same person without anything that stands off the skin."""
    bottom = dataclasses.replace(identity.bottom, kind="trousers", looseness=0.0)
    return dataclasses.replace(
        identity,
        hair_style="bald",
        shoe_height=-2.0,
        top=dataclasses.replace(identity.top, kind="tee", looseness=0.0),
        bottom=bottom,
    )


def test_pixels_of_the_bare_body_are_those_of_the_mask(takes):
    """Without volume of cloth, hair and shoes the picture's person is the mask, pixel by pixel."""
    body = load_anatomy().body
    for take in takes[:3]:
        bare = dataclasses.replace(take, identity=_undressed(take.identity))
        _, seen = draw_images(bare)
        mask = render_motion(take.motion, body, conditions=("mask",)).read(0, len(take.motion))["mask"][..., 0] > 0
        # Both project the same vertices; the last bit of a coordinate may decide a pixel on the very edge.
        assert (seen != mask).sum() <= 1e-3 * mask.sum()


def test_clothes_cover_the_mask(drawn):
    """Cloth lies outside of the body: the dressed silhouette holds the mask and is a little larger."""
    for _, seen, mask in drawn:
        assert (mask & ~seen).sum() <= 0.004 * mask.sum()
        assert mask.sum() < seen.sum() < 1.9 * mask.sum()


def test_only_the_person_moves(drawn):
    """The camera stands still: far from people and their shadows a video is one picture."""
    for images, seen, _ in drawn:
        person = seen.any(axis=0)
        steady = images.std(axis=0).max(axis=-1) == 0
        assert steady[~person].mean() > 0.3
        assert not steady[seen.any(axis=0) & ~seen.all(axis=0)].all()


def test_pictures_are_neither_dark_nor_burnt_and_people_stand_out(drawn):
    for images, seen, _ in drawn:
        assert 40 < images.mean() < 215
        assert (images == 255).mean() < 0.05
        assert images[seen].astype(float).std() > 10


def test_people_and_places_differ(drawn):
    means = np.array([images[0].astype(float) for images, _, _ in drawn])
    for one in range(len(means)):
        for other in range(one):
            assert np.abs(means[one] - means[other]).mean() > 15


def test_labels_are_where_the_person_is(takes, drawn):
    """Pixel centers of two rasterizations: the last bit of a coordinate may decide a pixel on the very edge."""
    for take, (_, seen, _) in zip(takes, drawn):
        labels = garments.draw_labels(take)
        assert ((labels > 0) != seen).sum() <= 1e-3 * seen.sum()
        assert {"skin", "top"} <= {garments.NAMES[label] for label in np.unique(labels)}


def test_labels_are_what_the_painter_covers_points_with():
    """Every garment of a person gets a color of its own; the painted color of a point tells its garment."""
    anatomy = load_anatomy()
    for number in range(12):
        drawn = undecorated(draw_identity(np.random.default_rng(number)))
        colors = {"hair": (0, 0, 9), "top": (9, 0, 0), "bottom": (0, 9, 0), "socks": (9, 9, 0), "shoes": (0, 9, 9)}
        worn = {name: np.array(color, np.float32) for name, color in colors.items()}
        cap = np.array((9, 0, 9), np.float32)
        top, bottom = (
            dataclasses.replace(garment, color=worn[name], back_color=worn[name], second=worn[name], accent=cap)
            for name, garment in (("top", drawn.top), ("bottom", drawn.bottom))
        )
        named = {name: worn[name] for name in ("hair", "socks", "shoes")}
        identity = dataclasses.replace(drawn, **named, sole=worn["shoes"], top=top, bottom=bottom, beard=0.0)
        painted, _ = paint(identity, anatomy.points, anatomy.pieces)
        labels = garments.label_points(identity, anatomy.points, anatomy.pieces)
        lights = np.linalg.norm(painted, axis=1)
        for name, color in worn.items():
            points = np.flatnonzero(labels == garments.NAMES.index(name))
            alike = painted[points] @ (color / np.linalg.norm(color)) / lights[points]
            # Trimmings of another color and the soft border between two cloths are few.
            assert len(points) == 0 or (alike > 0.9).mean() > 0.8, (number, name)
        clear = lights > 6  # bare skin is dark beside these
        found = labels[clear & (anatomy.pieces == BODY)]
        assert np.isin(found, [garments.NAMES.index(name) for name in ("skin", "face")]).mean() < 0.03


def test_a_take_is_drawn_again_from_its_folder(tmp_path):
    settings = dataclasses.replace(SETTINGS, seed=3, frames=2, plain=True)
    name = VideoName("test", 1, 4)
    write_video(settings, name, tmp_path)
    folder, record = tmp_path / name.folder, tmp_path / "people.json"
    with pytest.raises(InputError, match=r"people\.json"):
        garments.read_take(folder)
    write_json(record, dataclasses.asdict(settings))
    take, expected = garments.read_take(folder), draw_take(settings, name)
    np.testing.assert_array_equal(take.identity.top.color, expected.identity.top.color)
    np.testing.assert_array_equal(take.motion.rotations, Motion.load(folder / "motion.npz").rotations)
    write_json(record, dataclasses.asdict(dataclasses.replace(settings, seed=4)))
    with pytest.raises(InputError, match="are not those of this person and motion"):
        garments.read_take(folder)
    write_json(record, dataclasses.asdict(dataclasses.replace(settings, frames=3)))
    with pytest.raises(InputError, match="is of other frames than"):
        garments.read_take(folder)
    for wrong in ({"seed": -1}, {"size": [32]}, {"plain": 1}, {"frames": "2"}):
        write_json(record, dataclasses.asdict(settings) | wrong)
        with pytest.raises(InputError, match=rf"people\.json: {next(iter(wrong))}"):
            garments.read_take(folder)
    write_json(record, {"seed": 3})
    with pytest.raises(InputError, match="is not a record of"):
        garments.read_take(folder)
    folder.rename(folder.with_name("walk"))
    with pytest.raises(InputError, match="is not a video of"):
        garments.read_take(folder.with_name("walk"))


def test_a_back_differs_from_a_front():
    """Logos are on one side only, and the face is."""
    anatomy = load_anatomy()
    torso = np.array([[0.0, 0.31, 0.14], [0.0, 0.31, -0.08], [0.0, 0.616, 0.14], [0.0, 0.70, -0.06]])
    identity = draw_identity(np.random.default_rng(0))
    top = dataclasses.replace(identity.top, kind="tee", logo="disc", logo_radius=0.08, back="", pattern="plain")
    identity = dataclasses.replace(identity, hair_style="short", top=dataclasses.replace(top, back_color=top.color))
    color, _ = paint(identity, torso, np.full(4, BODY))
    np.testing.assert_allclose(color[0], top.accent, rtol=0.25)
    np.testing.assert_allclose(color[1], top.color, rtol=0.25)
    assert color[2, 0] > 1.3 * color[2, 1]  # lips are red
    np.testing.assert_allclose(color[3], identity.hair, rtol=0.3)
    assert set(np.unique(anatomy.pieces)) == {BODY, EYE, MOUTH}


@pytest.mark.parametrize("pattern", list(patterns.PATTERNS))
def test_patterns_repeat_and_stay_within_their_colors(pattern):
    along, across = np.random.default_rng(0).uniform(-1, 1, (2, 4000))
    share = patterns.PATTERNS[pattern](along, across, 0.1)
    assert share.min() >= 0
    assert share.max() <= 1
    if pattern != "plain":
        assert 0.15 < share.mean() < 0.85


@pytest.mark.parametrize("logo", list(patterns.LOGOS))
def test_logos_have_their_size(logo):
    x, y = np.meshgrid(*[np.linspace(-0.2, 0.2, 201)] * 2)
    share = patterns.LOGOS[logo](x, y, 0.08)
    area = share.sum() * 0.002**2
    assert 0.2 * 0.08**2 < area < 4.2 * 0.08**2
    assert share[np.hypot(x, y) > 0.13].max() == 0


def test_a_dressed_body_moves_by_the_bare_ones_skeleton(takes):
    take = takes[0]
    outfit = dress(take.identity)
    _, joints = pose_frames(outfit.model, np.zeros(10), take.motion.rotations)
    _, expected = pose_frames(load_anatomy().body, take.identity.betas, take.motion.rotations)
    np.testing.assert_allclose(joints, expected, atol=2e-6)


def _project(take, points):
    size = np.array(take.camera.image_size)
    return size / 2 + take.camera.focal * points[..., :2] / points[..., 2:]


def test_key_points_lie_on_the_body(takes):
    """Body points project onto the posed joints; face points onto the head, hands beyond their wrists."""
    anatomy = load_anatomy()
    for take in takes:
        vertices, joints = (np.asarray(points) for points in camera_points(anatomy.body, take.motion))
        focal = take.camera.focal
        keypoints = take.motion.keypoints
        elbow = JOINT_NAMES.index("right_elbow")
        np.testing.assert_allclose(keypoints[:, 3, :2], _project(take, joints[:, elbow]), atol=1e-3)
        head = _project(take, vertices[:, np.asarray(anatomy.body.parts) == JOINT_NAMES.index("head")])
        face = keypoints[:, FACE, :2]
        assert (face >= head.min(axis=1, keepdims=True) - 0.5).all()
        assert (face <= head.max(axis=1, keepdims=True) + 0.5).all()
        for hand, part, wrist in ((LEFT_HAND, "left", 7), (RIGHT_HAND, "right", 4)):
            points = keypoints[:, hand, :2]
            root = points[:, 0]
            scale = focal / joints[:, JOINT_NAMES.index(f"{part}_wrist"), 2]
            assert (np.linalg.norm(root - keypoints[:, wrist, :2], axis=1) < 0.05 * scale).all()
            assert (np.linalg.norm(points - root[:, None], axis=-1) < 0.25 * scale[:, None]).all()


def test_face_points_are_hidden_from_behind():
    """A person who turns round: the tip of the nose is seen from in front only."""
    rotations = np.tile(np.eye(3), (2, 24, 1, 1))
    rotations[:, 0] = [rotation_about("x", np.pi), rotation_about("x", np.pi) @ rotation_about("y", np.pi)]
    vertices, joints = pose_frames(load_anatomy().body, np.zeros(10), rotations)
    away = np.array([0.0, 0.0, 5.0])
    keypoints = whole_body_keypoints(vertices + away, joints + away, 300.0, (128, 128))
    nose_tip, mouth = FACE.start + 30, FACE.start + 62
    assert keypoints[0, [nose_tip, mouth], 2].tolist() == [1, 1]
    assert keypoints[1, [nose_tip, mouth], 2].tolist() == [0, 0]
    assert keypoints[0, mouth, 1] > keypoints[0, nose_tip, 1]
    # iBUG's points 36-41 are the person's right eye, which a viewer in front sees on the left.
    assert keypoints[0, FACE.start + 36 : FACE.start + 42, 0].max() < keypoints[0, nose_tip, 0]
    assert keypoints[0, LEFT_HAND, 0].min() > keypoints[0, RIGHT_HAND, 0].max()


def test_extreme_shapes_are_far_from_the_mean():
    usual = [draw_identity(np.random.default_rng(k)).betas for k in range(40)]
    extreme = [draw_identity(np.random.default_rng(k), extreme=True).betas for k in range(40)]
    assert np.abs(usual).max() <= 2
    assert (np.abs(np.array(extreme)[:, [0, 3]]) >= [2, 3]).all()
    assert len({beta > 0 for beta in np.array(extreme)[:, 3]}) == 2


def test_plain_people_are_the_same_people_in_one_color(takes):
    for k, take in enumerate(takes):
        plain = draw_take(dataclasses.replace(SETTINGS, plain=True), VideoName("train", k, k))
        assert plain.backdrop.kind == "studio"
        np.testing.assert_array_equal(plain.motion.rotations, take.motion.rotations)
        for ours, theirs in ((plain.identity.top, take.identity.top), (plain.identity.bottom, take.identity.bottom)):
            assert (ours.pattern, ours.logo, ours.back) == ("plain", "", "")
            np.testing.assert_array_equal(ours.color, theirs.color)
            np.testing.assert_array_equal(ours.back_color, theirs.color)


def test_cloth_colors_differ_from_their_neighbors():
    rng = np.random.default_rng(0)
    for _ in range(20):
        first = palette.cloth(rng)
        second = palette.cloth(rng, first)
        assert np.abs(first**0.45 - second**0.45).sum() > 0.15
