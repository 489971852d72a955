"""Places on the body that stand for key points, against the package that defines them."""

from smplx.vertex_ids import vertex_ids

from champ_jax.fitting import points


def test_the_vertices_of_smpls_feet_are_those_of_smplx():
    names = [f"{side}{part}" for side in "LR" for part in ("BigToe", "SmallToe", "Heel")]
    assert tuple(vertex_ids["smplh"][name] for name in names) == points._SMPL_FEET
