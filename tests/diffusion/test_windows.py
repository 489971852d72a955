"""Windows against the reference's, and what must hold of every plan."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from champ_jax.common.errors import InputError
from champ_jax.diffusion.windows import SCHEMES, Windows, plan_windows

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "model" / "e_context_windows.json").read_text())
LENGTHS = [int(length) for length in GOLDEN if length.isdigit()]

configs = st.builds(
    lambda scheme, frames, overlap, stride: Windows(scheme, frames, min(overlap, frames - 1), stride),
    st.sampled_from(sorted(SCHEMES)),
    st.integers(1, 32),
    st.integers(0, 31),
    st.integers(1, 4),
)


@pytest.mark.parametrize("length", LENGTHS)
def test_closed_loop_is_the_reference(length):
    for step in range(3):
        plan = plan_windows(Windows("closed_loop"), length, step)
        assert plan.frames.tolist() == GOLDEN[str(length)]["pipeline_step0"]


@pytest.mark.parametrize("length", ["25", "30", "44", "60"])
def test_shifted_loop_turns_the_ring_as_the_reference_would(length):
    for step in range(1, 4):
        plan = plan_windows(Windows("shifted_loop"), int(length), step)
        assert plan.frames.tolist() == GOLDEN[length][f"step{step}"]
    assert plan_windows(Windows("closed_loop", overlap=0), int(length)).frames.tolist() == GOLDEN[length]["overlap0"]


def test_stride_adds_sparse_windows_as_the_reference_does():
    assert plan_windows(Windows("closed_loop", stride=3), 60).frames.tolist() == GOLDEN["stride3_L60"]["step0"]


@settings(max_examples=300, deadline=None)
@given(configs, st.integers(1, 300), st.integers(0, 40))
def test_every_frame_is_averaged_with_weights_that_sum_to_one(windows, length, step):
    plan = plan_windows(windows, length, step)
    assert plan.frames.shape == plan.weights.shape
    assert plan.frames.shape[1] == min(windows.frames, length)
    assert plan.frames.min() >= 0
    assert plan.frames.max() < length
    assert (plan.weights > 0).all()
    total = np.zeros(length)
    np.add.at(total, plan.frames, plan.weights)
    np.testing.assert_allclose(total, 1.0, atol=1e-5)


@settings(max_examples=200, deadline=None)
@given(st.integers(2, 32), st.integers(0, 31), st.integers(1, 300), st.integers(0, 40))
def test_open_schemes_never_join_the_end_to_the_beginning(frames, overlap, length, step):
    for scheme in ("shifted", "clamped"):
        plan = plan_windows(Windows(scheme, frames, min(overlap, frames - 1)), length, step)
        assert (np.diff(plan.frames, axis=1) == 1).all()
        starts = plan.frames[:, 0]
        assert starts[0] == 0
        assert plan.frames[-1, -1] == length - 1
        assert (np.diff(starts) > 0).all()
        assert (np.diff(starts) <= frames - min(overlap, frames - 1)).all()  # neighbors share `overlap` frames or more


@settings(max_examples=100, deadline=None)
@given(st.integers(50, 400))
def test_seams_move_from_step_to_step(length):
    """Over eight steps no inner window edge stays: none is in more than half of the steps."""
    edges = [set(plan_windows(Windows(), length, step).frames[1:-1, 0].tolist()) for step in range(8)]
    for frame in set().union(*edges):
        assert sum(frame in step for step in edges) <= 4
    fixed = [plan_windows(Windows("clamped"), length, step).frames.tolist() for step in range(3)]
    assert fixed[0] == fixed[1] == fixed[2]


@settings(max_examples=100, deadline=None)
@given(st.integers(25, 400))
def test_shifting_costs_one_window_at_most(length):
    least = len(plan_windows(Windows("clamped"), length).frames)
    assert max(len(plan_windows(Windows(), length, step).frames) for step in range(16)) <= least + 1


def test_frames_weigh_less_near_a_windows_edge():
    plan = plan_windows(Windows("clamped"), 44)  # [0, 24) and [20, 44)
    np.testing.assert_allclose(plan.weights[0, 20:], [4 / 5, 3 / 5, 2 / 5, 1 / 5])
    np.testing.assert_allclose(plan.weights[1, :4], [1 / 5, 2 / 5, 3 / 5, 4 / 5])
    assert (plan.weights[0, :20] == 1).all()
    assert set(plan_windows(Windows("closed_loop"), 44).weights.ravel().tolist()) == {0.5, 1.0}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"scheme": "closed-loop"}, "scheme"),
        ({"overlap": 24}, "overlap"),
        ({"overlap": -1}, "overlap"),
        ({"frames": 0}, "frames"),
        ({"stride": 0}, "stride"),
    ],
)
def test_settings_that_cannot_work_are_refused(fields, message):
    with pytest.raises(InputError, match=f"windows.{message}"):
        Windows(**fields)
