"""tools/make_drivers.py: another body does the motion, and alignment brings it back."""

import numpy as np
import pytest

from champ_jax.body.measurements import rest_height
from champ_jax.body.motion import Motion
from champ_jax.body.smpl import load_body
from champ_jax.common.errors import InputError
from champ_jax.common.pictures import write_image
from tools.make_drivers import main


@pytest.fixture(scope="module")
def held_out(tmp_path_factory):
    """Two people, one small and one tall, standing and walking in the same picture."""
    root = tmp_path_factory.mktemp("people")
    rng = np.random.default_rng(0)
    for index, shape in enumerate((-2.0, 2.0)):
        folder = root / f"v{index}"
        images = folder / "images"
        images.mkdir(parents=True)
        write_image(images / "0001.png", np.zeros((64, 64, 3), np.uint8))
        rotations = np.tile(np.eye(3, dtype=np.float32), (4, 24, 1, 1))
        rotations[:, 0] = np.diag([1, -1, -1])
        betas = np.zeros(10, np.float32)
        betas[0] = shape
        path = np.array([0, 0.2, 4]) + np.cumsum(rng.uniform(0, 0.1, (4, 3)) * [1, 0, 1], axis=0)
        motion = Motion.create(rotations, betas, path, 60.0, np.array([64, 64]), 24, "open", source="test")
        motion.save(folder / "motion.npz")
    return root


def test_the_aligned_driver_is_the_person_again(held_out, tmp_path):
    main([f"--held_out={held_out}", f"--output={tmp_path}"])
    body = load_body()
    heights = []
    for name in ("v0", "v1"):
        person = Motion.load(held_out / name / "motion.npz")
        driver = Motion.load(tmp_path / "unaligned" / f"{name}.npz")
        back = Motion.load(tmp_path / "aligned" / f"{name}.npz")
        heights.append(abs(rest_height(body, driver.betas) / rest_height(body, person.betas) - 1))
        np.testing.assert_array_equal(driver.rotations, person.rotations)
        np.testing.assert_array_equal(driver.focal, person.focal)
        np.testing.assert_array_equal(back.betas, person.betas)
        np.testing.assert_allclose(back.translation, person.translation, atol=2e-3)
    assert min(heights) > 0.03


def test_one_video_is_not_enough(held_out, tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "v0").symlink_to(held_out / "v0")
    with pytest.raises(InputError, match="another person is needed"):
        main([f"--held_out={tmp_path / 'one'}", f"--output={tmp_path / 'out'}"])
