"""Many processes as one run: finds the others from what the cluster's launcher says, joins them, and stops with them.

Found by itself: SLURM, Open MPI, Cloud TPU and GKE's TPU slices (by JAX's own detection), and any launcher that sets
JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID (in a Kubernetes Indexed Job JOB_COMPLETION_INDEX stands
for the last). docs/launch.md has a job file for each.
"""

import contextlib
import dataclasses
import importlib.util
import json
import os
import re
import secrets
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

from champ_jax.common import cli
from champ_jax.common.errors import InputError
from champ_jax.common.heartbeat import Watch, connect, listen

JOIN_SECONDS = 300  # until all processes must have come
_MESSAGE = 1024  # bytes
_EVER = 30 * 24 * 3600  # for the ones that end first to wait for the others; a death among them is noticed


def defaults() -> ml_collections.ConfigDict:
    """The fields of a command that may run as many processes, `config.distributed`."""
    config = ml_collections.ConfigDict()
    config.coordinator = "auto"  # as the launcher says; none: this process alone; or process 0's HOST:PORT
    config.processes = 0  # how many there are; 0: as the launcher says
    config.process = -1  # the number of this one; -1: as the launcher says
    config.timeout = 60.0  # seconds of silence after which another host is taken for dead
    return config


@dataclasses.dataclass(frozen=True)
class Place:
    """A process's place among the others.

    Attributes:
      source: who said so, for messages.
      coordinator: HOST:PORT of process 0; None leaves this and the rest to JAX's detection.
      processes: how many there are.
      process: the number of this one.
      local_device: the only GPU of this host that this process uses, where a host runs several; None: all.
    """

    source: str
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    local_device: int | None = None


def find(settings: ml_collections.ConfigDict, environment: Mapping[str, str]) -> Place | None:
    """This process's place; None if it is alone.

    Args:
      settings: `config.distributed`.
      environment: os.environ.

    Raises:
      InputError: what settings and launcher say is incomplete or contradicts itself.
    """
    if settings.coordinator == "none":
        return None
    given = settings.coordinator if settings.coordinator != "auto" else environment.get("JAX_COORDINATOR_ADDRESS")
    if given:
        return _numbered(given, settings, environment)
    if "SLURM_STEP_NODELIST" in environment and _number(environment, "SLURM_NTASKS") > 1:
        return _slurm(environment)
    if _number(environment, "OMPI_COMM_WORLD_SIZE") > 1:
        return _open_mpi(environment)
    if _is_tpu_slice(environment):
        return Place("Cloud TPU")
    if settings.processes > 1:
        raise InputError(
            f"distributed.processes={settings.processes}: no launcher was found; give process 0's address as "
            "--config.distributed.coordinator=HOST:PORT"
        )
    return None


def _numbered(address: str, settings: ml_collections.ConfigDict, environment: Mapping[str, str]) -> Place:
    """A place at a coordinator that was named; numbers from the settings, else from the environment."""
    if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\s]+):\d{1,5}", address):
        raise InputError(f"distributed.coordinator={address}: is no HOST:PORT (nor auto, nor none)")
    processes = settings.processes or _first(
        environment, "JAX_NUM_PROCESSES", "OMPI_COMM_WORLD_SIZE", "SLURM_NTASKS", otherwise=0
    )
    process = settings.process
    if process < 0:
        names = ("JAX_PROCESS_ID", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID", "JOB_COMPLETION_INDEX")
        process = _first(environment, *names, otherwise=-1)
    if processes < 1 or not 0 <= process < processes:
        raise InputError(
            f"distributed: process {process} of {processes} at {address}; set --config.distributed.processes and "
            ".process, or JAX_NUM_PROCESSES and JAX_PROCESS_ID, to N and to 0 ... N-1"
        )
    return Place("coordinator given", address, processes, process, _local_device(environment))


def _slurm(environment: Mapping[str, str]) -> Place:
    """A task of an srun step."""
    host = re.match(r"([^,\[]+)(?:\[(\d+))?", environment["SLURM_STEP_NODELIST"])
    if host is None:
        raise InputError(f"SLURM_STEP_NODELIST={environment['SLURM_STEP_NODELIST']}: cannot be read")
    return Place(
        "SLURM",
        f"{host[1]}{host[2] or ''}:{_port(_number(environment, 'SLURM_JOB_ID'))}",
        _number(environment, "SLURM_NTASKS"),
        _number(environment, "SLURM_PROCID"),
        _local_device(environment),
    )


def _open_mpi(environment: Mapping[str, str]) -> Place:
    """A rank of mpirun."""
    size, here = (_number(environment, f"OMPI_COMM_WORLD_{name}") for name in ("SIZE", "LOCAL_SIZE"))
    launcher = re.search(r"tcp://([\d.]+)|tcp6://\[([^,\]]+)", environment.get("OMPI_MCA_orte_hnp_uri", ""))
    if size == here:
        host = "localhost"
    elif launcher:  # Open MPI 4: the host of mpirun, where rank 0 is
        host = launcher[1] or f"[{launcher[2]}]"
    else:
        raise InputError(
            "Open MPI 5 does not tell where rank 0 is: start with mpirun -x JAX_COORDINATOR_ADDRESS=HOST:PORT, HOST "
            "being the first host"
        )
    job = re.match(r"\d+", environment.get("OMPI_MCA_orte_hnp_uri", "")) or re.search(
        r"\d+", environment.get("PMIX_NAMESPACE", "")
    )
    return Place(
        "Open MPI",
        f"{host}:{_port(int(job[0]) >> 12 if job else 0)}",
        size,
        _number(environment, "OMPI_COMM_WORLD_RANK"),
        _local_device(environment),
    )


def _local_device(environment: Mapping[str, str]) -> int | None:
    """The one GPU that is this process's, where its launcher has started several on this host."""
    if _number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE") > 1:
        return _number(environment, "OMPI_COMM_WORLD_LOCAL_RANK")
    tasks = re.match(r"\d+", environment.get("SLURM_STEP_TASKS_PER_NODE", ""))
    return _number(environment, "SLURM_LOCALID") if tasks and int(tasks[0]) > 1 else None


def _is_tpu_slice(environment: Mapping[str, str]) -> bool:
    """Whether this is a TPU host. One that is alone joins itself, which does no harm."""
    if "tpu" not in environment.get("JAX_PLATFORMS", "tpu"):
        return False
    if len(environment.get("TPU_WORKER_HOSTNAMES", "").split(",")) > 1:
        return True
    chips = Path("/dev/accel0").exists() or Path("/dev/vfio/0").exists()
    return chips and importlib.util.find_spec("libtpu") is not None


@contextlib.contextmanager
def joined(settings: ml_collections.ConfigDict, *, preemption: bool = False) -> Iterator[None]:
    """For commands: makes this process one of a run's, before anything else is asked of JAX.

    When one of several processes dies or stops with an error, the others print which one and why and exit with 1: at
    once if the process died, after `settings.timeout` seconds if its host or network did. An error of this one is told
    here and ends it with the status of `cli.tell`.

    Args:
      settings: `config.distributed`.
      preemption: SIGTERM to one of them is kept for `jax.experimental.multihost_utils.reached_preemption_sync_point`,
        which tells all of them; otherwise it ends the process.

    Raises:
      InputError: see `find`; or the others did not come.
    """
    place = find(settings, os.environ)
    if place is None:
        yield
        return
    _initialize(place, preemption)
    if jax.process_count() == 1:
        yield
        return
    watch = _start_watch(place, settings.timeout)
    try:
        yield
    except BaseException as error:
        watch.fail(error)
        status = cli.tell(error)
        sys.stdout.flush()
        os._exit(status)  # the way through JAX's service would wait for the others
    watch.finish()
    jax.distributed.shutdown()  # returns when all have come here
    watch.close()


def _initialize(place: Place, preemption: bool) -> None:
    """jax.distributed.initialize, which ends the process with a stack trace if the others don't come."""

    def give_up() -> None:
        who = f"process {place.process} of {place.processes}, " if place.coordinator else ""
        at = place.coordinator or "the address that JAX found"
        line = f"error: {who}{place.source}: not all processes came to {at} within {JOIN_SECONDS} s; start them all\n"
        os.write(2, line.encode())
        os._exit(2)

    alone = threading.Timer(JOIN_SECONDS, give_up)
    alone.daemon = True
    alone.start()
    jax.config.update("jax_enable_preemption_service", preemption)
    options = {"initialization_timeout": 2 * JOIN_SECONDS, "shutdown_timeout_seconds": _EVER}
    try:
        if place.coordinator is None:
            jax.distributed.initialize(**options)
        else:
            jax.distributed.initialize(
                place.coordinator,
                place.processes,
                place.process,
                None if place.local_device is None else [place.local_device],
                cluster_detection_method="deactivate",
                **options,
            )
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{place.source}: cannot join the other processes ({error})") from error
    finally:
        alone.cancel()


def _start_watch(place: Place, timeout: float) -> Watch:
    """Connects all processes to process 0, whose addresses and port a collective tells."""
    process, processes = jax.process_index(), jax.process_count()
    server = None
    told = {}
    if process == 0:
        server = socket.create_server(("", 0))
        told = {"hosts": _own_addresses(place), "port": server.getsockname()[1], "token": secrets.randbits(62)}
    written = np.frombuffer(json.dumps(told).encode().ljust(_MESSAGE), np.uint8)
    told = json.loads(np.asarray(multihost_utils.broadcast_one_to_all(written)).tobytes())
    try:
        if server is not None:
            links = listen(processes, told["token"], server, JOIN_SECONDS)
        else:
            links = connect(process, told["token"], [(host, told["port"]) for host in told["hosts"]], JOIN_SECONDS)
    except OSError as error:
        raise InputError(f"process {process}: no connection to process 0 at {told['hosts']} ({error})") from error
    return Watch(process, processes, links, timeout)


def _own_addresses(place: Place) -> list[str]:
    """Where others may reach this host, the likeliest first."""
    hosts = [place.coordinator.rpartition(":")[0].strip("[]")] if place.coordinator else []
    with contextlib.suppress(OSError):
        hosts.append(socket.gethostbyname(socket.gethostname()))
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("10.255.255.255", 1))  # sends nothing: asks which interface leads out
        hosts.append(probe.getsockname()[0])
    return list(dict.fromkeys(hosts))


def _number(environment: Mapping[str, str], name: str) -> int:
    """A number in the environment; 0 where it is not set."""
    text = environment.get(name, "0")
    if not text.isdecimal():
        raise InputError(f"{name}={text}: is no number")
    return int(text)


def _first(environment: Mapping[str, str], *names: str, otherwise: int) -> int:
    """The number in the first of the variables that is set."""
    name = next((name for name in names if name in environment), None)
    return otherwise if name is None else _number(environment, name)


def _port(job: int) -> int:
    """A port that the processes of one job agree on and other jobs seldom have."""
    return 61440 + job % 4096
