"""LoRA files in every naming, fused as PEFT and diffusers fuse them; what is wrong with one is named."""

import dataclasses
import json

import golden_weights
import numpy as np
import peft
import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file

from champ_jax.common.errors import InputError
from champ_jax.weights.lora import parse_lora, with_lora
from champ_jax.weights.names import files_of, flatten, unflatten
from champ_jax.weights.opening import open_weights

BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"
# Modules of every kind, and where LDM's numbering has them.
MODULES = {
    f"{BLOCK}.attn1.to_q": "input_blocks_4_1_transformer_blocks_0_attn1_to_q",
    f"{BLOCK}.attn1.to_out.0": "input_blocks_4_1_transformer_blocks_0_attn1_to_out_0",
    f"{BLOCK}.attn2.to_k": "input_blocks_4_1_transformer_blocks_0_attn2_to_k",
    f"{BLOCK}.ff.net.0.proj": "input_blocks_4_1_transformer_blocks_0_ff_net_0_proj",
    f"{BLOCK}.ff.net.2": "input_blocks_4_1_transformer_blocks_0_ff_net_2",
    "down_blocks.1.attentions.0.proj_in": "input_blocks_4_1_proj_in",
    "mid_block.attentions.0.proj_out": "middle_block_1_proj_out",
    "up_blocks.3.attentions.2.transformer_blocks.0.attn1.to_v": "output_blocks_11_1_transformer_blocks_0_attn1_to_v",
}
CONVOLUTIONS = {
    "conv_in": "input_blocks_0_0",
    "conv_out": "out_2",
    "time_embedding.linear_1": "time_embed_0",
    "down_blocks.0.downsamplers.0.conv": "input_blocks_3_0_op",
    "up_blocks.0.upsamplers.0.conv": "output_blocks_2_1_conv",
    "up_blocks.1.upsamplers.0.conv": "output_blocks_5_2_conv",
    "down_blocks.2.resnets.0.conv1": "input_blocks_7_0_in_layers_2",
    "up_blocks.2.resnets.1.conv2": "output_blocks_7_0_out_layers_3",
    "down_blocks.2.resnets.0.conv_shortcut": "input_blocks_7_0_skip_connection",
    "mid_block.resnets.1.time_emb_proj": "middle_block_2_emb_layers_1",
}
MOTION = "up_blocks.0.motion_modules.1.temporal_transformer.transformer_blocks.0.attention_blocks"


@pytest.fixture(scope="module")
def weights(golden_checkpoint):
    """The golden weights, read once."""
    opened = open_weights(golden_checkpoint)
    trees = opened.load(["reference_unet", "denoising_unet"])
    return dataclasses.replace(opened, _read=lambda names: {name: unflatten(flatten(trees[name])) for name in names})


@pytest.fixture(scope="module")
def state():
    """{key: tensor} of the denoiser, float32."""
    stems = ("denoising_unet", "motion_module")
    return {key: torch.from_numpy(x).float() for stem in stems for key, x in golden_weights.state_dict(stem).items()}


@pytest.fixture
def unet():
    """diffusers' UNet with the denoiser's weights."""
    unet = UNet2DConditionModel.from_config(golden_weights.configs()["unet"])
    unet.load_state_dict({key: torch.from_numpy(x) for key, x in golden_weights.state_dict("denoising_unet").items()})
    return unet.float()


def random_pairs(state, modules, *, rank=3, alpha=None):
    """{module: (down, up, alpha)}; the last ones have another rank."""
    draw, pairs = np.random.default_rng(5), {}
    for number, module in enumerate(modules):
        shape, own = state[f"{module}.weight"].shape, rank + number % 2
        down = draw.standard_normal((own, *shape[1:])).astype(np.float32)
        up = draw.standard_normal((shape[0], own, *[1] * (len(shape) - 2))).astype(np.float32)
        pairs[module] = torch.from_numpy(down), torch.from_numpy(up), alpha
    return pairs


def kohya(pairs, names):
    """A file's tensors in kohya's naming; `names` gives each module's."""
    file = {}
    for module, (down, up, alpha) in pairs.items():
        name = f"lora_unet_{names[module]}"
        file |= {f"{name}.lora_down.weight": down, f"{name}.lora_up.weight": up}
        file |= {} if alpha is None else {f"{name}.alpha": torch.tensor(alpha)}
    return file


def dotted(pairs, form):
    """A file's tensors whose keys are `form(module, 'down' or 'up')`."""
    ends = ("down", "up")
    return {form(module, end): factor for module, pair in pairs.items() for end, factor in zip(ends, pair)}


def processors(module, end):
    """diffusers' naming of attention processors."""
    place, _, layer = module.removesuffix(".0").rpartition(".")
    return f"unet.{place}.processor.{layer}_lora.{end}.weight"


def write(path, tensors):
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path)
    return path


def expected(state, pairs, scale=1.0):
    """{key: tensor} by the definition, with torch."""
    fused = dict(state)
    for module, (down, up, alpha) in pairs.items():
        product = (up.double().flatten(1) @ down.double().flatten(1)).reshape(state[f"{module}.weight"].shape)
        factor = scale * (1.0 if alpha is None else alpha / len(down))
        fused[f"{module}.weight"] = state[f"{module}.weight"] + (factor * product).float()
    return fused


def fused(weights, text, component="denoising_unet"):
    """{key: array} of a component with the LoRA files of `text` added, as PyTorch names and holds it."""
    tree = with_lora(weights, text)[0].load([component])[component]
    leaves = dict(flatten(tree))
    return {
        key: name.to_torch(leaves[name.path])
        for names in files_of(component, tree).values()
        for key, name in names.items()
    }


def assert_same(ours, theirs, changed):
    """Exactly `changed` modules differ from the weights, and all tensors agree to 1e-6 of the largest."""
    for key, tensor in theirs.items():
        tensor = tensor.detach().numpy()
        if key.removesuffix(".weight") in changed:
            assert np.abs(ours[key] - tensor).max() <= 1e-6 * np.abs(tensor).max(), key
        else:
            assert np.array_equal(ours[key], tensor), key


def by_diffusers(unet, path, scale):
    """{key: tensor} of diffusers' UNet after it has loaded and fused a file."""
    loaded, alphas = StableDiffusionPipeline.lora_state_dict(path, unet_config=unet.config)
    StableDiffusionPipeline.load_lora_into_unet(loaded, alphas, unet)
    unet.fuse_lora(lora_scale=scale)
    return {key.replace(".base_layer", ""): x for key, x in unet.state_dict().items() if ".lora_" not in key}


@pytest.mark.parametrize("alpha", [None, 2.0])
@pytest.mark.parametrize("numbering", ["diffusers", "ldm"])
def test_kohyas_names_fuse_as_in_diffusers(weights, state, unet, tmp_path, numbering, alpha):
    names = MODULES if numbering == "ldm" else {module: module.replace(".", "_") for module in MODULES}
    pairs = random_pairs(state, MODULES, alpha=alpha)
    path = write(tmp_path / "lora.safetensors", kohya(pairs, names))
    assert_same(fused(weights, f"{path}:0.7"), by_diffusers(unet, path, 0.7), MODULES)


@pytest.mark.parametrize("numbering", ["diffusers", "ldm"])
def test_kohyas_convolutions(weights, state, tmp_path, numbering):
    """By the definition: diffusers reads only some of these names."""
    names = CONVOLUTIONS if numbering == "ldm" else {module: module.replace(".", "_") for module in CONVOLUTIONS}
    pairs = random_pairs(state, CONVOLUTIONS, alpha=1.5)
    path = write(tmp_path / "lora.safetensors", kohya(pairs, names))
    assert_same(fused(weights, f"{path}:0.7"), expected(state, pairs, 0.7), CONVOLUTIONS)


def test_linear_factors_for_a_1x1_convolution(weights, state, tmp_path):
    module = "down_blocks.1.attentions.0.proj_in"
    pairs = random_pairs(state, [module])
    flat = {module: (*(factor.flatten(1) for factor in pairs[module][:2]), None)}
    path = write(tmp_path / "lora.safetensors", kohya(flat, {module: module.replace(".", "_")}))
    assert_same(fused(weights, str(path)), expected(state, pairs), [module])


@pytest.mark.parametrize(
    "form", [processors, lambda module, end: f"unet.{module}.lora.{end}.weight"], ids=["processors", "lora"]
)
def test_diffusers_names_fuse_as_in_diffusers(weights, state, unet, tmp_path, form):
    modules = [module for module in MODULES if ".attn" in module]
    path = write(tmp_path / "lora.safetensors", dotted(random_pairs(state, modules), form))
    assert_same(fused(weights, f"{path}:-0.4"), by_diffusers(unet, path, -0.4), modules)


@pytest.mark.parametrize(
    ("prefix", "adapter"),
    [("", ""), ("unet.", ".default"), ("base_model.model.", ""), ("base_model.model.unet.", ".default")],
)
def test_pefts_names(weights, state, tmp_path, prefix, adapter):
    modules = MODULES | CONVOLUTIONS
    pairs = random_pairs(state, modules)
    letters = {"down": "A", "up": "B"}
    file = dotted(pairs, lambda module, end: f"{prefix}{module}.lora_{letters[end]}{adapter}.weight")
    path = write(tmp_path / "lora.safetensors", file)
    assert_same(fused(weights, str(path)), expected(state, pairs), modules)


@pytest.mark.parametrize("rslora", [False, True])
def test_a_folder_of_peft_fuses_as_in_peft(weights, unet, tmp_path, rslora):
    modules = [*MODULES, *CONVOLUTIONS]
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        use_rslora=rslora,
        target_modules=modules,
        init_lora_weights=False,
        rank_pattern={"conv_in": 2},
        alpha_pattern={"attn1.to_q": 1.0, "conv_in": 3.0},
    )
    torch.manual_seed(1)
    adapted = peft.get_peft_model(unet, config)
    adapted.save_pretrained(tmp_path / "adapter")
    theirs = adapted.merge_and_unload().state_dict()
    for path in (tmp_path / "adapter", tmp_path / "adapter" / "adapter_model.safetensors"):
        assert_same(fused(weights, str(path)), theirs, modules)


def test_what_diffusers_saves_fuses_as_in_diffusers(weights, unet, tmp_path):
    config = peft.LoraConfig(r=4, lora_alpha=10, target_modules=["to_q", "to_out.0"], init_lora_weights=False)
    torch.manual_seed(2)
    unet.add_adapter(config)
    layers = peft.get_peft_model_state_dict(unet)
    StableDiffusionPipeline.save_lora_weights(
        tmp_path, unet_lora_layers=layers, unet_lora_adapter_metadata=config.to_dict()
    )
    unet.fuse_lora()
    theirs = {key.replace(".base_layer", ""): x for key, x in unet.state_dict().items() if ".lora_" not in key}
    changed = [key for key in theirs if key.endswith(("to_q.weight", "to_out.0.weight"))]
    path = tmp_path / "pytorch_lora_weights.safetensors"
    assert_same(fused(weights, str(path)), theirs, [key.removesuffix(".weight") for key in changed])


def test_animatediffs_motion_loras(weights, state, tmp_path):
    """The published files: a pickle around a state_dict, no alpha; and diffusers' names for the same modules."""
    modules = [f"{MOTION}.{number}.{layer}" for number in (0, 1) for layer in ("to_q", "to_k", "to_v", "to_out.0")]
    pairs = random_pairs(state, modules)
    theirs = expected(state, pairs, 0.6)
    original = {key.removeprefix("unet."): x for key, x in dotted(pairs, processors).items()}
    torch.save({"epoch": 3, "global_step": 5, "state_dict": original}, tmp_path / "zoom_in.ckpt")
    renamed = {
        f"unet.{key}".replace(".temporal_transformer", "")
        .replace("attention_blocks.0", "attn1")
        .replace("attention_blocks.1", "attn2"): x
        for key, x in original.items()
    }
    for path in (tmp_path / "zoom_in.ckpt", write(tmp_path / "zoom_in.safetensors", renamed)):
        assert_same(fused(weights, f"{path}:0.6"), theirs, modules)


def test_several_files_each_for_its_network(weights, state, tmp_path):
    first, second = (random_pairs(state, [module]) for module in list(MODULES)[:2])
    paths = [
        write(tmp_path / f"{number}.safetensors", dotted(pairs, processors))
        for number, pairs in enumerate((first, second))
    ]
    text = f"{paths[0]}:0.5, {paths[1]}, reference:{paths[0]}:2"
    assert_same(fused(weights, text), expected(expected(state, first, 0.5), second), [*first, *second])
    reference = {key: torch.from_numpy(x).float() for key, x in golden_weights.state_dict("reference_unet").items()}
    assert_same(fused(weights, text, "reference_unet"), expected(reference, first, 2.0), first)


def test_the_text_encoders_part_is_passed_over(weights, state, tmp_path):
    pairs = random_pairs(state, list(MODULES)[:1])
    text = {
        "lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": torch.ones(2, 4),
        "lora_te_text_model_encoder_layers_0_mlp_fc1.dora_scale": torch.ones(2),
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(2, 4),
    }
    path = write(tmp_path / "lora.safetensors", dotted(pairs, processors) | text)
    assert_same(fused(weights, str(path)), expected(state, pairs), pairs)
    assert "3 tensors passed over (text encoder)" in with_lora(weights, str(path))[1][0]
    alone = write(tmp_path / "text.safetensors", text)
    with pytest.raises(InputError, match=r"text\.safetensors: holds no LoRA but for the text encoder"):
        with_lora(weights, str(alone))


def test_identity_and_inputs_name_the_files(weights, state, tmp_path):
    """A record tells runs with other files, scales and networks apart, and an output never replaces a LoRA."""
    pairs = random_pairs(state, list(MODULES)[:1])
    path = write(tmp_path / "lora.safetensors", dotted(pairs, processors))
    other = write(
        tmp_path / "other.safetensors", dotted({k: (2 * a, b, c) for k, (a, b, c) in pairs.items()}, processors)
    )
    texts = ["", str(path), f"{path}:0.5", f"reference:{path}", str(other), f"{path},{path}"]
    assert len({with_lora(weights, text)[0].identity for text in texts}) == len(texts)
    assert path in with_lora(weights, str(path))[0].files
    assert path not in weights.files


def test_the_weights_themselves_stay(weights, state, tmp_path):
    path = write(tmp_path / "lora.safetensors", dotted(random_pairs(state, list(MODULES)[:1]), processors))
    with_lora(weights, str(path))[0].load(["denoising_unet"])
    assert_same(fused(weights, ""), state, [])


Q = f"{BLOCK}.attn1.to_q"
LORA = f"lora_unet_{Q.replace('.', '_')}"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({f"{LORA}.lora_down.weight": (2, 32)}, "to_q.lora_down.weight has no up factor beside it"),
        ({f"{LORA}.lora_up.weight": (32, 2)}, "to_q.lora_up.weight has no down factor"),
        ({f"{LORA}.alpha": ()}, "to_q.alpha has no down factor"),
        (
            {f"{LORA}.lora_down.weight": (2, 640), f"{LORA}.lora_up.weight": (640, 2)},
            rf"{LORA}.lora_down.weight is \(2, 640\) and {LORA}.lora_up.weight is \(640, 2\), which do not make the "
            rf"\(32, 32\) of {Q}.weight",
        ),
        ({f"{LORA}.lora_down.weight": (2, 32), f"{LORA}.lora_up.weight": (32, 3)}, "which do not make"),
        ({f"{LORA}.lora_down.weight": (0, 32), f"{LORA}.lora_up.weight": (32, 0)}, "which do not make"),
        ({f"{LORA}.dora_scale": (32, 1)}, "dora_scale is DoRA's"),
        ({f"{Q}.lora_magnitude_vector.weight": (32,)}, "lora_magnitude_vector.weight is DoRA's"),
        ({f"{LORA}.hada_w1_a": (32, 2)}, "hada_w1_a: in no known naming"),
        ({f"{LORA}.lora_mid.weight": (2, 2, 3, 3)}, "lora_mid.weight: in no known naming"),
        ({"lora_unet_single_blocks_0_linear1.lora_down.weight": (2, 2)}, "linear1.lora_down.weight: in no known"),
        ({f"{Q}.weight": (32, 32)}, "to_q.weight: in no known naming"),
        (
            {f"{LORA}.lora_down.weight": (2, 32), f"{Q}.lora_A.weight": (2, 32)},
            f"{Q}.lora_A.weight and {LORA}.lora_down.weight are two tensors for {Q}",
        ),
        (
            {f"{LORA}.lora_down.weight": (2, 32), f"{LORA}.lora_up.weight": (32, 2), f"{LORA}.alpha": (2,)},
            r"alpha is \(2,\), an alpha is one number",
        ),
    ],
)
def test_what_is_wrong_is_named(weights, tmp_path, tensors, message):
    path = write(tmp_path / "lora.safetensors", {key: torch.ones(shape) for key, shape in tensors.items()})
    with pytest.raises(InputError, match=f"lora.safetensors: .*{message}"):
        with_lora(weights, str(path))


def test_numbers_that_are_not_finite_are_named(weights, tmp_path):
    tensors = {f"{LORA}.lora_down.weight": torch.full((2, 32), torch.nan), f"{LORA}.lora_up.weight": torch.ones(32, 2)}
    path = write(tmp_path / "lora.safetensors", tensors)
    with pytest.raises(InputError, match=r"lora.safetensors: .*lora_up.weight @ .* holds NaN"):
        with_lora(weights, str(path))[0].load(["denoising_unet"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("[]", "is not an object"),
        ({"peft_type": "LOHA"}, "peft_type=LOHA"),
        ({"use_dora": True}, "use_dora"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights=pissa_niter_4"),
        ({"lora_alpha": "x"}, "lora_alpha=x"),
        ({"alpha_pattern": {"to_q": float("nan")}}, "alpha_pattern.to_q=nan"),
        ({"alpha_pattern": 3}, "alpha_pattern is not an object"),
    ],
)
def test_pefts_settings_that_cannot_be_followed(weights, tmp_path, settings, message):
    text = settings if isinstance(settings, str) else json.dumps(settings)
    (tmp_path / "adapter_config.json").write_text(text)
    write(tmp_path / "adapter_model.safetensors", {f"{Q}.lora_A.weight": torch.ones(2, 32)})
    with pytest.raises(InputError, match=f"adapter_config.json: {message}"):
        with_lora(weights, str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (",", "lora=: names no file"),
        ("a.safetensors:much", "much is not a scale"),
        ("a.safetensors:nan", "scale=nan"),
        ("reference::1", "names no file"),
        ("a.safetensors:1e9", "scale=1000000000.0: expected a number from -100 to 100"),
    ],
)
def test_items_that_are_none(text, message):
    with pytest.raises(InputError, match=message):
        parse_lora(text)


def test_items():
    items = parse_lora("a.safetensors, b:0.5,reference:c.ckpt:-1")
    assert [(str(item.path), item.component, item.scale) for item in items] == [
        ("a.safetensors", "denoising_unet", 1.0),
        ("b", "denoising_unet", 0.5),
        ("c.ckpt", "reference_unet", -1.0),
    ]
