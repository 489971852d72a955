"""Finding one's place in a cluster, and ending together."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from champ_jax.common import heartbeat
from champ_jax.common.distributed import Place, defaults, find
from champ_jax.common.errors import InputError

ROOT = Path(__file__).parents[2]

SLURM = {
    "SLURM_JOB_ID": "4103",
    "SLURM_STEP_NODELIST": "node[007-009,012]",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_MCA_orte_hnp_uri": "8192.0;tcp://10.0.0.5,172.17.0.1:41234",
}
NAMED = {"JAX_COORDINATOR_ADDRESS": "job-0.job:8476", "JAX_NUM_PROCESSES": "4"}


def settings(**fields):
    config = defaults()
    config.update(fields)
    return config


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8"}, None),  # in a batch script, outside srun
        (SLURM | {"SLURM_NTASKS": "1"}, None),
        (SLURM, Place("SLURM", "node007:61447", 4, 2)),
        (SLURM | {"SLURM_STEP_NODELIST": "a,b"}, Place("SLURM", "a:61447", 4, 2)),
        (
            SLURM | {"SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_LOCALID": "1"},
            Place("SLURM", "node007:61447", 4, 2, 1),
        ),
        (OPEN_MPI, Place("Open MPI", "10.0.0.5:61442", 4, 3, 1)),
        (
            {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "2"},
            Place("Open MPI", "localhost:61440", 2, 1, 0),
        ),
        (
            OPEN_MPI | {"JAX_COORDINATOR_ADDRESS": "first:1234", "OMPI_MCA_orte_hnp_uri": ""},
            Place("coordinator given", "first:1234", 4, 3, 1),
        ),
        (NAMED | {"JOB_COMPLETION_INDEX": "3"}, Place("coordinator given", "job-0.job:8476", 4, 3)),
        (NAMED | {"JAX_PROCESS_ID": "0"}, Place("coordinator given", "job-0.job:8476", 4, 0)),
        ({"TPU_WORKER_HOSTNAMES": "t0,t1", "TPU_WORKER_ID": "1"}, Place("Cloud TPU")),
        ({"TPU_WORKER_HOSTNAMES": "t0,t1", "JAX_PLATFORMS": "cpu"}, None),
    ],
)
def test_places_are_found_in_what_launchers_say(environment, place):
    assert find(settings(), environment) == place


def test_settings_go_before_the_environment():
    given = settings(coordinator="here:1", processes=2, process=1)
    assert find(given, SLURM) == Place("coordinator given", "here:1", 2, 1)
    assert find(settings(coordinator="none"), SLURM) is None


@pytest.mark.parametrize(
    ("fields", "environment", "words"),
    [
        ({"coordinator": "here"}, {}, "coordinator=here: is no HOST:PORT"),
        ({"coordinator": "here:1"}, {}, "process -1 of 0 at here:1; set .*JAX_NUM_PROCESSES"),
        ({"coordinator": "here:1", "processes": 2, "process": 2}, {}, "process 2 of 2"),
        ({"processes": 2}, {}, "processes=2: no launcher was found"),
        ({}, NAMED, "process -1 of 4"),
        ({}, OPEN_MPI | {"OMPI_MCA_orte_hnp_uri": ""}, "mpirun -x JAX_COORDINATOR_ADDRESS"),
        ({}, SLURM | {"SLURM_PROCID": "x"}, "SLURM_PROCID=x: is no number"),
    ],
)
def test_what_is_incomplete_is_named(fields, environment, words):
    with pytest.raises(InputError, match=words):
        find(settings(**fields), environment)


PROCESS = """
import socket, sys, time
from champ_jax.common import heartbeat
from champ_jax.common.errors import InputError
heartbeat.BEAT = 0.2
number, action = int(sys.argv[1]), sys.argv[2]
if number == 0:
    server = socket.create_server(("localhost", 0))
    print(server.getsockname()[1], flush=True)
    links = heartbeat.listen(3, 7, server, 20)
else:
    links = heartbeat.connect(number, 7, [("localhost", int(sys.stdin.readline()))], 20)
own = heartbeat.Watch(number, 3, links, timeout=2)
print("ready", flush=True)
sys.stdin.readline()
if action == "wait":
    time.sleep(60)
elif action == "fail":
    own.fail(InputError("the disk is full"))
    sys.exit(2)
elif action == "finish":
    own.finish()
    time.sleep(1)
    own.close()
"""


@pytest.fixture
def trio():
    """Starts three processes that watch each other; gives a function from their actions to them."""
    started = []

    def start(*actions):
        for number, action in enumerate(actions):
            process = subprocess.Popen(
                [sys.executable, "-c", PROCESS, str(number), action],
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            started.append(process)
            if number == 0:
                port = process.stdout.readline()
            else:
                process.stdin.write(port)
                process.stdin.flush()
        for process in started:
            assert process.stdout.readline() == "ready\n"
        for process in started:  # nobody acts before all watch
            process.stdin.write("go\n")
            process.stdin.flush()
        return started

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ended(process, seconds):
    """(status, stderr) of a process that ends within `seconds`."""
    return process.wait(seconds), process.stderr.read()


@pytest.mark.parametrize("victim", [0, 2])
def test_a_death_ends_the_others_with_one_line(trio, victim):
    processes = trio("wait", "wait", "wait")
    processes[victim].kill()
    for number, process in enumerate(processes):
        if number != victim:
            status, told = ended(process, 10)
            assert status == 1
            (line,) = told.splitlines()
            assert line.startswith(f"error: process {victim} of 3 (")
            assert f") died; process {number} stops too." in line


def test_silence_is_noticed(trio):
    processes = trio("wait", "wait", "wait")
    os.kill(processes[1].pid, signal.SIGSTOP)
    began = time.monotonic()
    for number in (0, 2):
        status, told = ended(processes[number], 20)
        assert status == 1
        assert "error: process 1 of 3" in told
        assert "has not been heard of for" in told
    assert time.monotonic() - began > 1.5


def test_an_error_is_told_to_the_others(trio):
    processes = trio("wait", "fail", "wait")
    for number in (0, 2):
        status, told = ended(processes[number], 10)
        assert status == 1
        assert told.startswith("error: process 1 of 3 (")
        assert "stopped: the disk is full; process" in told


def test_why_it_ended_reaches_one_that_talks_meanwhile(request):
    """What arrives at an end is answered with a reset, which would take the last message out of the reader's hands."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS, "0", "wait"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    request.addfinalizer(process.kill)
    address = ("localhost", int(process.stdout.readline()))
    first, talker = (heartbeat.connect(number, 7, [address], 20)[0] for number in (1, 2))
    assert process.stdout.readline() == "ready\n"
    first.sendall(b'{"kind": "stop", "number": 1, "why": "stopped: the disk is full"}\n')
    for _ in range(10):
        talker.sendall(b'{"kind": "alive"}\n')
        time.sleep(0.05)
    told = b""
    while b'"stop"' not in told:
        data = talker.recv(65536)
        assert data, told
        told += data
    talker.close()
    first.close()
    assert ended(process, 10)[0] == 1


def test_processes_that_are_done_may_leave(trio):
    for process in trio("finish", "finish", "finish"):
        assert ended(process, 20) == (0, "")
