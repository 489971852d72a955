"""Many processes as one run: finds the others through the cluster's launcher, joins them, and stops with them.

JAX's cluster detection knows SLURM, Open MPI 4, GKE's TPU slices, Cloud TPU and Kubernetes. Any other launcher sets
JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID. docs/launch.md has a job file for each.
"""

import contextlib
import dataclasses
import ipaddress
import json
import os
import re
import secrets
import socket
import sys
import threading
from collections.abc import Iterator

import jax
import ml_collections
import numpy as np
from jax._src import clusters  # what jax.distributed.initialize() detects with; it has no public name
from jax.experimental import multihost_utils

from champ_jax.common import cli
from champ_jax.common.distributed import RULES
from champ_jax.common.errors import InputError
from champ_jax.common.heartbeat import PeerMonitor, accept_peers, connect_to_first
from champ_jax.common.ranges import check_config

_HOST_PORT = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^:\s]+):(?P<port>\d{1,5})")
JOIN_SECONDS = 300  # time within which all processes must have come
_MESSAGE_BYTES = 1024
# The processes that end first wait for the others without a limit; the monitor notices a death among them.
_SHUTDOWN_SECONDS = 30 * 24 * 3600
_TPU = (clusters.GkeTpuCluster, clusters.GceTpuCluster)
_LAUNCHERS = {  # in the order in which JAX asks them
    "Open MPI": clusters.OmpiCluster,
    "SLURM": clusters.SlurmCluster,
    "GKE": clusters.GkeTpuCluster,
    "Cloud TPU": clusters.GceTpuCluster,
    "Kubernetes": clusters.K8sCluster,
}


@dataclasses.dataclass(frozen=True)
class ClusterProcess:
    """Which process of a run this one is.

    Attributes:
      source: who said so, for messages.
      coordinator: HOST:PORT of process 0.
      processes: the number of processes.
      process: the number of this process.
      local_devices: the only GPUs of this host that this process uses; None for all.
    """

    source: str
    coordinator: str
    processes: int
    process: int
    local_devices: tuple[int, ...] | None = None


def find_process(settings: ml_collections.ConfigDict) -> ClusterProcess | None:
    """This process's number and the run's coordinator; None if this process is alone.

    The settings count before the environment (JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID or a
    Kubernetes Indexed Job's JOB_COMPLETION_INDEX), and that before what JAX detects.

    Args:
      settings: `config.distributed`.

    Raises:
      InputError: settings, environment and launcher leave something open or contradict each other.
    """
    if settings.coordinator == "none":
        return None
    check_config({"distributed": settings}, RULES)
    coordinator = settings.coordinator if settings.coordinator != "auto" else os.environ.get("JAX_COORDINATOR_ADDRESS")
    # Open MPI 5, which JAX detects from 0.12 on if mpi4py is installed, sets the same numbers as Open MPI 4.
    processes = settings.processes or _read_number("JAX_NUM_PROCESSES", "OMPI_COMM_WORLD_SIZE") or 0
    process = settings.process if settings.process >= 0 else None
    if process is None:
        process = _read_number("JAX_PROCESS_ID", "OMPI_COMM_WORLD_RANK", "JOB_COMPLETION_INDEX")
    source = "the coordinator given"
    if not coordinator or not processes or process is None:
        name, launcher = _find_launcher()
        if launcher is None and not coordinator:
            if processes > 1:
                raise InputError(
                    f"{processes} processes, but no launcher gives the address of process 0: set it as "
                    "--config.distributed.coordinator=HOST:PORT or JAX_COORDINATOR_ADDRESS=HOST:PORT (mpirun -x "
                    "JAX_COORDINATOR_ADDRESS=HOST:PORT for Open MPI 5, HOST being the first host)"
                )
            return None
        if launcher is not None:
            try:
                processes = processes or launcher.get_process_count()
                if processes > 1 and process is None:
                    process = launcher.get_process_id()
                if processes > 1 and not coordinator:
                    source = name
                    port = os.environ.get("JAX_COORDINATOR_PORT")
                    coordinator = launcher.get_coordinator_address(JOIN_SECONDS, port)
            except Exception as error:
                raise InputError(f"{name}: its description of the cluster is not understood ({error})") from error
    if processes == 1 and process in (0, None):
        return None
    address = _HOST_PORT.fullmatch(coordinator or "")
    if coordinator and (address is None or int(address["port"]) > 65535):
        raise InputError(f"--config.distributed.coordinator={coordinator}: expected HOST:PORT, 'auto' or 'none'")
    if address is None or processes < 1 or process is None or process >= processes:
        place = f" at {coordinator}" if coordinator else ""
        raise InputError(
            f"process {'unknown' if process is None else process} of {processes or 'unknown'}{place}: set "
            "--config.distributed.processes=N and --config.distributed.process, or JAX_NUM_PROCESSES=N and "
            "JAX_PROCESS_ID, the process being 0 ... N-1"
        )
    return ClusterProcess(source, address[0], processes, process, _local_devices())


def _find_launcher() -> tuple[str, type[clusters.ClusterEnv] | None]:
    """The first of JAX's cluster environments that this process runs in, with its name."""
    for name, launcher in _LAUNCHERS.items():
        if launcher in _TPU and "tpu" not in os.environ.get("JAX_PLATFORMS", "tpu"):
            continue  # the host's TPU is not used
        if launcher is clusters.K8sCluster and "JOB_COMPLETION_INDEX" not in os.environ:
            continue  # a pod by itself
        try:
            if launcher.is_env_present():
                return name, launcher
        except Exception as error:
            raise InputError(
                f"{name}: its description of the cluster cannot be read ({error}); "
                "--config.distributed.coordinator=none runs this process alone"
            ) from error
    return "", None


def _local_devices() -> tuple[int, ...] | None:
    """The one GPU of this process, if the launcher has started several processes on this host.

    JAX would also give one GPU to a process that is alone on its host.
    """
    if "JAX_LOCAL_DEVICE_IDS" in os.environ:
        return None  # JAX reads it
    if (_read_number("OMPI_COMM_WORLD_LOCAL_SIZE") or 0) > 1:
        local = _read_number("OMPI_COMM_WORLD_LOCAL_RANK")
    else:
        tasks = re.match(r"\d+", os.environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
        local = _read_number("SLURM_LOCALID") if tasks and int(tasks[0]) > 1 else None
    return None if local is None else (local,)


def _read_number(*names: str) -> int | None:
    """The number in the first of these environment variables that is set."""
    name = next((name for name in names if name in os.environ), None)
    if name is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", os.environ[name]):
        raise InputError(f"{name}={os.environ[name]}: expected a whole number")
    return int(os.environ[name])


@contextlib.contextmanager
def join_cluster(settings: ml_collections.ConfigDict, *, preemption: bool = False) -> Iterator[None]:
    """For commands: makes this process one of a run's, before JAX is used for anything else.

    When one of several processes dies or stops with an error, the others print which one and why and exit with 1: at
    once if the process died, after `settings.timeout` seconds if it, its host or its network stopped. An error of this
    process is printed here and ends it with the status of `cli.report_error`.

    Args:
      settings: `config.distributed`.
      preemption: SIGTERM to one process is kept for `jax.experimental.multihost_utils.reached_preemption_sync_point`,
        which informs all of them; otherwise it ends the process.

    Raises:
      InputError: see `find_process`; or the others did not come.
    """
    place = find_process(settings)
    if place is None:
        yield
        return
    _initialize(place, preemption, settings.timeout)
    monitor = _start_monitor(place, settings.timeout)
    try:
        yield
    except BaseException as error:
        monitor.stop_others(error)
        status = cli.report_error(error)
        sys.stdout.flush()
        os._exit(status)  # the way through JAX's service would wait for the others
    monitor.mark_done()
    jax.distributed.shutdown()  # returns when all processes have come here
    monitor.close()


def _initialize(place: ClusterProcess, preemption: bool, timeout: float) -> None:
    """jax.distributed.initialize, which would end the process with a stack trace if the others do not come."""

    def give_up() -> None:
        line = (
            f"error: process {place.process} of {place.processes}, {place.source}: not all processes came to "
            f"{place.coordinator} within {JOIN_SECONDS} s; start them all\n"
        )
        os.write(2, line.encode())
        os._exit(2)

    alone = threading.Timer(JOIN_SECONDS, give_up)
    alone.daemon = True
    alone.start()
    jax.config.update("jax_enable_preemption_service", preemption)
    host, _, port = place.coordinator.rpartition(":")
    interface = None if "JAX_COORDINATOR_BIND_ADDRESS" in os.environ else _own_interface(host)  # JAX reads it
    try:
        jax.distributed.initialize(
            place.coordinator,
            place.processes,
            place.process,
            place.local_devices,
            cluster_detection_method="deactivate",
            initialization_timeout=2 * JOIN_SECONDS,
            heartbeat_timeout_seconds=max(100, int(3 * timeout)),  # the monitor, whose words are clearer, goes first
            shutdown_timeout_seconds=_SHUTDOWN_SECONDS,
            coordinator_bind_address=None if interface is None else f"{_in_brackets(interface)}:{port}",
        )
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{place.source}: cannot join the other processes at {place.coordinator} ({error})") from error
    finally:
        alone.cancel()


def _start_monitor(place: ClusterProcess, timeout: float) -> PeerMonitor:
    """Connects all processes to process 0, whose addresses and port travel by a collective."""
    server, message = None, {}
    if place.process == 0:
        interface = _own_interface(place.coordinator.rpartition(":")[0])
        family = socket.AF_INET6 if ":" in (interface or "") else socket.AF_INET
        server = socket.create_server((interface or "", 0), family=family)
        hosts = [interface] if interface else _likely_addresses(place)
        message = {"hosts": hosts, "port": server.getsockname()[1], "token": secrets.randbits(62)}
    encoded = np.frombuffer(json.dumps(message).encode().ljust(_MESSAGE_BYTES), np.uint8)
    message = json.loads(np.asarray(multihost_utils.broadcast_one_to_all(encoded)).tobytes())
    try:
        if server is not None:
            links = accept_peers(place.processes, message["token"], server, JOIN_SECONDS)
        else:
            addresses = [(host, message["port"]) for host in message["hosts"]]
            links = connect_to_first(place.process, message["token"], addresses, JOIN_SECONDS)
    except OSError as error:
        raise InputError(
            f"process {place.process}: no connection to process 0 at {message['hosts']} ({error})"
        ) from error
    return PeerMonitor(place.process, place.processes, links, timeout)


def _own_interface(host: str) -> str | None:
    """The address of this machine by which the other processes reach it as `host`, so that nothing listens on others.

    None, which means all interfaces, where that is not certain: `host` is another machine, is translated on the way
    (NAT, a Kubernetes service), or /etc/hosts names this machine as a loopback address that others do not use.
    JAX_COORDINATOR_BIND_ADDRESS counts before it.
    """
    if given := os.environ.get("JAX_COORDINATOR_BIND_ADDRESS"):
        host = given.rpartition(":")[0]
    host = host.strip("[]")
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return None
    for family, kind, _, _, address in found:
        interface = str(address[0])
        own = ipaddress.ip_address(interface.partition("%")[0])
        if own.is_unspecified or (own.is_loopback and host != "localhost" and host != str(own)):
            return None
        with contextlib.suppress(OSError), socket.socket(family, kind) as probe:
            probe.bind((interface, 0))
            return interface
    return None


def _in_brackets(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _likely_addresses(place: ClusterProcess) -> list[str]:
    """Addresses at which others may reach this host, the likeliest first."""
    hosts = [place.coordinator.rpartition(":")[0].strip("[]")]
    with contextlib.suppress(OSError):
        hosts.append(socket.gethostbyname(socket.gethostname()))
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("10.255.255.255", 1))  # sends nothing: asks which interface leads out
        hosts.append(probe.getsockname()[0])
    return list(dict.fromkeys(hosts))
