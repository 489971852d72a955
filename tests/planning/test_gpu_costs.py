"""What kernels of a GPU program cost, from its text; the GPUs' numbers; reports and what changed between them."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from champ_jax.common.errors import InputError
from champ_jax.models.flops import count_flops
from champ_jax.planning.cost_report import CostReport, comparison, load_reports, report_table, save_reports
from champ_jax.planning.gpus import ATTAINED_BANDWIDTH, ATTAINED_FLOPS, GPUS, Gpu
from champ_jax.planning.hlo import Place, Program
from champ_jax.planning.kernel_costs import kernels_of, module_of
from champ_jax.planning.report import Memory

PERFORMANCE = Path(__file__).parents[2] / "docs/performance"

# In the way that XLA's GPU compiler writes: libraries as custom calls, fusions, a loop, tables of places.
TEXT = """HloModule jit_run, is_scheduled=true

FileNames
1 "/somewhere/champ_jax/models/layers.py"
2 "/elsewhere/flax/linen.py"

FunctionNames
1 "FeedForward.__call__"
2 "Linear.__call__"
3 "SpatialTransformer.__call__"

FileLocations
1 {file_name_id=1 function_name_id=1 line=12 end_line=12 column=3 end_column=9}
2 {file_name_id=2 function_name_id=2 line=7 end_line=7 column=3 end_column=9}
3 {file_name_id=1 function_name_id=3 line=40 end_line=40 column=3 end_column=9}

StackFrames
1 {file_location_id=3 parent_frame_id=1}
2 {file_location_id=1 parent_frame_id=2}
3 {file_location_id=2 parent_frame_id=3}

%fused_slice (param_0.1: bf16[100,64]) -> bf16[10,64] {
  %param_0.1 = bf16[100,64]{1,0} parameter(0)
  ROOT %slice.1 = bf16[10,64]{1,0} slice(%param_0.1), slice={[0:10], [0:64]}
}

%fused_write (param_0.2: f32[100,8], param_1.2: f32[1,8], param_2.2: s32[]) -> f32[100,8] {
  %param_0.2 = f32[100,8]{1,0} parameter(0)
  %param_1.2 = f32[1,8]{1,0} parameter(1)
  %param_2.2 = s32[] parameter(2)
  %constant.1 = s32[] constant(0)
  ROOT %update = f32[100,8]{1,0} dynamic-update-slice(%param_0.2, %param_1.2, %param_2.2, %constant.1)
}

%fused_concatenate (param_0.3: bf16[4,8], param_1.3: bf16[4,8]) -> (bf16[4,16], bf16[4,8]) {
  %param_0.3 = bf16[4,8]{1,0} parameter(0)
  %param_1.3 = bf16[4,8]{1,0} parameter(1)
  %added = bf16[4,8]{1,0} add(%param_0.3, %param_1.3)
  %joined = bf16[4,16]{1,0} concatenate(%param_0.3, %param_1.3), dimensions={1}
  ROOT %both = (bf16[4,16]{1,0}, bf16[4,8]{1,0}) tuple(%joined, %added)
}

%body (state: (s32[], f32[100,8])) -> (s32[], f32[100,8]) {
  %state = (s32[], f32[100,8]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %clip = f32[100,8]{1,0} get-tuple-element(%state), index=1
  %row = f32[1,8]{1,0} broadcast(%i), dimensions={}
  %written = f32[100,8]{1,0} fusion(%clip, %row, %i), kind=kLoop, calls=%fused_write
  ROOT %next = (s32[], f32[100,8]{1,0}) tuple(%i, %written)
}

%until (state.1: (s32[], f32[100,8])) -> pred[] {
  %state.1 = (s32[], f32[100,8]{1,0}) parameter(0)
  ROOT %more = pred[] constant(true)
}

ENTRY %main (x: bf16[100,64], w: bf16[64,256], image: bf16[2,16,16,32], kernel: bf16[3,3,32,48], q: bf16[2,128,4,40]) -> f32[100,8] {
  %x = bf16[100,64]{1,0} parameter(0)
  %w = bf16[64,256]{1,0} parameter(1)
  %image = bf16[2,16,16,32]{3,2,1,0} parameter(2)
  %kernel = bf16[3,3,32,48]{3,2,1,0} parameter(3)
  %q = bf16[2,128,4,40]{3,2,1,0} parameter(4)
  %few = bf16[10,64]{1,0} fusion(%x), kind=kLoop, calls=%fused_slice
  %product = (bf16[10,256]{1,0}, s8[4194304]{0}) custom-call(%few, %w), custom_call_target="__cublas$gemm", metadata={op_name="jit(run)/dot_general" stack_frame_id=3}, backend_config={"gemm_backend_config":{"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"],"rhs_contracting_dimensions":["0"]}}}
  %convolved = (bf16[2,16,16,48]{3,2,1,0}, u8[0]{0}) custom-call(%image, %kernel), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f, custom_call_target="__cudnn$convForward"
  %seen = (bf16[2,128,4,40]{3,2,1,0}, u8[0]{0}) custom-call(%q, %q, %q), custom_call_target="__cudnn$fmhaSoftmax"
  %joined = (bf16[4,16]{1,0}, bf16[4,8]{1,0}) fusion(%a, %b), kind=kLoop, calls=%fused_concatenate
  %zero = s32[] constant(0)
  %start = (s32[], f32[100,8]{1,0}) tuple(%zero, %c)
  %looped = (s32[], f32[100,8]{1,0}) while(%start), condition=%until, body=%body, backend_config={"known_trip_count":{"n":"24"}}
  ROOT %out = f32[100,8]{1,0} get-tuple-element(%looped), index=1
}
"""  # noqa: E501


@pytest.fixture(scope="module")
def kernels():
    return {kernel.name: kernel for kernel in kernels_of(Program.parse(TEXT))}


def test_bytes_are_those_that_slices_and_updates_take(kernels):
    assert (kernels["few"].read, kernels["few"].written) == (10 * 64 * 2, 10 * 64 * 2)
    assert kernels["written"].count == 24  # rounds of the loop
    assert kernels["written"].read == 24 * (1 * 8 * 4 + 4)  # the row and the position; the rest stays in its place
    assert kernels["written"].written == 24 * 8 * 4
    assert kernels["joined"].written == 4 * 16 * 2 + 4 * 8 * 2
    # cuBLAS' workspace is nobody's result.
    assert (kernels["product"].read, kernels["product"].written) == (2 * (10 * 64 + 64 * 256), 2 * 10 * 256)


def test_flops_of_libraries(kernels):
    assert kernels["product"].flops == 2 * 10 * 64 * 256
    assert kernels["convolved"].flops == 2 * (2 * 16 * 16 * 48) * 3 * 3 * 32
    assert kernels["seen"].flops == 2 * 2 * (2 * 4 * 128 * 128 * 40)  # two products
    assert kernels["few"].flops == 0


def test_kinds_and_places(kernels):
    assert {name: kernels[name].kind for name in ("product", "convolved", "seen", "joined", "few", "written")} == {
        "product": "cuBLAS products",
        "convolved": "cuDNN convolutions",
        "seen": "cuDNN attention",
        "joined": "concatenations",
        "few": "slices",
        "written": "slices",
    }
    # The innermost line of this package, though a library is further in; the module by all that is around it.
    assert kernels["product"].source == "models/layers.py:12"
    assert kernels["product"].module == "spatial: feed-forward"
    assert kernels["convolved"].source == ""


@pytest.mark.parametrize(
    ("functions", "module"),
    [
        (["GroupNorm.__call__", "MotionModule.__call__"], "motion: norms"),
        (["_attend_over_frames", "TemporalAttention.__call__", "TemporalTransformer.__call__"], "motion: attention"),
        (["TemporalAttention.__call__", "TemporalTransformer.__call__"], "motion: projections of attention"),
        (["Conv.__call__", "ResNetBlock.__call__", "UpBlock.__call__"], "ResNets: convolutions"),
        (["UpBlock.__call__", "UNet.__call__"], "skips"),
        (["<lambda>"], "rest"),
    ],
)
def test_modules(functions, module):
    assert module_of([Place("champ_jax/models/x.py", function, 1) for function in functions]) == module


def test_flops_of_a_compiled_program_are_those_of_its_trace():
    """The gradient of a small network by this machine's compiler, in fusions or not."""

    def network(parameters, x):
        y = jax.lax.conv_general_dilated(
            x, parameters["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jax.nn.relu(y).reshape(len(x), -1) @ parameters["w"]

    shapes = {
        "kernel": jax.ShapeDtypeStruct((3, 3, 8, 16), jnp.float32),
        "w": jax.ShapeDtypeStruct((8 * 8 * 16, 32), jnp.float32),
    }
    x = jax.ShapeDtypeStruct((4, 8, 8, 8), jnp.float32)
    kernels = kernels_of(Program.parse(jax.jit(network).lower(shapes, x).compile().as_text()))
    assert sum(kernel.flops for kernel in kernels) == count_flops(network, shapes, x)


def test_a_text_without_a_program_is_refused():
    with pytest.raises(InputError, match="no text of a program"):
        Program.parse("HloModule nothing\n")


@pytest.mark.parametrize("name", GPUS)
def test_numbers_of_gpus_say_where_they_are_from(name):
    gpu = Gpu.load(name)
    assert len(gpu.source) > 40
    text = gpu.target_config()
    assert f"core_count: {gpu.cores}" in text
    assert f"memory_bandwidth: {gpu.bandwidth}" in text
    assert text.count("{") == text.count("}")
    # Where computing and moving take as long, a roofline turns: 80 to 500 FLOPs a byte on such GPUs.
    assert 80 < gpu.flops / gpu.bandwidth < 500


def test_the_roofline_is_the_longer_of_computing_and_moving():
    gpu = Gpu.load("h100")
    assert np.isclose(gpu.seconds(7e12, 0), 7e12 / (ATTAINED_FLOPS * gpu.flops))
    assert np.isclose(gpu.seconds(7e12, 1e13), 1e13 / (ATTAINED_BANDWIDTH * gpu.bandwidth))


def test_an_unknown_gpu_is_named():
    with pytest.raises(InputError, match="--gpu=h1000: unknown; choose a100, b200, h100, h200, rtx4090"):
        Gpu.load("h1000")


@pytest.fixture
def report():
    gpu = Gpu.load("h100")
    return CostReport.make(
        kernels_of(Program.parse(TEXT)),
        gpu,
        program="denoiser",
        gpu="h100",
        size=(512, 768),
        frames=24,
        batch=1,
        reduction=5,
        options={},
        jax="0.10.2",
        memory=Memory(5, 3, 2, 2**30, 7),
        seconds=1.5,
    )


def test_the_budget_is_of_the_whole_programs():
    """What was parsed of the compiled programs against the FLOPs of their traces, and the kernels that Hopper gets."""
    files = PERFORMANCE.glob("compiled_h100_*.json")
    reports = {(one.program, one.size[0], one.reduction): one for file in files for one in load_reports(file)}
    flops = json.loads((PERFORMANCE / "flops.json").read_text())
    for size in (512, 768):
        denoiser, decoder = reports["denoiser", size, 1], reports["decoder", size, 1]
        assert denoiser.total.flops / 1e12 == pytest.approx(flops[f"denoising step, {size}x{size}"], rel=0.01)
        whole = 24 / decoder.frames * decoder.total.flops / 1e12
        assert whole == pytest.approx(flops[f"decoding 24 frames, {size}x{size}"], rel=0.01)
    # Two halves of guidance attend at each of 16 places, with head sizes up to 160, which cuDNN takes from Hopper on.
    assert reports["denoiser", 512, 1].groups["kind"]["cuDNN attention"].kernels == 32


def test_groups_add_up_to_the_total(report):
    for name in ("kind", "module"):
        parts = report.groups[name].values()
        assert sum(part.kernels for part in parts) == report.total.kernels
        assert sum(part.moved for part in parts) == report.total.moved
        assert np.isclose(sum(part.seconds for part in parts), report.total.seconds)
    seconds = [part.seconds for part in report.groups["kind"].values()]
    assert seconds == sorted(seconds, reverse=True)
    assert 0 < report.compute_share(Gpu.load("h100")) < 1


def test_reports_are_read_as_they_were_written(report, tmp_path):
    save_reports(tmp_path / "costs.json", [report])
    (again,) = load_reports(tmp_path / "costs.json")
    assert again == report
    text = report_table(again, Gpu.load("h100"))
    assert "denoiser at 1/5 of the width, 512x768, 24 frames, h100" in text
    assert "| cuDNN convolutions | 1 |" in text


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.update(format="another"),
        lambda file: file["reports"][0].update(gpu="abacus"),
        lambda file: file["reports"][0]["total"].update(kernels=-1),
        lambda file: file["reports"][0]["groups"].pop("kind"),
        lambda file: file["reports"][0].update(size=5),
        lambda file: file["reports"][0].update(more=1),
        lambda file: file.update(reports=[1]),
    ],
)
def test_damaged_reports_are_named(report, tmp_path, damage):
    path = tmp_path / "costs.json"
    save_reports(path, [report])
    file = json.loads(path.read_text())
    damage(file)
    path.write_text(json.dumps(file))
    with pytest.raises(InputError, match=r"costs\.json: is (a damaged|not a) report of tools/compile_for_gpu"):
        load_reports(path)


def test_what_changed_is_told(report):
    total = dataclasses.replace(report.total, kernels=report.total.kernels - 2)
    kinds = {name: cost for name, cost in report.groups["kind"].items() if name != "cuDNN attention"}
    after = dataclasses.replace(report, total=total, groups={**report.groups, "kind": kinds})
    text = comparison([report], [after])
    assert f"{report.total.kernels} to {total.kernels}" in text
    assert "| cuDNN attention | 1 to 0 |" in text
    with pytest.raises(InputError, match="no program in common"):
        comparison([report], [dataclasses.replace(report, program="decoder")])
