"""Broken environments, one by one: a package, a kernel, a codec, memory, disk, a folder."""

import shutil

import numpy as np
import pytest
from hostile.harness import _without_root_permissions

from champ_jax.doctor import __main__ as command
from champ_jax.doctor import devices, machine, media, packages
from champ_jax.doctor.findings import OK, PROBLEM, WARNING, Finding
from champ_jax.doctor.packages import Requirement, is_older, requirements
from champ_jax.doctor.probing import Attempt, attempts

FIRST = Attempt("x", "first", "y")


def run(probe, *arguments):
    return {item.name: item for item in attempts(probe, FIRST, *arguments) if isinstance(item, Finding)}


def by_name(findings):
    return {finding.name: finding for finding in findings}


def test_everything_that_is_asked_for_is_here():
    found = by_name(packages.check_packages())
    assert {"Python", "champ_jax", "jax", "av", "extra train"} <= set(found)
    assert {finding.level for name, finding in found.items() if not name.startswith("extra ")} == {OK}
    assert not any(finding.needed for finding in found.values())


@pytest.mark.parametrize(
    ("versions", "name", "level", "words", "remedy"),
    [
        ({"av": None}, "av", PROBLEM, "not installed (needs 13)", "pip install 'av>=13'"),
        ({"jax": "0.9.2"}, "jax", PROBLEM, "0.9.2 is too old (needs 0.10)", "pip install 'jax>=0.10'"),
        ({"jax": ""}, "jax", PROBLEM, "not installed", "pip install"),
        ({"onnxruntime": None}, "extra fit", WARNING, "lacks onnxruntime; for champ fit", "champ_jax[fit]"),
        ({"grain": "0.1"}, "extra train", WARNING, "too old: grain 0.1 (needs 0.2.15)", "champ_jax[train]"),
        ({"torch": None}, "extra convert", OK, "not installed; for champ export", ""),
    ],
)
def test_packages_that_are_missing_or_old(monkeypatch, versions, name, level, words, remedy):
    real = packages.installed_version
    monkeypatch.setattr(packages, "installed_version", lambda name: (versions.get(name, real(name))) or None)
    finding = by_name(packages.check_packages())[name]
    assert (finding.level, finding.needed) == (level, level == PROBLEM)
    assert words in finding.value
    assert remedy in finding.remedy


def test_an_installed_distribution_says_the_same_as_the_checkout(monkeypatch, tmp_path):
    here = requirements()
    assert Requirement("jax", "0.10", "") in here
    assert Requirement("jax-cuda12-plugin", "", "cuda") in here
    lines = [f"{r.name}{f'>={r.least}' if r.least else ''}{f'; extra == {r.extra!r}' if r.extra else ''}" for r in here]
    lines.append("champ_jax[train]; extra == 'beam'")
    monkeypatch.setattr(packages, "__file__", str(tmp_path / "a" / "b" / "packages.py"))
    monkeypatch.setattr("importlib.metadata.requires", lambda name: lines)
    assert requirements() == here


def test_without_metadata_the_rest_is_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(packages, "__file__", str(tmp_path / "a" / "b" / "packages.py"))
    monkeypatch.setattr("importlib.metadata.requires", raising(packages.importlib.metadata.PackageNotFoundError("x")))
    found = by_name(packages.check_packages())
    assert found["requirements"].level == WARNING
    assert found["Python"].level == OK


def test_versions_are_compared_by_number():
    assert is_older("0.9.2", "0.10")
    assert not is_older("0.10.0rc1", "0.10")
    assert not is_older("2.13.0+cpu", "2.6")
    assert not is_older("13", "13.0.0")
    assert is_older("", "1")


def test_kernels_that_are_right_and_those_of_other_devices():
    found = run(devices.try_devices)
    assert {finding.level for finding in found.values()} == {OK}
    assert found["attention 'xla'"].value.startswith("recommended here, float32 within")
    assert found["attention 'splash'"].value == "not for this device: needs a TPU, this runs on cpu"
    assert "convolution bfloat16" in found


@pytest.mark.parametrize("factor", [0.9, np.nan])
def test_a_kernel_that_computes_something_else(monkeypatch, factor):
    real = devices.attention
    monkeypatch.setattr(devices, "attention", lambda *arrays, kernel: factor * real(*arrays, kernel=kernel))
    finding = run(devices.try_devices)["attention 'xla'"]
    assert (finding.level, finding.needed) == (PROBLEM, True)
    assert "computes something else" in finding.value


def test_jax_without_the_platform_that_is_asked_for(monkeypatch):
    monkeypatch.setattr(devices.jax, "local_devices", raising(RuntimeError("Unable to initialize backend 'tpu'")))
    finding = run(devices.try_devices)["devices"]
    assert (finding.level, finding.needed) == (PROBLEM, True)
    assert "JAX_PLATFORMS" in finding.remedy


def test_a_gpu_that_jax_does_not_use(monkeypatch, tmp_path):
    (tmp_path / "nvidia0").touch()
    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(devices, "_NVIDIA", (str(tmp_path / "nvidia[0-9]"), str(tmp_path / "version")))
    monkeypatch.setattr(devices, "_TPU", ())
    (finding,) = devices._unseen("cpu")
    assert finding.level == WARNING
    assert "champ_jax[cuda]" in finding.remedy
    assert list(devices._unseen("gpu")) == []
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # on purpose
    assert list(devices._unseen("cpu")) == []


def test_every_codec_and_the_font():
    found = run(media.try_media)
    assert {"H.264 (.mp4)", "PNG", "JPEG", "WebP", "GIF", "video decoders", "font of drawings"} == set(found)
    assert {finding.level for finding in found.values()} == {OK}


def test_a_codec_that_is_not_there(monkeypatch):
    import av

    real = av.codec.Codec
    monkeypatch.setattr("champ_jax.common.videos.write_video", raising(av.error.EncoderNotFoundError(1, "libx264")))
    monkeypatch.setattr(av.codec, "Codec", lambda name, mode: real("no such codec" if name == "hevc" else name, mode))
    found = run(media.try_media)
    assert (found["H.264 (.mp4)"].level, found["H.264 (.mp4)"].needed) == (PROBLEM, True)
    assert "libx264" in found["H.264 (.mp4)"].value
    assert found["video decoders"].level == WARNING
    assert "hevc (videos of phones)" in found["video decoders"].value


def test_a_codec_that_loses_frames_or_colors(monkeypatch):
    monkeypatch.setattr("champ_jax.common.videos.read_video", lambda path: iter([np.zeros((48, 64, 3), np.uint8)]))
    monkeypatch.setattr("champ_jax.common.pictures.read_image", lambda path: np.zeros((48, 64, 3), np.uint8))
    found = run(media.try_media)
    assert "gave (1, 48, 64, 3) back for (2, 48, 64, 3)" in found["H.264 (.mp4)"].value
    assert "other colors" in found["PNG"].value


def test_pillow_without_a_font(monkeypatch):
    from PIL import ImageFont

    monkeypatch.setattr(ImageFont, "load_default", lambda: ImageFont.ImageFont())
    assert run(media.try_media)["font of drawings"].level == WARNING


def test_pyrender_is_optional(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    finding = run(media.try_graphics)["OpenGL (pyrender)"]
    assert (finding.level, finding.value) == (OK, "not installed; only champ render --backend=pyrender needs it")


def test_opengl_that_does_not_start(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr(
        "champ_jax.conditions.pyrender_backend.PyrenderRasterizer", raising(ImportError("Unable to load OSMesa"))
    )
    finding = run(media.try_graphics)["OpenGL (pyrender)"]
    assert (finding.level, finding.needed) == (WARNING, False)
    assert "libosmesa6" in finding.remedy


@pytest.mark.parametrize(
    ("size", "level", "needed"), [(2**40, OK, False), (2 * 2**30, WARNING, False), (2**30, PROBLEM, True)]
)
def test_memory(monkeypatch, size, level, needed):
    monkeypatch.setattr(machine, "available_memory", lambda: size)
    (finding,) = machine.check_memory()
    assert (finding.level, finding.needed) == (level, needed)
    assert bool(finding.remedy) == (level != OK)


def test_shared_memory_of_a_container(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_SHARED_FOLDER", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**26, 0, 2**26))
    (finding,) = machine.check_shared_memory()
    assert finding.level == WARNING
    assert "--shm-size" in finding.remedy
    monkeypatch.setattr(machine, "_SHARED_FOLDER", tmp_path / "none")
    assert machine.check_shared_memory()[0].level == OK


def test_a_folder_that_may_not_be_written_and_a_full_disk(monkeypatch, tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o555)
    monkeypatch.chdir(closed)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2**40, 2**40, 1000))
    with _without_root_permissions():
        found = by_name(machine.check_results())
    assert found["results"].needed
    assert "cannot be written (Permission denied)" in found["results"].value
    assert "--config.output" in found["results"].remedy
    assert found["disk"].needed
    assert found["disk"].value.startswith("1,000 bytes free")


def test_caches_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found = by_name(machine.check_caches())
    assert (found["JAX's cache"].level, found["cache"].level) == (WARNING, OK)
    assert "JAX_COMPILATION_CACHE_DIR" in found["JAX's cache"].remedy
    monkeypatch.setattr(machine.tempfile, "gettempdir", raising(FileNotFoundError(2, "No usable temporary directory")))
    (temporary,) = machine.check_temporary()
    assert "TMPDIR" in temporary.remedy
    assert not (tmp_path / "cache").exists()


def test_a_check_that_fails_is_a_finding_and_the_others_go_on(monkeypatch):
    monkeypatch.setattr(command, "CHECKS", (raising(OSError("no /proc")), machine.check_processors))
    monkeypatch.setattr(command, "run_probes", lambda probes, seconds: {name: [] for name in probes})
    monkeypatch.setattr(packages, "requirements", raising(ValueError("broken toml")))
    found = command.examine()
    assert [finding.level for finding in found if finding.value.startswith("cannot be examined: OSError")] == [WARNING]
    assert "processors" in by_name(found)
    assert by_name(found)["requirements"].level == WARNING


def raising(error):
    def fail(*_, **__):
        raise error

    fail.__name__ = "check_something"
    return fail
