"""Where time goes: operations are known by kind and module, and a profile's events are summed by them."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from champ_jax.models.initial_values import initialized
from champ_jax.models.layers import FeedForward
from champ_jax.models.options import NetworkOptions

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))  # as for the scripts there
from benchmarks import kernels, trace
from benchmarks.program import Operation, operations

GPU = """HloModule jit_step

FileNames
1 "champ_jax/models/layers.py"

FunctionNames
1 "step"
2 "ResNetBlock.__call__"
3 "MotionModule.__call__"
4 "TemporalAttention.__call__"

FileLocations
1 {file_name_id=1 function_name_id=1 line=1 end_line=1 column=0 end_column=1}
2 {file_name_id=1 function_name_id=2 line=2 end_line=2 column=0 end_column=1}
3 {file_name_id=1 function_name_id=3 line=3 end_line=3 column=0 end_column=1}
4 {file_name_id=1 function_name_id=4 line=4 end_line=4 column=0 end_column=1}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=2}
3 {file_location_id=3 parent_frame_id=2}
4 {file_location_id=4 parent_frame_id=4}


%fused_add (param_0: bf16[8,8]) -> bf16[8,8] {
  %param_0 = bf16[8,8]{1,0} parameter(0)
  ROOT %add.9 = bf16[8,8]{1,0} add(%param_0, %param_0), metadata={op_name="add" stack_frame_id=2}
}

%fused_move (param_0.1: bf16[8,8]) -> bf16[8,8] {
  %param_0.1 = bf16[8,8]{1,0} parameter(0)
  ROOT %copy.1 = bf16[8,8]{0,1} copy(%param_0.1), metadata={stack_frame_id=1}
}

ENTRY %main (x: bf16[8,8]) -> (bf16[8,8], u8[0]) {
  %x = bf16[8,8]{1,0} parameter(0)
  %loop_add = bf16[8,8]{1,0} fusion(%x), kind=kLoop, calls=%fused_add
  %moved = bf16[8,8]{0,1} fusion(%loop_add), kind=kLoop, calls=%fused_move, metadata={stack_frame_id=1}
  %conv = (bf16[8,8], u8[0]) custom-call(%moved), custom_call_target="__cudnn$convForward", metadata={stack_frame_id=2}
  %attend = (bf16[8,8], u8[0]) custom-call(%x), custom_call_target="__cudnn$fmhaSoftmax", metadata={stack_frame_id=4}
  ROOT %gemm = (bf16[8,8], u8[0]) custom-call(%x, %x), custom_call_target="__cublas$gemm", metadata={stack_frame_id=3}
}
"""


def test_operations_of_a_gpu_program():
    assert operations(GPU) == {
        "loop_add": Operation("elementwise", "ResNetBlock"),
        "moved": Operation("movement", "rest"),
        "conv": Operation("convolution", "ResNetBlock"),
        "attend": Operation("attention (cuDNN)", "MotionModule, TemporalAttention"),
        "gemm": Operation("matrix product", "MotionModule"),
    }


def test_events_are_summed_by_kind_and_module():
    known = {"a": Operation("convolution", "ResNetBlock"), "b": Operation("convolution", "ResNetBlock")}
    shares = trace.reduce_events([("a", 1.0), ("b", 2.0), ("a", 1.0), ("other", 0.5)], known, repeats=2)
    assert shares == [
        trace.Share("convolution", "ResNetBlock", 2.0, 1.5),
        trace.Share("outside of the program", "", 0.25, 0.5),
    ]
    assert "| convolution | 2000.000 | 88.9% | 1.5 |" in trace.table(shares)


def test_a_profile_knows_the_operations_of_a_compiled_module():
    graph, state = nnx.split(initialized(FeedForward(64, NetworkOptions())))
    run = jax.jit(lambda state, x: nnx.merge(graph, state)(x))
    x = jnp.ones((512, 64))
    shares = trace.profile(lambda: run(state, x), run.lower(state, x).compile().as_text(), repeats=2)
    known = [share for share in shares if share.module]
    assert sum(share.seconds for share in known) > 0.9 * sum(share.seconds for share in shares)
    assert any(share.kind == "matrix product" and share.module == "rest, FeedForward" for share in known)


def test_attention_is_measured_at_the_shapes_of_every_level():
    shapes = kernels.shapes("full", 512, 24)
    assert shapes["level 0, with the bank"] == ((24, 4096, 8, 40), 8192)
    assert shapes["level 3, with the bank"] == ((24, 64, 8, 160), 128)
    assert shapes["motion module, finest level"] == ((4096, 24, 8, 40), 24)
    assert shapes["VAE"] == ((1, 4096, 1, 512), 4096)


def test_kernels_are_timed_or_say_why_not(monkeypatch):
    monkeypatch.setattr(kernels, "shapes", lambda *_: {"somewhere": ((2, 16, 2, 8), 32)})
    (forward, both), refused = kernels.run("toy", 16, 2, "float32", repeats=1)
    assert (forward.name, both.name) == ("somewhere, xla", "somewhere, xla, backward too")
    assert forward.tflop == pytest.approx(4e-12 * 2 * 16 * 32 * 2 * 8)
    assert [line[:25] for line in refused] == ["somewhere: attention kern"] * 2
    assert "needs an NVIDIA GPU" in refused[0]
    assert both.tflop == pytest.approx(3.5 * forward.tflop)
