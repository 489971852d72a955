"""Several processes on this machine as several hosts of a run."""

import os
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def start_hosts(command: Sequence[str], processes: int, devices: int) -> list[subprocess.Popen]:
    """`command` as so many processes of so many CPU devices each; they find each other by the environment."""
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    if processes > 1:
        environment |= {"JAX_COORDINATOR_ADDRESS": f"localhost:{free_port()}", "JAX_NUM_PROCESSES": str(processes)}
    return [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment | {"JAX_PROCESS_ID": str(process)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for process in range(processes)
    ]


def finish(hosts: Sequence[subprocess.Popen]) -> list[str]:
    """Their outputs, when all have ended well."""
    outputs = [host.communicate()[0] for host in hosts]
    assert [host.returncode for host in hosts] == [0] * len(hosts), outputs
    return outputs
