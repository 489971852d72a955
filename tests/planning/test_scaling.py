"""Memory and time against the mesh, and the table of what lies where."""

import dataclasses
import re

import jax
import pytest
from training_data import tiny_config

from champ_jax.common.errors import InputError
from champ_jax.models.network_flops import training_sample_flops
from champ_jax.planning import compile_ahead, scaling
from champ_jax.planning.collectives import Collective
from champ_jax.planning.compile_ahead import Memory, Report
from champ_jax.training import initial_state, loop

COLLECTIVES = (
    Collective("all-gather", 4, 10, 4000),
    Collective("reduce-scatter", 4, 1, 1600),
    Collective("all-reduce", 8, 1, 400),
)
REPORT = Report(1, "8 x TPU v5 lite", (2, 4), 8, Memory(10, 10, 10, 1000, 200), COLLECTIVES, True, 2.0)


@pytest.fixture(scope="module")
def config():
    return tiny_config("nowhere")


@pytest.fixture(scope="module")
def network(config):
    return initial_state.load_initial(config).network


def test_memory_of_a_device_is_split_by_fsdp_and_not_by_data(config, network):
    whole, repeated, split = (scaling.estimate(config, network, REPORT, *mesh) for mesh in ((1, 1), (4, 1), (1, 4)))
    shapes = network.shapes
    trained = sum(4 * shapes[name].size for name in network.trainable)
    assert trained * 4 <= whole.state <= trained * 4 + 1000  # parameter, two moments, average; counters
    assert repeated.state == whole.state
    assert whole.state / 4 < split.state < 0.3 * whole.state  # biases and norms stay whole
    assert whole.batch == 4 * split.batch == 4 * repeated.batch
    assert whole.temporaries == 8 * 1200  # the report's device had one sample
    assert split.temporaries == 2 * 1200
    assert split.memory == split.state + split.frozen + split.batch + split.temporaries


def test_traffic_follows_the_rings(config, network):
    assert scaling.estimate(config, network, REPORT, 1, 1).sent == 0
    assert scaling.estimate(config, network, REPORT, 8, 1).sent == 2 * 2000 * 7 / 8
    assert scaling.estimate(config, network, REPORT, 1, 8).sent == (4000 + 2000) * 7 / 8
    assert scaling.estimate(config, network, REPORT, 2, 4).sent == 6000 * 3 / 4 + 2 * 500 / 2
    one = scaling.estimate(config, network, REPORT, 2, 4)
    chip = scaling.Chip(1e9, 1e12, 1e3)
    assert one.communication_seconds(chip) == one.sent / 2e3
    assert one.compute_seconds(chip, 0.5) == one.flops / 5e11


def test_flops_are_the_useful_ones_the_recomputed_ones_and_the_encoders(config, network):
    trained = frozenset(network.trainable)
    useful = 8 * training_sample_flops(network.config, 8, 8, frames=1, trained=trained)
    with config.unlocked():
        cached = config.copy_and_resolve_references()
    cached.data.cached = True
    assert scaling.step_flops(cached, network) == useful
    cached.remat = "full"
    assert scaling.step_flops(cached, network) == pytest.approx(4 / 3 * useful)
    assert scaling.step_flops(config, network) > useful


def test_the_table_has_a_line_a_mesh(config, network):
    lines = scaling.scaling_table(config, network, REPORT, 0.4).splitlines()
    shapes = [line.split(" | ")[1] for line in lines[2:]]
    assert shapes == ["1 x 1", "2 x 1", "4 x 1", "1 x 4", "8 x 1", "2 x 4", "1 x 8"]
    assert {line.count("|") for line in lines} == {14}


def test_reports_come_back_as_they_were(tmp_path):
    REPORT.save(tmp_path / "report.json")
    assert Report.load(tmp_path / "report.json") == REPORT
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(InputError, match=r"other\.json: is no report"):
        Report.load(tmp_path / "other.json")
    assert REPORT.memory.total == 1210


def test_abstract_batches_are_those_of_the_pipeline(dataset, network):
    from champ_jax.training.batches import make_batches
    from champ_jax.training.sharding import make_mesh, shard_batch

    mesh = make_mesh(2, 4)
    for stage in (1, 2):
        config = tiny_config(dataset, stage=stage)
        batches = make_batches(config, config.data.path, mesh)
        batch = next(batches)
        batches.close()
        batch.pop("names")
        described = compile_ahead.abstract_batch(config, network.config, mesh)
        same = jax.tree.map(
            lambda a, b: (a.shape, a.dtype, a.sharding) == (b.shape, b.dtype, b.sharding),
            shard_batch(batch, mesh),
            described,
        )
        assert all(jax.tree.leaves(same)), same


def test_the_sharding_is_printed_before_anything_is_allocated(dataset, tmp_path, capsys, monkeypatch):
    def allocate(*_):
        raise InputError("now it would begin")

    monkeypatch.setattr(initial_state, "complete", allocate)
    before = len(jax.live_arrays())
    fields = {"print_sharding": True, "mesh__data": 2, "mesh__fsdp": 4}
    with pytest.raises(InputError, match="now it would begin"):
        loop.train(tiny_config(dataset, **fields), tmp_path)
    assert len(jax.live_arrays()) == before
    out = capsys.readouterr().out
    kernel = next(line for line in out.splitlines() if line.startswith("denoising_unet.conv_in.kernel "))
    # (3, 3, 4, 16) float32 over 4 devices; Adam keeps two moments, the average is one more.
    mib = 3 * 3 * 4 * 16 * 4 / 4 / 2**20
    assert kernel.split()[1:] == ["3x3x4x16", "float32", "-,-,-,fsdp", *(f"{n * mib:.3f}" for n in (1, 2, 1))]
    bias = next(line for line in out.splitlines() if line.startswith("denoising_unet.conv_in.bias "))
    assert bias.split()[1:4] == ["16", "float32", "whole"]
    assert re.search(r"^trained: 0\.\d\d M parameters", out, re.MULTILINE)
    assert re.search(r"^vae\.\S+\.kernel .*fsdp", out, re.MULTILINE)


BUFFERS = """BufferAssignment:
allocation 0: size 1000, parameter 3, shape |f32[250]| at ShapeIndex {}, maybe-live-out:
 value: <1 p3 @0> (size=1000,offset=0): f32[250]
allocation 1: size 300, parameter 1, shape |bf16[150]| at ShapeIndex {}:
allocation 2: size 40, maybe-live-out:
allocation 3: size 512, thread-local:
allocation 4: size 8, constant:
allocation 5: size 7000, preallocated-temp:
 value: <9 t @0> (size=7000,offset=0): f32[1750]
allocation 6: size 12, color 2, preallocated-temp:
allocation 7: size 116462080, color 1, preallocated-temp:
"""


def test_buffers_are_read_as_the_compiler_counts_them():
    memory = compile_ahead.read_buffers(BUFFERS)
    assert memory == Memory(arguments=1300, outputs=1040, aliased=1000, temporaries=7520, program=0)
    assert memory.total == 1300 + 40 + 7520


def test_meshes_are_those_that_the_batch_spreads_over():
    assert scaling.meshes((1, 2, 3, 8), 8) == [(1, 1), (2, 1), (8, 1), (2, 4), (1, 8)]


def test_every_chip_has_what_its_data_sheet_says():
    assert dataclasses.asdict(scaling.CHIPS["v5e"]) == {"memory": 16 * 2**30, "flops": 197e12, "link": 50e9}
    assert dataclasses.asdict(scaling.CHIPS["v5p"]) == {"memory": 95 * 2**30, "flops": 459e12, "link": 100e9}
    assert dataclasses.asdict(scaling.CHIPS["v6e"]) == {"memory": 32 * 2**30, "flops": 918e12, "link": 100e9}
