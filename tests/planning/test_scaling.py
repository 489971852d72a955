"""Memory and time against the mesh, and the table of where tensors are stored."""

import dataclasses
import re

import jax
import numpy as np
import pytest
from hosts import ROOT
from training_data import tiny_config

from champ_jax.common.errors import InputError
from champ_jax.models.network_flops import training_sample_flops
from champ_jax.planning import dump, scaling
from champ_jax.planning.collectives import Collective
from champ_jax.planning.report import Memory, Report
from champ_jax.training import loop
from champ_jax.training.batches import abstract_batch, check_batch, make_batches, shard_batch
from champ_jax.training.config import DTYPES
from champ_jax.training.initial_weights import load_initial
from champ_jax.training.optimizer import make_optimizer
from champ_jax.training.sharding import make_mesh
from champ_jax.training.state import abstract_frozen, abstract_state
from champ_jax.training.throughput import PEAK_TFLOPS

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
    return load_initial(config).network


def per_device(tree):
    """Bytes that arrays of these shapes take on the first device, counted shard by shard."""
    placed = jax.tree.map(lambda leaf: jax.device_put(np.zeros(leaf.shape, leaf.dtype), leaf.sharding), tree)
    shards = [shard for leaf in jax.tree.leaves(placed) for shard in leaf.addressable_shards]
    return sum(shard.data.nbytes for shard in shards if shard.device == jax.devices()[0])


@pytest.mark.parametrize(("data", "fsdp"), [(1, 1), (4, 1), (1, 4), (2, 4)])
def test_memory_of_a_device_is_what_arrays_on_it_take_and_what_xla_counts(config, network, data, fsdp):
    mesh = make_mesh(data, fsdp, jax.devices()[: data * fsdp])
    cost = scaling.estimate(config, network, REPORT, data, fsdp)
    state = abstract_state(network, make_optimizer(config.optimizer, config.steps), mesh, averaged=True)
    frozen = abstract_frozen(network, DTYPES[config.frozen_dtype], mesh)
    batch = abstract_batch(config, network.config, mesh)
    assert (cost.state, cost.frozen, cost.batch) == tuple(map(per_device, (state, frozen, batch)))
    program = jax.jit(lambda *_: 0, keep_unused=True).lower(state, frozen, batch).compile()
    counted = program.memory_analysis().argument_size_in_bytes
    assert cost.state + cost.frozen + cost.batch <= counted <= 1.02 * (cost.state + cost.frozen + cost.batch)
    assert cost.memory == cost.state + cost.frozen + cost.batch + cost.temporaries


def test_temporaries_grow_with_the_samples_of_a_device(config, network):
    compiled = scaling.estimate(config, network, REPORT, *REPORT.mesh)
    assert compiled.temporaries == REPORT.memory.temporaries + REPORT.memory.program
    whole = scaling.estimate(config, network, REPORT, 1, 1)
    assert whole.temporaries / whole.samples == compiled.temporaries / compiled.samples


def ring(pieces, devices, rounds):
    """Bytes that a device sends that passes one piece on in each round."""
    return sum(pieces / devices for _ in range(rounds))


@pytest.mark.parametrize(("data", "fsdp"), [(1, 1), (8, 1), (1, 8), (2, 4), (4, 2)])
def test_traffic_is_what_rings_of_devices_pass_on(config, network, data, fsdp):
    cost = scaling.estimate(config, network, REPORT, data, fsdp)
    gathered, scattered, everywhere = (one.payload for one in COLLECTIVES)
    reduced = scattered + everywhere
    sent = ring(gathered, fsdp, fsdp - 1) + ring(reduced, fsdp, fsdp - 1)  # all-gather, reduce-scatter within a group
    sent += 2 * ring(reduced / fsdp, data, data - 1)  # all-reduce of what a device keeps, among the groups
    assert cost.sent == pytest.approx(sent)
    chip = scaling.CHIPS["v5e"]
    seconds = sent / chip.link / 2  # both ways around at once
    assert cost.communication_seconds(chip) == pytest.approx(seconds)


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
    with pytest.raises(InputError, match=r"other\.json: is not a report"):
        Report.load(tmp_path / "other.json")
    assert REPORT.memory.total == 1210


def test_abstract_batches_are_those_of_the_pipeline(dataset, network):
    mesh = make_mesh(2, 4)
    for stage in (1, 2):
        config = tiny_config(dataset, stage=stage)
        batches = make_batches(config, config.data.path, mesh)
        batch = next(batches)
        batches.close()
        batch.pop("names")
        described = abstract_batch(config, network.config, mesh)
        same = jax.tree.map(
            lambda a, b: (a.shape, a.dtype, a.sharding) == (b.shape, b.dtype, b.sharding),
            shard_batch(batch, mesh),
            described,
        )
        assert all(jax.tree.leaves(same)), same


def test_the_sharding_is_printed_before_anything_is_allocated(dataset, tmp_path, capsys, monkeypatch):
    def allocate(*_):
        raise InputError("now it would begin")

    monkeypatch.setattr(loop, "create_parameters", allocate)
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
    memory = dump.read_buffers(BUFFERS)
    assert memory == Memory(arguments=1300, outputs=1040, aliased=1000, temporaries=7520, program=0)
    assert memory.total == 1300 + 40 + 7520


@pytest.mark.parametrize("batch_size", [6, 8, 32])
def test_meshes_are_those_that_the_batch_spreads_over(batch_size):
    found = scaling.meshes((1, 2, 3, 8), batch_size)
    assert len(set(found)) == len(found)
    assert {data * fsdp for data, fsdp in found} == {n for n in (1, 2, 3, 8) if batch_size % n == 0}
    for data, fsdp in found:
        check_batch(make_mesh(data, fsdp, jax.devices()[: data * fsdp]), batch_size, 1)


def test_chips_are_those_of_the_documentation_and_of_the_throughput_meter():
    page = (ROOT / "docs/scaling.md").read_text()
    rows = re.findall(r"^\| (v\w+) \| (\d+) Gi?B \| (\d+) TFLOP/s \| .*: (\d+) GB/s \|", page, re.MULTILINE)
    documented = {
        name: (int(memory) * 2**30, float(peak) * 1e12, float(link) * 1e9) for name, memory, peak, link in rows
    }
    assert {name: dataclasses.astuple(chip) for name, chip in scaling.CHIPS.items()} == documented
    for name, chip in scaling.CHIPS.items():
        kinds = {flops for kind, flops in PEAK_TFLOPS if f"TPU {name}".startswith(kind)}
        assert chip.flops / 1e12 in kinds, name
