"""Training by LoRA: adapters alone are trained and stored, runs resume bit for bit, exports load back bit for bit."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import peft
import pytest
import torch
from diffusers import UNet2DConditionModel
from training_data import tiny_config, tiny_model
from training_runs import write_work_folder

from champ_jax.commands import export
from champ_jax.common.errors import InputError
from champ_jax.inference.pipeline import ChampPipeline
from champ_jax.models.champ import ChampConfig
from champ_jax.models.initial_values import initial_value
from champ_jax.training import loop
from champ_jax.training.config import check, default_config
from champ_jax.training.loop import train
from champ_jax.training.optimizer import make_optimizer
from champ_jax.training.parameters import Lora, Network
from champ_jax.training.sharding import make_mesh, parameter_shardings
from champ_jax.training.state import abstract_state
from champ_jax.weights.adapters import adapted_kernels, fuse
from champ_jax.weights.flat import from_components
from champ_jax.weights.lora import with_lora
from champ_jax.weights.opening import open_weights
from champ_jax.weights.work_folder import RunCheckpoint

MODEL = ChampConfig.from_json(tiny_model().to_dict())
TARGETS = ("attn1.to_q", "attn1.to_out", "resnets.0.conv1", "proj_in", "motion_modules", "reference:to_k")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """Weights to start from: a stage-2 work folder."""
    folder = tmp_path_factory.mktemp("base")
    write_work_folder(folder, 2)
    return folder


@pytest.fixture(scope="module")
def config(base, dataset):
    def make(**fields):
        lora = {"trainable": "lora", "lora__rank": 2, "lora__targets": TARGETS, "init": str(base)}
        return tiny_config(dataset, stage=2, validation__every=0, optimizer__learning_rate=1e-2, **lora | fields)

    return make


@pytest.fixture(scope="module")
def one_step():
    """One jitted step for every run: they differ in nothing that is compiled."""
    jitted = {}
    make = loop.jit_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "jit_step", lambda *args, **options: jitted.setdefault(0, make(*args, **options)))
        yield


@pytest.fixture(scope="module")
def finished(config, one_step, tmp_path_factory):
    """The work folder of an uninterrupted run."""
    workdir = tmp_path_factory.mktemp("finished")
    train(config(steps=4), workdir)
    return workdir


def arrays_of(path):
    return from_components(open_weights(path).load())


def same(ours, theirs):
    return set(ours) == set(theirs) and all(np.array_equal(ours[name], theirs[name]) for name in theirs)


@pytest.fixture(scope="module")
def before(base):
    return arrays_of(base)


@pytest.fixture(scope="module")
def after(finished):
    return arrays_of(finished)


def test_adapters_alone_are_trained_and_stored(finished, before, after):
    trained = RunCheckpoint.find(finished).trained()
    kernels = adapted_kernels(trained)
    assert len(trained) == 2 * len(kernels)
    assert {name.split(".")[0] for name in kernels} == {"denoising_unet", "reference_unet"}
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == set(kernels)


def test_the_optimizer_holds_moments_of_adapters_alone(network):
    optimizer = make_optimizer(default_config().optimizer, 4)
    state = abstract_state(network, optimizer, make_mesh(1, 1, jax.devices()[:1]), averaged=True)
    count = sum(np.prod(network.shapes[name].shape) for name in network.trainable)
    assert sum(leaf.size for leaf in jax.tree.leaves(state.opt_state)) <= 2 * count + 2
    assert set(state.average) == set(state.params) == set(network.trainable)


def test_a_run_in_two_parts_equals_one_in_one(finished, config, one_step, tmp_path, capsys):
    train(config(steps=2), tmp_path)
    train(config(steps=4), tmp_path)
    assert "resuming from step 2" in capsys.readouterr().out
    assert same(RunCheckpoint.find(tmp_path).trained(), RunCheckpoint.find(finished).trained())


@pytest.mark.parametrize(
    ("field", "value"), [("lora__rank", 3), ("lora__targets", ("attn1",)), ("trainable", "stage2")]
)
def test_another_adapter_does_not_continue_the_run(finished, config, field, value):
    name = field.replace("__", ".")
    with pytest.raises(InputError, match=f"{name}=.*: the run in .* was started with"):
        train(config(steps=6, **{field: value}), finished)


def test_the_work_folder_animates_and_starts_another_training(finished, after, config):
    pipeline = ChampPipeline.from_checkpoint(finished, dtype="float32", devices=jax.devices()[:1])
    assert pipeline.config.motion is not None
    arrays = loop.load_initial(config(init=str(finished), trainable="stage2")).arrays
    assert same(arrays, {name: array for name, array in after.items() if name in arrays})


@pytest.mark.parametrize(("naming", "file"), [("kohya", "{}.safetensors"), ("peft", "{}")])
def test_exports_load_back_bit_for_bit(finished, base, after, tmp_path, naming, file):
    export.main([f"--checkpoint={finished}", f"--output={tmp_path / 'out'}", f"--lora={naming}"])
    denoiser, reference = (tmp_path / "out" / file.format(name) for name in ("denoising_unet", "reference_unet"))
    weights, notes = with_lora(open_weights(base), f"{denoiser},reference:{reference}")
    assert notes == []
    assert same(from_components(weights.load()), after)


def test_peft_itself_loads_the_export(finished, before, after, tmp_path):
    export.main([f"--checkpoint={finished}", f"--output={tmp_path / 'out'}", "--lora=peft"])
    fields = MODEL.unet.to_json()
    unet = UNet2DConditionModel.from_config(fields).float()
    key = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.weight"
    kernel = "reference_unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_k.kernel"
    unet.load_state_dict({key: torch.from_numpy(before[kernel].T.copy())}, strict=False)
    theirs = peft.PeftModel.from_pretrained(unet, tmp_path / "out" / "reference_unet").merge_and_unload().state_dict()
    assert np.abs(after[kernel].T - theirs[key].numpy()).max() <= 1e-6
    assert np.abs(after[kernel] - before[kernel]).max() > 1e-4


def test_a_run_without_adapters_exports_none(base, tmp_path):
    with pytest.raises(InputError, match="trained no adapters"):
        export.main([f"--checkpoint={base}", f"--output={tmp_path / 'out'}", "--lora=kohya"])
    with pytest.raises(InputError, match="no work folder of a training by LoRA"):
        export.main([f"--checkpoint={tmp_path}", f"--output={tmp_path / 'out'}", "--lora=kohya"])


@pytest.fixture(scope="module")
def network():
    return Network.build(MODEL, "lora", lora=Lora(2, TARGETS))


def random_arrays(network):
    arrays = {name: initial_value(name, shape.shape, 0) for name, shape in network.shapes.items()}
    draw = np.random.default_rng(0)
    return arrays | {name: draw.standard_normal(network.shapes[name].shape, np.float32) for name in network.trainable}


def test_the_networks_see_what_loading_fuses(network):
    arrays = random_arrays(network)
    fused = fuse(arrays)
    champ = network.merge(arrays)
    block = champ.denoising_unet.down_blocks[0]
    for name, layer in (
        ("attentions.0.transformer_blocks.0.attn1.to_q", block.attentions[0].transformer_blocks[0].attn1.to_q),
        ("resnets.0.conv1", block.resnets[0].conv1),
        ("attentions.0.proj_in", block.attentions[0].proj_in),
    ):
        kernel = f"denoising_unet.down_blocks.0.{name}.kernel"
        np.testing.assert_allclose(layer.kernel.get_value(), fused[kernel], rtol=1e-5, atol=1e-5)
        assert np.abs(fused[kernel] - arrays[kernel]).max() > 0.1


def test_split_kernels_see_the_same(network):
    """Where parameters are split over devices, every device adds its piece."""
    mesh = make_mesh(1, 2, jax.devices()[:2])
    arrays = random_arrays(network)
    split = network.on(mesh)
    kernel = "denoising_unet.down_blocks.0.resnets.0.conv1.kernel"
    assert kernel in split.split
    with jax.set_mesh(mesh):
        placed = {name: jax.device_put(x, parameter_shardings({name: x}, mesh)[name]) for name, x in arrays.items()}
        read = jax.jit(lambda arrays: split.merge(arrays).denoising_unet.down_blocks[0].resnets[0].conv1.kernel[...])
        np.testing.assert_allclose(read(placed), fuse(arrays)[kernel], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("stage", "trained", "adapted"), [(1, 2_393_088, 71_536_640), (2, 7_226_368, 236_195_840)], ids=["stage1", "stage2"]
)
def test_the_counts_on_the_page(stage, trained, adapted):
    """What docs/training.md says of memory follows from these."""
    model = dataclasses.replace(ChampConfig(), motion=ChampConfig().motion if stage == 2 else None)
    network = Network.build(model, "lora", lora=Lora.of(default_config()))
    assert sum(np.prod(network.shapes[name].shape) for name in network.trainable) == trained
    assert sum(np.prod(network.shapes[name].shape) for name in network.adapters) == adapted


def test_an_adapter_begins_as_nothing(network):
    arrays = {name: initial_value(name, shape.shape, 0) for name, shape in network.shapes.items()}
    assert all(np.any(arrays[name]) == name.endswith(".lora_down") for name in network.trainable)
    fused = fuse(arrays)
    assert all(np.array_equal(fused[name], arrays[name]) for name in fused)


def test_targets_name_parts_of_layers_of_either_network():
    def kernels(*targets, model=MODEL):
        return set(Network.build(model, "lora", lora=Lora(1, targets)).adapters)

    assert all(".attn1.to_q." in name for name in kernels("attn1.to_q"))
    assert not any("reference" in name for name in kernels("to_q", "motion_modules"))
    finest = f"reference_unet.up_blocks.{MODEL.unet.levels - 1}."
    assert not any(name.startswith(finest) for name in kernels("reference:to_q"))
    without = dataclasses.replace(MODEL, motion=None)
    for target, model in (("q", MODEL), ("attn2.to_q", MODEL), ("motion_modules", without), ("reference:x", MODEL)):
        with pytest.raises(InputError, match=f"lora.targets={target}: names no layer"):
            kernels(target, model=model)


def test_gradients_reach_both_factors(network):
    """Down's gradient is 0 while up is, so one step moves up, and two move both."""
    arrays = {name: jnp.asarray(initial_value(name, shape.shape, 0)) for name, shape in network.shapes.items()}
    kernel = "denoising_unet.down_blocks.0.resnets.0.conv1.kernel"
    down, up = network.adapters[kernel]

    def loss(pair):
        champ = network.merge(arrays | dict(zip((down, up), pair)))
        return jnp.sum(champ.denoising_unet.down_blocks[0].resnets[0].conv1.kernel.get_value() ** 2)

    gradients = jax.grad(loss)((arrays[down], arrays[up]))
    assert not np.any(gradients[0])
    assert np.any(gradients[1])


def test_adapters_need_weights_to_be_added_to():
    config = default_config()
    config.trainable = "lora"
    with pytest.raises(InputError, match="trainable=lora: without init"):
        check(config)


@pytest.mark.slow
def test_stage_1_carries_motion_modules_along(base, dataset, before, tmp_path):
    lora = {"trainable": "lora", "lora__rank": 2, "init": str(base)}
    train(tiny_config(dataset, stage=1, steps=2, validation__every=0, optimizer__learning_rate=1e-2, **lora), tmp_path)
    trained = RunCheckpoint.find(tmp_path).trained()
    assert not any("motion_modules" in name for name in trained)
    after = arrays_of(tmp_path)
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == set(adapted_kernels(trained))
    assert any(".attn1.to_q." in name for name in changed)
