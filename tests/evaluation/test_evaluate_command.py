"""python -m champ_jax.evaluate from end to end."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from evaluation_weights import GOLDEN, published
from PIL import Image
from safetensors.numpy import save_file
from skimage.metrics import structural_similarity

from champ_jax.common import cli
from champ_jax.common.configs import load_config
from champ_jax.common.errors import InputError
from champ_jax.common.pictures import list_images, read_image, write_image
from champ_jax.common.ranges import numbers_without_rule
from champ_jax.evaluate import main
from champ_jax.evaluation import network_weights
from champ_jax.evaluation import published as published_tables
from champ_jax.evaluation.config import RULES, get_config
from champ_jax.evaluation.devices import LocalDevices
from champ_jax.evaluation.evaluator import Evaluator
from champ_jax.evaluation.frechet import Gaussian, frechet_distance
from champ_jax.evaluation.protocol import PROTOCOLS, metric_names
from champ_jax.evaluation.videos import find_videos, match_videos

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A converted folder that holds LPIPS with AlexNet alone."""
    folder = tmp_path_factory.mktemp("weights")
    save_file(network_weights.from_published("lpips_alex", published("lpips_alex")), folder / "lpips_alex.safetensors")
    return folder


@pytest.fixture
def videos(tmp_path):
    """Two videos of 4 and 3 recorded frames, predictions and ground truth."""
    for side, place in (("gen", "predictions"), ("gt", "ground_truth")):
        pictures = [read_image(path) for path in list_images(GOLDEN / "legacy" / side)]
        for name, order in (("first", [0, 1, 2, 3]), ("second", [2, 1, 0])):
            for number, index in enumerate(order, start=1):
                write_image(tmp_path / place / name / f"{number:04d}.png", pictures[index])
    return tmp_path


def arguments(folder, *more):
    return [
        f"--config.predictions={folder / 'predictions'}",
        f"--config.ground_truth={folder / 'ground_truth'}",
        f"--config.output={folder / 'out' / 'report.json'}",
        *more,
    ]


def run(folder, *more):
    main(arguments(folder, *more))
    return json.loads((folder / "out" / "report.json").read_text())


def test_report_without_most_weights(videos, converted, capsys):
    """What can be measured is; the rest is named with its reason."""
    found = run(videos, f"--config.weights={converted}", "--config.published=tiktok")
    assert found["protocol"] == "correct"
    assert [(video["name"], video["frames"]) for video in found["videos"]] == [("first", 4), ("second", 3)]
    measured = ["psnr", "psnr_legacy", "ssim", "ssim_legacy", "mae", "l1_legacy", "lpips_alex", "flicker"]
    assert list(found["metrics"]) == [*measured, "warping_error"]
    assert list(found["absent"]) == ["lpips_vgg", "fid", "fid_vid", "fvd"]
    assert "lacks i3d.safetensors" in found["absent"]["fvd"]
    sides = [[read_image(path) for path in list_images(GOLDEN / "legacy" / side)] for side in ("gt", "gen")]
    ssim = np.array([structural_similarity(a, b, channel_axis=-1) for a, b in zip(*sides)])
    assert found["videos"][1]["metrics"]["ssim"] == pytest.approx(ssim[:3].mean(), abs=1e-6)
    assert found["metrics"]["ssim"] == pytest.approx(ssim[[0, 1, 2, 3, 2, 1, 0]].mean(), abs=1e-6)
    recorded = json.loads((GOLDEN / "lpips.json").read_text())["alex"]["pairs"]
    lpips = np.mean([pair["input_0_1_normalize_true"]["total"] for pair in recorded])
    assert found["videos"][0]["metrics"]["lpips_alex"] == pytest.approx(lpips, rel=1e-5)
    low, high = found["confidence_intervals"]["psnr"]
    assert low <= found["metrics"]["psnr"] <= high
    text = (videos / "out" / "report.md").read_text()
    assert "![ground truth, prediction and their difference](report_worst.png)" in text
    assert "Others' figures" in text
    sheet = read_image(videos / "out" / "report_worst.png")
    assert sheet.shape[0] > 7 * 256
    out, err = capsys.readouterr()
    assert "ssim" in out
    assert "fvd" in err


def test_identical_predictions(videos):
    found = run(videos, f"--config.predictions={videos / 'ground_truth'}", "--config.metrics=psnr,ssim,mae,flicker")
    assert found["metrics"] == {"psnr": 100, "ssim": 1, "mae": 0, "flicker": 0}
    assert found["absent"] == {}


def test_other_sizes_are_resized_and_reported(videos):
    picture = videos / "predictions" / "second" / "0002.png"
    Image.open(picture).resize((40, 50)).save(picture)
    found = run(videos, "--config.metrics=ssim,psnr", "--config.worst_frames=0")
    assert found["resized"] == {"second": "prediction 40x50 -> 64x80"}
    assert not (videos / "out" / "report_worst.png").exists()
    tiktok = run(videos, "--config.metrics=ssim", "--config.protocol=tiktok")
    assert tiktok["protocol"] == "tiktok"
    assert "64x80 -> 256x256" in tiktok["resized"]["first"]
    assert tiktok["metrics"]["ssim"] != found["metrics"]["ssim"]


def test_one_frame(videos):
    for side in ("predictions", "ground_truth"):
        for path in list_images(videos / side / "first")[1:]:
            path.unlink()
    alone = [f"--config.{side}={videos / side / 'first'}" for side in ("predictions", "ground_truth")]
    found = run(videos, *alone, "--config.metrics=psnr,flicker,warping_error")
    assert list(found["metrics"]) == ["psnr"]
    assert set(found["absent"]) == {"flicker", "warping_error"}
    assert found["confidence_intervals"] == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--config.metrics=psnr,sim"], "sim: expected psnr, psnr_legacy"),
        (["--config.protocol=tictok"], "did you mean tiktok?"),
        (["--config.published=tik"], "did you mean tiktok?"),
        (["--config.missing=never"], "--config.missing=never: expected refuse or skip"),
        (["--config.lengths=any"], "--config.lengths=any: expected strict or shortest"),
        (["--config.output=report.txt"], "name a .json file"),
        (["--config.weights=nowhere"], "no such folder"),
        (["--config.resamples=1000000000"], "--config.resamples=1000000000: expected a whole number from 0 to 100,000"),
        (["--config.worst_frames=-1"], "--config.worst_frames=-1: expected"),
        (["--config.metrics=psnr,psnr"], "psnr appears twice"),
        (["--config.metrics=fvd,fid"], "none can be measured: fid: needs the weights of fid_inception"),
        (["--config.predictions="], "--config.predictions is not set"),
        (["--config.metrics=psnr", "--config.ground_truth=nowhere"], "--config.ground_truth=nowhere: no such"),
    ],
)
def test_bad_settings_are_one_line_and_status_2(videos, capsys, options, message):
    with pytest.raises(SystemExit) as exit_:
        cli.run(main, arguments(videos, *options))
    assert exit_.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert not (videos / "out").exists()


def test_frames_too_small_and_of_changing_size(videos):
    for side in ("predictions", "ground_truth"):
        write_image(videos / side / "second" / "0003.png", np.zeros((6, 9, 3), np.uint8))
    with pytest.raises(InputError, match=r"ground_truth/second/0003.png: 9x6, the frames before are 64x80"):
        run(videos, "--config.metrics=psnr")
    for side in ("predictions", "ground_truth"):
        write_image(videos / side / "first" / "0001.png", np.zeros((6, 9, 3), np.uint8))
    with pytest.raises(InputError, match=r"first/0001.png: 9x6 is too small for ssim, which needs 7 pixels"):
        run(videos, "--config.metrics=ssim")


def evaluate_recorded(tmp_path, golden, network, names, metrics):
    """Measures the recorded videos `names` on one device."""
    for side, place in (("gen", "predictions"), ("gt", "ground_truth")):
        for name in names:
            for number, frame in enumerate(golden("inputs.npz")[f"{side}_{name}"], start=1):
                write_image(tmp_path / place / name / f"{number:04d}.png", frame)
    sides = [find_videos(tmp_path / place, place) for place in ("predictions", "ground_truth")]
    pairs, _ = match_videos(*sides, missing="refuse", lengths="strict")
    networks = {name: network(name) for name in ("fid_inception", "resnet3d", "i3d")}
    evaluator = Evaluator(metrics, networks, PROTOCOLS["correct"], LocalDevices(jax.devices()[:1]))
    results = evaluator.measure(pairs[0])
    for pair in pairs[1:]:
        results = results.merge(evaluator.measure(pair))
    return results


@pytest.mark.slow
def test_fvd_of_recorded_videos(tmp_path, golden, network):
    """Every 16-frame window of three videos of 18, 16 and 10 frames, as the published code cuts them."""
    results = evaluate_recorded(tmp_path, golden, network, ["v1", "v2", "v3"], ["fvd"])
    outputs = golden("outputs.npz")
    expected = [Gaussian.from_features(outputs[f"fvd_frames_{side}"]) for side in ("gen", "gt")]
    for found, recorded in zip(results.sets["fvd"], expected):
        assert found.count == recorded.count == 4
        assert np.abs(found.mean - recorded.mean).max() < 1e-4 * outputs["fvd_frames_gt"].std()
    assert results.distance("fvd") == pytest.approx(frechet_distance(*expected), rel=1e-4)
    assert "v3: 10 frames are fewer than the 16 of a clip" in results.remarks[0]


@pytest.mark.slow
def test_two_hosts_give_the_same_report_as_one(videos, converted):
    single = run(videos, f"--config.weights={converted}")
    program = (
        "import sys, jax\n"
        "jax.distributed.initialize('localhost:' + sys.argv[1], 2, int(sys.argv[2]))\n"
        "from champ_jax.evaluate import main\n"
        "main(sys.argv[3:])\n"
    )
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    command = [*arguments(videos, f"--config.weights={converted}"), f"--config.output={videos / 'two' / 'report.json'}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    hosts = [
        subprocess.Popen([sys.executable, "-c", program, port, str(rank), *command], env=environment) for rank in (0, 1)
    ]
    assert [host.wait(timeout=600) for host in hosts] == [0, 0]
    both = json.loads((videos / "two" / "report.json").read_text())
    assert both["metrics"] == pytest.approx(single["metrics"], rel=1e-6)
    assert both["videos"] == [
        video | {"metrics": pytest.approx(video["metrics"], rel=1e-6)} for video in single["videos"]
    ]
    assert {key: both[key] for key in ("absent", "resized", "remarks")} == {
        key: single[key] for key in ("absent", "resized", "remarks")
    }


def test_every_number_has_a_range():
    assert numbers_without_rule(get_config(), RULES) == []


def test_resolved_configs_are_the_golden_ones():
    """A change of a default shows in review; if it is meant, write the new values into the file."""
    names = ["evaluate", *(f"tables/table{number}" for number in (1, 2, 3, 4))]
    configs = {name: load_config(str(ROOT / "configs" / f"{name}.py"), get_config).to_dict() for name in names}
    golden = json.loads((Path(__file__).parent / "golden_configs.json").read_text())
    assert json.loads(json.dumps(configs)) == golden


def test_the_papers_tables_are_measured_in_their_columns():
    """Each table's config asks for exactly the columns that are printed next to it."""
    for number, name in ((1, "tiktok"), (2, "unseen"), (3, "guidance"), (4, "attention")):
        config = load_config(str(ROOT / "configs" / "tables" / f"table{number}.py"), get_config)
        table = published_tables.TABLES[config.published]
        assert config.published == name
        assert metric_names(config.metrics, ()) == metric_names(table.columns, ())
        assert config.protocol == "tiktok"
    default = load_config(str(ROOT / "configs" / "evaluate.py"), get_config)
    assert default == get_config()
