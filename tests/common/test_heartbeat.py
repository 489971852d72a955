"""Processes that watch each other end together; strangers do not hold up the start."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from champ_jax.common import heartbeat

ROOT = Path(__file__).parents[2]

PROCESS = """
import socket, sys, time
from champ_jax.common import heartbeat
from champ_jax.common.errors import InputError
heartbeat.HEARTBEAT_SECONDS = 0.2
number, action = int(sys.argv[1]), sys.argv[2]
if number == 0:
    server = socket.create_server(("localhost", 0))
    print(server.getsockname()[1], flush=True)
    links = heartbeat.accept_peers(3, 7, server, 20)
else:
    links = heartbeat.connect_to_first(number, 7, [("localhost", int(sys.stdin.readline()))], 20)
own = heartbeat.PeerMonitor(number, 3, links, timeout=3)
print("ready", flush=True)
sys.stdin.readline()
if action == "wait":
    time.sleep(60)
elif action == "fail":
    own.stop_others(InputError("the disk is full"))
    sys.exit(2)
elif action == "break":
    sys.stdin.readline()
    own.stop_others(RuntimeError("a collective broke"))
    sys.exit(3)
elif action == "finish":
    own.mark_done()
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
            with contextlib.suppress(BrokenPipeError):  # the one before has ended it already
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
            status, printed = ended(process, 10)
            assert status == 1
            (line,) = printed.splitlines()
            assert line.startswith(f"error: process {victim} of 3 (")
            assert f") died; process {number} stops too." in line


@pytest.mark.parametrize("victim", [0, 1])
def test_a_stopped_process_ends_the_others_with_one_line(trio, victim):
    processes = trio("wait", "wait", "wait")
    os.kill(processes[victim].pid, signal.SIGSTOP)
    began = time.monotonic()
    for number in {0, 1, 2} - {victim}:
        status, printed = ended(processes[number], 20)
        assert status == 1
        (line,) = printed.splitlines()
        assert line.startswith(f"error: process {victim} of 3 (")
        assert ") sent no heartbeat for" in line
    processes[victim].send_signal(signal.SIGCONT)
    status, printed = ended(processes[victim], 20)
    assert status == 1
    assert printed.startswith(f"error: process {victim} of 3 (" if victim else "error: process ")
    assert time.monotonic() - began > 1.5


def test_an_error_that_a_stopped_process_causes_names_that_process(trio):
    """A collective fails in process 2 while only process 0 can see that process 1 is stopped."""
    processes = trio("wait", "wait", "break")
    os.kill(processes[1].pid, signal.SIGSTOP)
    time.sleep(0.8)  # longer than two heartbeats, shorter than the timeout
    processes[2].stdin.write("break\n")
    processes[2].stdin.flush()
    status, printed = ended(processes[2], 20)
    assert status == 1
    (line,) = printed.splitlines()
    assert line.startswith("error: process 1 of 3 (")
    assert "sent no heartbeat for" in line


def test_an_error_is_printed_to_the_others(trio):
    processes = trio("wait", "fail", "wait")
    for number in (0, 2):
        status, printed = ended(processes[number], 10)
        assert status == 1
        assert printed.startswith("error: process 1 of 3 (")
        assert "stopped: the disk is full; process" in printed


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
    first, talker = (heartbeat.connect_to_first(number, 7, [address], 20)[0] for number in (1, 2))
    assert process.stdout.readline() == "ready\n"
    first.sendall(b'{"kind": "stop", "number": 1, "why": "stopped: the disk is full"}\n')
    for _ in range(10):
        talker.sendall(b'{"kind": "alive"}\n')
        time.sleep(0.05)
    printed = b""
    while b'"stop"' not in printed:
        data = talker.recv(65536)
        assert data, printed
        printed += data
    talker.close()
    first.close()
    assert ended(process, 10)[0] == 1


def test_processes_that_are_done_may_leave(trio):
    for process in trio("finish", "finish", "finish"):
        assert ended(process, 20) == (0, "")


def greeting(token, number):
    return token.to_bytes(8, "big") + number.to_bytes(8, "big")


def test_strangers_are_dropped_and_hold_up_nobody(monkeypatch):
    monkeypatch.setattr(heartbeat, "GREETING_SECONDS", 0.5)
    server = socket.create_server(("localhost", 0))
    address = server.getsockname()
    strangers = [socket.create_connection(address) for _ in range(20)]  # silent ones come first
    for stranger, data in zip(
        strangers[5:], (b"GET / HTTP/1.1\r\n\r\n", greeting(8, 1), greeting(7, 0), greeting(7, 3))
    ):
        stranger.sendall(data)
    strangers[0].close()
    links = {}
    thread = threading.Thread(target=lambda: links.update(heartbeat.accept_peers(3, 7, server, 20)))
    began = time.monotonic()
    thread.start()
    time.sleep(0.8)
    for stranger in strangers[1:]:  # all are gone before a single process has come
        stranger.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            assert stranger.recv(1) == b""
        stranger.close()
    late = socket.create_connection(address)
    peers = [heartbeat.connect_to_first(number, 7, [("localhost", address[1])], 20)[0] for number in (1, 2)]
    thread.join(10)
    assert time.monotonic() - began < 10
    assert {number: link.getpeername() for number, link in links.items()} == {
        number: peer.getsockname() for number, peer in enumerate(peers, 1)
    }
    for link in [*links.values(), *peers, late]:
        link.close()


def test_a_greeting_may_come_in_pieces():
    server = socket.create_server(("localhost", 0))
    with socket.create_connection(server.getsockname()) as peer:
        data = greeting(7, 1)

        def send():
            for byte in data:
                peer.sendall(bytes([byte]))
                time.sleep(0.01)

        threading.Thread(target=send).start()
        (number,) = links = heartbeat.accept_peers(2, 7, server, 20)
        assert number == 1
        links[1].close()


def test_processes_that_do_not_come_are_counted():
    with pytest.raises(TimeoutError, match="1 of 3 processes came within 0 s"):
        heartbeat.accept_peers(3, 7, socket.create_server(("localhost", 0)), 0.1)
