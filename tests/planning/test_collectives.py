"""What is read from compiled programs."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from champ_jax.planning.collectives import Collective, parse_collectives
from champ_jax.training.sharding import BATCH, gather, make_mesh


def test_collectives_of_a_sharded_layer_are_those_expected():
    mesh = make_mesh(2, 4)
    split = NamedSharding(mesh, PartitionSpec(None, "fsdp"))

    def loss(w, x):
        return jnp.sum(jnp.tanh(x @ gather(w, split, jnp.float32)))

    w = jax.ShapeDtypeStruct((16, 32), jnp.float32, sharding=split)
    x = jax.ShapeDtypeStruct((64, 16), jnp.float32, sharding=NamedSharding(mesh, BATCH))
    text = jax.jit(jax.grad(loss), out_shardings=split).lower(w, x).compile().as_text()
    found = {(one.kind, one.group): one for one in parse_collectives(text, 8)}
    gathered = found.pop(("all-gather", 4))
    assert gathered == Collective("all-gather", 4, 1, 4 * 16 * 32)
    assert gathered.sent == 4 * 16 * 32 * 3 / 4
    # The CPU's compiler reduces whole gradients and then slices; nothing but the gradient travels.
    assert {kind for kind, _ in found} <= {"all-reduce", "reduce-scatter"}
    assert all(one.payload <= 4 * 16 * 32 for one in found.values())


# Lines in the ways that XLA's TPU compiler writes them.
PROGRAM = """HloModule jit_step, is_scheduled=true

%fused_step.1 (p: bf16[3,3,8,4]) -> bf16[3,3,8,16] {
  %p = bf16[3,3,8,4]{3,2,1,0:T(8,128)(2,1)} parameter(0)
  ROOT %all-gather.1 = bf16[3,3,8,16]{3,2,1,0:T(8,128)} all-gather(%p), channel_id=5, replica_groups=mesh['axis_0'=2,'axis_1'=4], device_ids=([2,4]T(1,0)) {'axis_1'}, dimensions={3}
}

%fused_step.2 (p: bf16[3,3,8,4]) -> bf16[3,3,8,16] {
  %p = bf16[3,3,8,4]{3,2,1,0} parameter(0)
  ROOT %all-gather.2 = bf16[3,3,8,16]{3,2,1,0} all-gather(%p), channel_id=5, replica_groups=mesh['axis_0'=2,'axis_1'=4], device_ids=([2,4]T(1,0)) {'axis_1'}, dimensions={3}
}

%all-reduce-scatter.7 (input_0: f32[8,64], input_1: bf16[16]) -> (f32[8,16], bf16[4]) {
  %all-reduce.3 = (f32[8,64]{1,0}, bf16[16]{0}) all-reduce(%input_0, %input_1), channel_id=6, replica_groups=[2,4]<=[8], to_apply=%add
}

%body (t: (s32[], f32[2,8])) -> (s32[], f32[2,8]) {
  %permuted = f32[2,8]{1,0} collective-permute(%x), channel_id=8, source_target_pairs={{0,1},{1,0}}
}

%condition (t: (s32[], f32[2,8])) -> pred[] {
  ROOT %less = pred[] compare(%a, %b), direction=LT
}

%wide.windowed_dot_general_body_rs.clone (t: (bf16[7,8], u32[])) -> (bf16[7,8], u32[]) {
  %two = u32[]{:T(128)} constant(2)
  %counter = u32[]{:T(128)} get-tuple-element(%t), index=1
  %piece = (bf16[7,8]{1,0}, bf16[7,8]{1,0}, u32[], u32[]) collective-permute-start(%x), channel_id=11, source_target_pairs={{0,1},{1,0}}, backend_config="{
}}"
  %next = u32[]{:T(128)} add(%counter, %two), metadata={op_name="dot"}
  ROOT %out = (bf16[7,8]{1,0}, u32[]) tuple(%done, %next), metadata={op_name="dot"}
}

%limit (t: (bf16[7,8], u32[])) -> pred[] {
  %four = u32[]{:T(128)} constant(4), metadata={op_name="dot"}
  %at = u32[]{:T(128)} get-tuple-element(%t), index=1
  ROOT %under = pred[]{:T(512)} compare(%at, %four), direction=LT
}

ENTRY %main.1 (p0: bf16[3,3,8,4]) -> f32[] {
  %a = bf16[3,3,8,16]{3,2,1,0} fusion(%p0), kind=kCustom, calls=%fused_step.1
  %b = bf16[3,3,8,16]{3,2,1,0} fusion(%a), kind=kCustom, calls=%fused_step.2
  %c = (f32[8,16]{1,0}, bf16[4]{0}) fusion(%g, %h), kind=kCustom, calls=%all-reduce-scatter.7
  %w = (s32[], f32[2,8]{1,0}) while(%t), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"7"}}
  %ring = (bf16[7,8]{1,0}, u32[]) while(%u), condition=%limit, body=%wide.windowed_dot_general_body_rs.clone, metadata={op_name="dot"}
  %start = (f32[4]{0}, f32[16]{0}) all-gather-start(%v), channel_id=9, replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}
  ROOT %sum = f32[] all-reduce(%s), channel_id=10, replica_groups={}, to_apply=%add
}
"""  # noqa: E501


@pytest.mark.parametrize(
    ("kind", "group", "count", "payload", "sent"),
    [
        ("all-gather", 4, 2, 2 * 3 * 3 * 8 * 16 + 4 * 16, 0.75),
        ("reduce-scatter", 4, 1, 4 * 8 * 64 + 2 * 16, 0.75),
        # Pieces of 7 x 8 that go round twice: as much as is sent of a whole gradient of 8/7 the size.
        ("reduce-scatter", 8, 2, 2 * (2 * 7 * 8 * 8 // 7), 7 / 8),
        ("collective-permute", 8, 7, 7 * 4 * 2 * 8, 1),
        ("all-reduce", 8, 1, 4, 2 * 7 / 8),
    ],
)
def test_every_way_of_writing_is_read(kind, group, count, payload, sent):
    found = {(one.kind, one.group): one for one in parse_collectives(PROGRAM, 8)}
    assert len(found) == 5
    assert found[kind, group] == Collective(kind, group, count, payload)
    assert found[kind, group].sent == pytest.approx(sent * payload)
