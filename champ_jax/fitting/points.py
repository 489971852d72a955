"""Points that hang on a body: how the observed key points follow from shape and pose, without its vertices.

Linear blend skinning moves a weighted mean of vertices to sum_j G_j (A_j + B_j betas) + a_j (P_j - G_j J_j), where G_j
and P_j are a joint's rotation and place and J_j its place at rest; A, B and a are small and computed once a body. Pose
correctives are left out: they move these points by millimeters.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from champ_jax.body.smpl import JOINT_NAMES, KEYPOINT_NAMES, NUM_JOINTS, BodyModel
from champ_jax.fitting.priors import read_shipped

NUM_POINTS = 30
"""Points of every model: what compiles for one layout serves all of them."""

_FIRST_LANDMARK = 18
_HANDS = (92, 113)  # the wrist's place in the left and in the right hand's points
_KNUCKLES = (5, 9, 17)  # where index, middle and little finger begin, in a hand's 21 points
FEET = (18, 19, 20, 21, 22, 23)  # big toe, small toe, heel of the left, then of the right foot
# SMPL's vertices for feet, as the smplx package and OpenPose have them, in the order of `FEET`.
_SMPL_FEET = (3216, 3226, 3387, 6617, 6624, 6787)
_SMPL_VERTICES = 6890
# The joint of a hand is where the middle finger begins.
_MIDDLE_KNUCKLES = {92 + 9: "left_hand", 113 + 9: "right_hand"}
_FEET_JOINTS = ("left_foot", "left_foot", "left_ankle", "right_foot", "right_foot", "right_ankle")
_FACE_POINTS = {0: 0, 14: 1, 15: 2, 16: 3, 17: 4}  # place among the 134: place among BodyModel.face_vertices


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PointModel:
    """K points on a body; the last six are those of the feet, which may touch the ground. A pytree of float32 arrays.

    Attributes:
      rest: (K, 24, 3) A.
      rest_by_shape: (K, 24, 3, 10) B.
      share: (K, 24) a, each row sums to 1.
      joints: (24, 3) joints of the mean shape at rest.
      joints_by_shape: (24, 3, 10).
      parents: 24 parent joints.
    """

    rest: jax.Array
    rest_by_shape: jax.Array
    share: jax.Array
    joints: jax.Array
    joints_by_shape: jax.Array
    parents: tuple[int, ...] = dataclasses.field(metadata={"static": True})

    def __len__(self) -> int:
        return len(self.share)


@dataclasses.dataclass(frozen=True)
class Places:
    """Where points are: K weighted means of vertices, or joints.

    Attributes:
      joints: for each point a joint's number, or -1.
      vertices: for each point (N,) vertices; what stands at a joint's point counts for nothing.
      weights: for each point (N,) their weights, which sum to 1.
    """

    joints: list[int]
    vertices: list[np.ndarray]
    weights: list[np.ndarray]

    @classmethod
    def of_joints(cls, joints: list[int]) -> "Places":
        """Joints alone."""
        return cls(list(joints), [np.zeros(1, int)] * len(joints), [np.ones(1)] * len(joints))

    def __add__(self, other: "Places") -> "Places":
        return Places(self.joints + other.joints, self.vertices + other.vertices, self.weights + other.weights)

    def __len__(self) -> int:
        return len(self.joints)


def place_of(body: BodyModel, target: int) -> Places | None:
    """Where one of the 134 points, or of SMPL's joints (-1 - joint), is on a body; None where the body does not say."""
    if target < 0:
        return Places.of_joints([-1 - target])
    if 2 <= target < 14:
        return Places.of_joints([JOINT_NAMES.index(KEYPOINT_NAMES[target])])
    if target in _FACE_POINTS:
        row = _FACE_POINTS[target]
        vertices, weights = np.asarray(body.face_vertices)[row], np.asarray(body.face_weights)[row]
        return Places([-1], [vertices], [weights]) if len(vertices) else None
    if body.space == "open" and target >= _FIRST_LANDMARK:
        shipped = read_shipped()
        row = target - _FIRST_LANDMARK
        return Places([-1], [shipped["landmarks"][row]], [shipped["landmark_weights"][row]])
    if target in FEET and len(body.v_template) == _SMPL_VERTICES:
        return Places([-1], [np.array([_SMPL_FEET[FEET.index(target)]])], [np.ones(1)])
    if target in _MIDDLE_KNUCKLES:
        return Places.of_joints([JOINT_NAMES.index(_MIDDLE_KNUCKLES[target])])
    return None


def feet_of(body: BodyModel) -> Places:
    """Big toe, small toe and heel of the left, then of the right foot; on unknown meshes toe joints and ankles."""
    places = Places([], [], [])
    for toe, joint in zip(FEET, _FEET_JOINTS):
        places += place_of(body, toe) or Places.of_joints([JOINT_NAMES.index(joint)])
    return places


def whole_body_places(body: BodyModel) -> tuple[list[int], Places]:
    """Which of the 134 points the fit looks at, and where they are on a body.

    Nose, eyes, ears, limbs and knuckles; fingers move too much to tell more than where knuckles are. The feet's points
    (`FEET`) are not among them: they come last in every model.

    Returns:
      The places among the 134, and their `Places`.
    """
    numbers: list[int] = []
    places = Places([], [], [])
    for number in [*range(2, 14), *_FACE_POINTS, *(first + knuckle for first in _HANDS for knuckle in _KNUCKLES)]:
        found = place_of(body, number)
        if found is not None:
            numbers.append(number)
            places += found
    return numbers, places


def padded(places: Places, feet: Places) -> Places:
    """`NUM_POINTS` places: first these, then the pelvis as often as it takes, the feet's six last."""
    spare = NUM_POINTS - len(places) - len(feet)
    return places + Places.of_joints([0] * spare) + feet


def point_model(body: BodyModel, places: Places) -> PointModel:
    """The `PointModel` of `NUM_POINTS` places on a body."""
    weights, template = np.asarray(body.weights, np.float64), np.asarray(body.v_template, np.float64)
    shapes, regressor = np.asarray(body.shapedirs, np.float64), np.asarray(body.J_regressor, np.float64)
    joints, joints_by_shape = regressor @ template, np.einsum("jv,vck->jck", regressor, shapes)
    first, by_shape, share = [], [], []
    for joint, vertices, mean in zip(places.joints, places.vertices, places.weights):
        if joint >= 0:
            own = np.eye(NUM_JOINTS)[joint]
            first.append(own[:, None] * joints)
            by_shape.append(own[:, None, None] * joints_by_shape)
            share.append(own)
        else:
            skinning = mean[:, None] * weights[vertices]
            first.append(skinning.T @ template[vertices])
            by_shape.append(np.einsum("vj,vck->jck", skinning, shapes[vertices]))
            share.append(skinning.sum(axis=0))
    rest, rest_by_shape, shares, places_at_rest, moved_at_rest = (
        jnp.asarray(np.array(values), jnp.float32) for values in (first, by_shape, share, joints, joints_by_shape)
    )
    return PointModel(rest, rest_by_shape, shares, places_at_rest, moved_at_rest, body.parents)
