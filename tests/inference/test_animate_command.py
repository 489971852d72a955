"""python -m champ_jax.animate: the reference's videos, records that repeat a run, job files, and every bad input."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hosts import finish, start_hosts
from PIL import Image

from champ_jax import animate
from champ_jax.common.errors import InputError
from champ_jax.common.pictures import read_image
from champ_jax.common.videos import read_video, video_fps
from champ_jax.evaluation.frames import pairwise
from champ_jax.inference import batch, builtin
from champ_jax.inference.pipeline import ChampPipeline

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "model"
PICTURES = GOLDEN / "pictures"
CASES = {"30f_128_cfg3.5": None, "8f_128_cfg3.5": "0:8", "8f_128_nocfg": "0:8"}


def golden(case):
    return np.load(GOLDEN / f"f_pipeline_{case}.npz")


def channels_last(array):
    """(1, C, F, H, W) -> (F, H, W, C)."""
    return array[0].transpose(1, 2, 3, 0)


@pytest.fixture(scope="module")
def common(golden_checkpoint):
    """What every run of the golden model has in common."""
    return [
        f"--config.weights={golden_checkpoint}",
        "--config.devices=1",
        "--config.dtype=float32",
        "--config.width=128",
        "--config.height=128",
        "--config.steps=4",
        "--config.windows.scheme=closed_loop",
        "--config.fit=none",  # as the reference does
        "--config.quiet",
    ]


@pytest.fixture(scope="module")
def inputs():
    return [f"--config.reference={PICTURES / 'ref.png'}", f"--config.motion={PICTURES / 'motion'}"]


def golden_jobs(folder):
    """The reference's three runs as jobs that write into `folder`."""
    jobs = []
    for case, frames in CASES.items():
        np.save(folder / f"{case}_noise.npy", channels_last(golden(case)["noise"]))
        job = {
            "output": str(folder / f"{case}.mp4"),
            "guidance_scale": float(golden(case)["guidance_scale"]),
            "noise": str(folder / f"{case}_noise.npy"),
            "latents_output": str(folder / f"{case}.npy"),
            "frames_output": str(folder / case),
        }
        jobs.append(job | ({"frames": frames} if frames else {}))
    return jobs


@pytest.fixture(scope="module")
def finished(tmp_path_factory, common, inputs):
    """The reference's three runs as one job file, with a bad job among them; (folder, arguments, status)."""
    folder = tmp_path_factory.mktemp("animate")
    jobs = [{"output": str(folder / "bad.mp4"), "frames": "0:100"}, *golden_jobs(folder)]
    (folder / "jobs.jsonl").write_text("\n".join(json.dumps(job) for job in jobs) + "\n\nnot json\n")
    arguments = [*common, *inputs, f"--config.jobs={folder / 'jobs.jsonl'}"]
    return folder, arguments, animate.main(arguments)


@pytest.mark.parametrize("case", CASES)
def test_the_references_runs_are_repeated_exactly(finished, case):
    folder, _, _ = finished
    latents, expected = np.load(folder / f"{case}.npy"), channels_last(golden(case)["final_latents"])
    assert np.linalg.norm(latents - expected) <= 1e-4 * np.linalg.norm(expected)
    frames = np.stack([read_image(path) for path in sorted((folder / case).iterdir())])
    assert len(frames) == len(expected)
    video = 255 * channels_last(golden(case)["video"]).astype(np.float32)
    assert np.abs(frames[:: int(golden(case)["video_stride"])] - video).mean() <= 0.5


@pytest.mark.slow
def test_bfloat16_stays_near_the_reference(common, inputs, tmp_path):
    """The figures in docs/animate.md (-s prints them): relative error of final latents, levels of frames."""
    jobs = golden_jobs(tmp_path)
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)))
    arguments = [*common, *inputs, f"--config.jobs={tmp_path / 'jobs.jsonl'}", "--config.dtype=bfloat16"]
    assert animate.main(arguments) == 0
    for case in CASES:
        latents, expected = np.load(tmp_path / f"{case}.npy"), channels_last(golden(case)["final_latents"])
        error = np.linalg.norm(latents - expected) / np.linalg.norm(expected)
        frames = np.stack([read_image(path) for path in sorted((tmp_path / case).iterdir())])
        video = 255 * channels_last(golden(case)["video"]).astype(np.float32)
        levels = np.abs(frames[:: int(golden(case)["video_stride"])] - video).mean()
        print(f"{case}: latents {error:.2e}, frames {levels:.2f} levels")
        assert error <= 0.03
        assert levels <= 3


def test_videos_have_the_motions_length_and_rate(finished):
    folder, _, _ = finished
    frames = list(read_video(folder / "8f_128_cfg3.5.mp4"))
    assert len(frames) == 8
    assert frames[0].shape == (128, 128, 3)
    assert video_fps(folder / "8f_128_cfg3.5.mp4") == 24
    beside = next(read_video(folder / "8f_128_cfg3.5_comparison.mp4"))
    assert beside.shape == (128, 6 * 128, 3)  # picture, four conditions, result


def test_failing_jobs_are_reported_and_do_not_stop_the_rest(finished, capfd, monkeypatch):
    """Done jobs are skipped: the second run loads no weights and compiles nothing."""
    folder, arguments, status = finished
    assert status == 2
    assert not (folder / "bad.mp4").exists()
    monkeypatch.setattr(ChampPipeline, "from_weights", None)
    stamp = (folder / "8f_128_nocfg.mp4").stat().st_mtime_ns
    assert animate.main(arguments) == 2
    errors = capfd.readouterr().err
    assert "job 1: error: frames=0:100" in errors
    assert "job 6: error:" in errors
    assert "is not JSON" in errors
    assert "0 done, 3 skipped, 2 failed" in errors
    assert (folder / "8f_128_nocfg.mp4").stat().st_mtime_ns == stamp


def test_a_job_may_set_fields_that_have_no_default():
    config = animate.get_config()
    job = batch.job_config(config, 1, {"output": "a.mp4", "height": 128, "fps": 12.5, "windows.batch": 2})
    assert (job.height, job.fps, job.windows.batch) == (128, 12.5, 2)
    assert (config.height, config.fps, config.windows.batch) == (None, None, 1)


def test_a_record_repeats_the_run_bit_for_bit(finished, tmp_path):
    folder, _, _ = finished
    record = json.loads((folder / "8f_128_nocfg.json").read_text())
    assert record["seed"] == 42
    assert record["config"]["windows"]["scheme"] == "closed_loop"
    assert {"jax", "flax"} <= set(record["versions"])
    assert len(record["checkpoint"]) >= 64
    again = [f"--config.output={tmp_path / 'again.mp4'}", f"--config.latents_output={tmp_path / 'again.npy'}"]
    arguments = [f"--config={folder / '8f_128_nocfg.json'}", "--config.frames_output=", "--config.quiet", *again]
    assert animate.main([*arguments, "--config.profile.steps=2:3"]) == 0
    assert list((tmp_path / "again_profile").rglob("*.xplane.pb"))
    assert (tmp_path / "again.npy").read_bytes() == (folder / "8f_128_nocfg.npy").read_bytes()
    assert (tmp_path / "again.mp4").read_bytes() == (folder / "8f_128_nocfg.mp4").read_bytes()


@pytest.mark.slow
def test_a_lora_changes_the_run_and_its_record_repeats(finished, common, inputs, tmp_path):
    folder, _, _ = finished
    up, down = np.full((32, 1, 1, 1), 0.1, np.float32), np.full((1, 4, 3, 3), 0.1, np.float32)
    tensors = {"lora_unet_conv_in.lora_up.weight": up, "lora_unet_conv_in.lora_down.weight": down}
    safetensors.numpy.save_file(tensors, tmp_path / "lora.safetensors")
    job = next(job for job in golden_jobs(tmp_path) if job["output"].endswith("8f_128_nocfg.mp4"))
    fields = [f"--config.{name}={value}" for name, value in job.items()]
    assert animate.main([*common, *inputs, *fields, f"--config.lora={tmp_path}/lora.safetensors:0.5"]) == 0
    plain = np.load(folder / "8f_128_nocfg.npy")
    latents = tmp_path / "8f_128_nocfg.npy"
    assert np.abs(np.load(latents) - plain).max() > 1e-3
    record = json.loads(latents.with_suffix(".json").read_text())
    assert record["config"]["lora"] == f"{tmp_path}/lora.safetensors:0.5"
    assert record["checkpoint"] != json.loads((folder / "8f_128_nocfg.json").read_text())["checkpoint"]
    again = [f"--config.output={tmp_path / 'again.mp4'}", f"--config.latents_output={tmp_path / 'again.npy'}"]
    assert animate.main([f"--config={latents.with_suffix('.json')}", "--config.frames_output=", *again]) == 0
    assert (tmp_path / "again.npy").read_bytes() == latents.read_bytes()


@pytest.fixture
def no_compile(monkeypatch):
    """Fails the test if a bad input gets as far as loading or compiling."""

    def reached(*arguments, **options):
        raise AssertionError("got past the checks")

    monkeypatch.setattr(ChampPipeline, "compile", reached)
    monkeypatch.setattr(ChampPipeline, "__init__", reached)


@pytest.mark.usefixtures("no_compile")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config.reference=no.png"], "no.png: no such file"),
        ([f"--config.reference={__file__}"], "is text; PNG, JPEG"),
        (["--config.motion=no_folder"], "no_folder: no such"),
        (["--config.motion=no.npz"], "no.npz: no such file"),
        (["--config.motion=dance.mp4"], "is a video"),
        (["--config.frames=0:31"], "frames=0:31: .* has 30 frames"),
        (["--config.conditions=depth,pose"], "conditions=depth,pose: pose: expected depth, normal"),
        (["--config.weights=no_weights"], "no such checkpoint"),
        ([f"--config.weights={PICTURES}"], "is not a checkpoint"),
        (["--config.noise=no.npy"], "no.npy: no such file"),
        ([f"--config.noise={PICTURES / 'ref.png'}"], "ref.png: is a PNG"),
        (["--config.steps=1001"], "steps=1001: expected a whole number from 1 to 1,000"),
        (["--config.sampler=heun"], "sampler=heun: expected ddim"),
        (["--config.dtype=float16"], "dtype=float16: expected auto"),
        (["--config.devices=99"], "devices=99"),
        (["--config.windows.scheme=closed"], "windows.scheme=closed: .*did you mean closed_loop"),
        (["--config.windows.overlap=24"], "windows.overlap=24"),
        (["--config.guidence_scale=3"], "did you mean guidance_scale"),
        (["--config.profile.steps=1:99999"], "profile.steps=1:99999: the run has"),
        (["--config.width=wide"], "not a value of type int"),
        (["--config.output=out.gif"], "must end in .mp4"),
        ([f"--config.frames_output={PICTURES}"], "frames_output=.*name another output"),
        (["--config.jobs=no.jsonl"], "no.jsonl: no such file"),
        (["--config=no.json"], "no.json: no such file"),
        ([f"--config={GOLDEN / 'configs.json'}"], "not the record of a run"),
    ],
)
def test_bad_inputs_are_one_clear_line_before_any_compile(common, inputs, tmp_path, arguments, message):
    output = f"--config.output={tmp_path / 'out.mp4'}"
    with pytest.raises(InputError, match=message):
        animate.main([*common, *inputs, output, *arguments])
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_architecture_is_refused(golden_checkpoint, common, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(ChampPipeline, "compile", None)
    shutil.copytree(golden_checkpoint, tmp_path / "other")
    config = json.loads((tmp_path / "other/config.json").read_text())
    config["model"]["unet"]["layers_per_block"] = 1
    (tmp_path / "other/config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="another architecture"):
        animate.main([*common, *inputs, f"--config.weights={tmp_path / 'other'}"])


def test_weights_that_were_never_trained_are_refused(golden_checkpoint, tmp_path):
    fields = json.loads((golden_checkpoint / "config.json").read_text())
    fields["untrained"] = {f"guidance_encoder_{name}": "initialized" for name in range(7)}
    (tmp_path / "config.json").write_text(json.dumps(fields))
    config = animate.get_config()
    config.weights = str(tmp_path)
    with pytest.raises(InputError, match=r"never trained as a Champ: guidance_encoder_0 .* and 2 more.*untrained=true"):
        batch.find_weights(config)
    config.untrained = True
    assert batch.find_weights(config).untrained


@pytest.mark.usefixtures("no_compile")
def test_a_full_disk_is_reported_first(common, inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 1000))
    with pytest.raises(InputError, match=r"need .* KiB, the disk has 1,000 bytes free"):
        animate.main([*common, *inputs, f"--config.output={tmp_path / 'out.mp4'}"])


@pytest.mark.usefixtures("no_compile")
def test_jobs_that_overwrite_each_other_or_set_shared_fields_fail(common, inputs, tmp_path, capfd):
    jobs = [{"weights": "x", "output": "a.mp4"}, {"steps": "many", "output": "b.mp4"}, {"seed": 1}]
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)))
    assert animate.main([*common, *inputs, f"--config.jobs={tmp_path / 'jobs.jsonl'}"]) == 2
    errors = capfd.readouterr().err
    assert "weights is the same for all jobs" in errors
    assert "steps=many: not a value of type int" in errors
    assert "line 3: names no output" in errors


@pytest.mark.usefixtures("no_compile")
def test_a_foreign_semantic_map_draws_a_warning(common, inputs, tmp_path):
    motion = tmp_path / "motion"
    shutil.copytree(PICTURES / "motion", motion)
    for path in (motion / "semantic_map").iterdir():
        Image.new("RGB", (96, 112), (68, 1, 84)).save(path)
    with pytest.warns(UserWarning, match=r"purple background.*DensePose"), pytest.raises(AssertionError, match="past"):
        animate.main([*common, *inputs, f"--config.motion={motion}", f"--config.output={tmp_path / 'out.mp4'}"])


def test_the_command_exits_with_2_and_one_line(tmp_path):
    command = [sys.executable, "-m", "champ_jax.animate", "--config.reference=no.png"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: no.png: no such file\n"


@pytest.mark.slow
def test_without_arguments_the_built_in_inputs_run(tmp_path):
    """The result is nearer to the truth than itself mirrored or shuffled, its first frame alone, or another motion."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    other = builtin.PEOPLE / "p00000_m00000" / "motion.npz"
    videos = []
    for arguments in ([], [f"--config.motion={other}", "--config.frames=0:24", "--config.output=other.mp4"]):
        command = [sys.executable, "-m", "champ_jax.animate", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "demonstration" in done.stderr
        path = "other.mp4" if arguments else "results/built-in/animation.mp4"
        videos.append(np.stack(list(read_video(tmp_path / path))))
    made, with_other_motion = videos
    true = np.stack(list(read_video(builtin.PEOPLE / builtin.PERSON / "truth.mp4")))[: len(made)]
    assert len(made) == 24

    def quality(video):
        return pairwise(true, video)["psnr"].mean()

    shuffled = made[np.random.default_rng(0).permutation(len(made))]
    still = np.broadcast_to(made[:1], made.shape)
    for worse, margin in ((made[:, :, ::-1], 2), (shuffled, 1), (still, 1), (with_other_motion, 4)):
        assert quality(made) > quality(worse) + margin
    assert (tmp_path / "results/built-in/animation_comparison.mp4").is_file()


@pytest.mark.slow
def test_jobs_are_split_among_processes(tmp_path):
    """Two hosts on one machine: each makes its own half of the jobs."""
    jobs = [{"output": str(tmp_path / f"{i}.mp4"), "seed": i, "steps": 1, "frames": "0:4"} for i in range(3)]
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, jobs)))
    command = [sys.executable, "-m", "champ_jax.animate", f"--config.jobs={tmp_path / 'jobs.jsonl'}"]
    outputs = finish(start_hosts(command, 2, 2))
    assert "jobs: 2 done" in outputs[0]
    assert "jobs: 1 done" in outputs[1]
    assert all((tmp_path / f"{i}.mp4").is_file() for i in range(3))
    for i in range(3):  # each on its own host's devices
        assert json.loads((tmp_path / f"{i}.json").read_text())["device"]["count"] == 2
