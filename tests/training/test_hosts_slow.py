"""Training by several processes: the same losses, resumed by others, stopped together."""

import contextlib
import json
import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hosts import ROOT, finish, start_hosts
from training_data import tiny_config

from champ_jax.training.loop import train
from champ_jax.weights.flat import from_components
from champ_jax.weights.work_folder import load_for_inference

pytestmark = pytest.mark.slow

CONFIG = """
import sys
sys.path.insert(0, {tests!r})
from training_data import tiny_config
def get_config():
    return tiny_config({dataset!r})
"""
STEPS = 4
# A killed process is noticed by its connections, which the kernel closes; the rest is the machine's slowness.
STOP_SECONDS = 15


@pytest.fixture(scope="module")
def alone(dataset, tmp_path_factory):
    """The work folder of one process on one device."""
    workdir = tmp_path_factory.mktemp("alone")
    train(tiny_config(dataset, steps=STEPS), workdir)
    return workdir


@pytest.fixture(scope="module")
def command(dataset, tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.py"
    path.write_text(CONFIG.format(tests=str(ROOT / "tests"), dataset=str(dataset)))

    def make(workdir, *fields):
        fields = [f"--config.{field}" for field in fields]
        return [sys.executable, "-m", "champ_jax.train", f"--config={path}", f"--workdir={workdir}", *fields]

    return make


@pytest.fixture(scope="module")
def halfway(command, tmp_path_factory):
    """The work folder of two processes with four devices each, after half of the steps."""
    workdir = tmp_path_factory.mktemp("halfway")
    outputs = finish(start_hosts(command(workdir, "steps=2", "mesh.data=4", "mesh.fsdp=2"), 2, 4))
    assert "done: 2 steps" in outputs[0]
    assert "done" not in outputs[1]  # one of them logs for all
    return workdir


def losses(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]


def assert_same_weights(workdir, other, step):
    ours, theirs = (from_components(load_for_inference(path, step, average=False)[1]) for path in (workdir, other))
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        # Adam moves a weight whose gradient is rounding noise by up to the learning rate, 1e-3.
        np.testing.assert_allclose(ours[name], value, atol=5e-4 * step, err_msg=name)
        assert np.abs(ours[name] - value).mean() < 2e-5, name


def test_two_processes_compute_what_one_device_does(halfway, alone):
    np.testing.assert_allclose(losses(halfway), losses(alone)[:2], rtol=2e-5)
    assert_same_weights(halfway, alone, 2)


@pytest.mark.parametrize(("processes", "devices", "data", "fsdp"), [(1, 2, 1, 2), (2, 2, 1, 4)])
def test_other_processes_on_another_mesh_resume(halfway, alone, command, tmp_path, processes, devices, data, fsdp):
    workdir = tmp_path / "run"
    shutil.copytree(halfway, workdir)
    fields = (f"steps={STEPS}", f"mesh.data={data}", f"mesh.fsdp={fsdp}")
    outputs = finish(start_hosts(command(workdir, *fields), processes, devices))
    assert "resuming from step 2" in outputs[0]
    np.testing.assert_allclose(losses(workdir), losses(alone), rtol=5e-5)
    assert_same_weights(workdir, alone, STEPS)


def wait_for_step(workdir, step, hosts):
    path = workdir / "metrics.jsonl"
    while not (path.exists() and path.read_text().count("\n") >= step):
        assert all(host.poll() is None for host in hosts), [host.communicate()[0] for host in hosts]
        time.sleep(0.05)


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_process_stops_the_other_and_a_restart_resumes(halfway, command, tmp_path, victim):
    workdir = tmp_path / "run"
    shutil.copytree(halfway, workdir)
    hosts = start_hosts(command(workdir, "steps=1000", "mesh.data=4", "mesh.fsdp=2"), 2, 4)
    wait_for_step(workdir, 5, hosts)
    hosts[victim].kill()
    began = time.monotonic()
    output, _ = hosts[1 - victim].communicate(timeout=STOP_SECONDS)
    print(f"process {1 - victim} stopped {time.monotonic() - began:.1f} s after the death of {victim}")
    hosts[victim].communicate()
    assert hosts[1 - victim].returncode not in (0, None)
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert f"error: process {victim} of 2 (" in line
    assert ") died; process" in line
    outputs = finish(start_hosts(command(workdir, "steps=8", "mesh.data=4", "mesh.fsdp=2"), 2, 4))
    assert "resuming from step" in outputs[0]
    assert len(losses(workdir)) == 8


@pytest.mark.parametrize("victim", [0, 1])
def test_a_stopped_process_ends_the_other_with_one_line(halfway, command, tmp_path, victim):
    """Gloo gives up after 30 seconds, before the silence counts as a death: its error is not the one to print."""
    workdir = tmp_path / "run"
    shutil.copytree(halfway, workdir)
    fields = ("steps=1000", "mesh.data=4", "mesh.fsdp=2", "distributed.timeout=40")
    hosts = start_hosts(command(workdir, *fields), 2, 4)
    wait_for_step(workdir, 5, hosts)
    hosts[victim].send_signal(signal.SIGSTOP)
    output, _ = hosts[1 - victim].communicate(timeout=40 + STOP_SECONDS)
    hosts[victim].send_signal(signal.SIGCONT)
    hosts[victim].communicate(timeout=STOP_SECONDS)
    assert [host.returncode for host in hosts] == [1, 1]
    (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: process {victim} of 2 (")
    assert ") sent no heartbeat for" in line
    assert "Traceback" not in output


def listening_sockets(process):
    """{port: the address it is bound to} of a process, by /proc; addresses are hexadecimal, the last 4 bytes IPv4."""
    inodes = set()
    for entry in Path(f"/proc/{process.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(entry).removeprefix("socket:[").removesuffix("]"))
    found = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A" and inode in inodes:
                address, port = local.split(":")
                found[int(port, 16)] = address
    return found


def test_silent_strangers_on_every_port_do_not_hold_up_a_run(command, tmp_path):
    hosts = start_hosts(command(tmp_path / "run", "steps=2", "mesh.data=4", "mesh.fsdp=2"), 2, 4)
    strangers, addresses = {}, set()
    while any(host.poll() is None for host in hosts):
        for host in hosts:
            with contextlib.suppress(OSError):  # it has ended
                for port, address in listening_sockets(host).items():
                    addresses.add(address)
                    if port not in strangers:
                        strangers[port] = socket.create_connection(("localhost", port), 5)
        time.sleep(0.02)
    finish(hosts)
    assert len(strangers) >= 3  # JAX's coordinator, the monitor and Gloo
    loopback = ("0100007F", "0" * 24 + "01000000")  # 127.0.0.1 and ::1, as the coordinator
    assert all(address.endswith(loopback) for address in addresses), addresses


def test_sigterm_to_one_saves_and_ends_both(halfway, command, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(halfway, workdir)
    fields = ("steps=1000", "checkpoint.every=500", "mesh.data=4", "mesh.fsdp=2")
    hosts = start_hosts(command(workdir, *fields), 2, 4)
    wait_for_step(workdir, 4, hosts)
    os.kill(hosts[1].pid, signal.SIGTERM)
    outputs = finish(hosts)
    assert "SIGTERM: saved step" in outputs[0]
    saved = max(int(path.name) for path in (workdir / "checkpoints").iterdir())
    assert len(losses(workdir)) == saved > 4


def test_a_mesh_that_does_not_fit_all_hosts_is_refused_by_each(command, tmp_path):
    hosts = start_hosts(command(tmp_path, "mesh.data=2", "mesh.fsdp=2"), 2, 4)
    outputs = [host.communicate()[0] for host in hosts]
    assert all(host.returncode in (1, 2) for host in hosts)
    for output in outputs:
        (line,) = [line for line in output.splitlines() if line.startswith("error: ")]
        assert "mesh.data=2 x mesh.fsdp=2 needs 4 devices, there are 8" in line
