"""Finding one's place in a cluster: by JAX's detection, by the environment, by the settings."""

import os
import socket

import pytest
from jax._src import clusters
from jax._src.clusters import cloud_tpu_cluster

from champ_jax.common import cluster
from champ_jax.common.cluster import ClusterProcess, find_process
from champ_jax.common.distributed import defaults
from champ_jax.common.errors import InputError

SLURM = {
    "SLURM_JOB_ID": "4103",
    "SLURM_STEP_NODELIST": "node[007-009,012]",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_STEP_NUM_NODES": "4",
    "SLURM_STEP_TASKS_PER_NODE": "1(x4)",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "3",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_MCA_orte_hnp_uri": "8192.0;tcp://10.0.0.5,172.17.0.1:41234",
}
OPEN_MPI_5 = {name: value for name, value in OPEN_MPI.items() if name != "OMPI_MCA_orte_hnp_uri"}
NAMED = {"JAX_COORDINATOR_ADDRESS": "job-0.job:8476", "JAX_NUM_PROCESSES": "4"}
GKE = {"TPU_WORKER_HOSTNAMES": "localhost,t1", "TPU_WORKER_ID": "1", "JAX_PLATFORMS": "tpu"}
PREFIXES = (
    "SLURM_",
    "OMPI_",
    "PMIX_",
    "JAX_COORDINATOR",
    "JAX_NUM_PROC",
    "JAX_PROCESS_ID",
    "JAX_LOCAL",
    "TPU_",
    "JOB_",
)


@pytest.fixture
def environment(monkeypatch):
    """Sets variables of a launcher in an environment that has none; the host counts as a TPU's."""
    for name in list(os.environ):
        if name.startswith((*PREFIXES, "KUBERNETES_", "MEGASCALE_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    monkeypatch.setattr(cloud_tpu_cluster.GceTpuCluster, "is_env_present", classmethod(lambda cls: False))  # a query
    monkeypatch.setenv("MEGASCALE_COORDINATOR_ADDRESS", "")
    monkeypatch.setenv("MEGASCALE_NUM_SLICES", "")
    monkeypatch.setenv("MEGASCALE_SLICE_ID", "")

    def set_all(variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return set_all


def settings(**fields):
    config = defaults()
    config.update(fields)
    return config


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8"}, None),  # in a batch script, outside srun
        (SLURM | {"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, None),
        (SLURM, ("SLURM", "node007", 4, 2)),
        (SLURM | {"SLURM_STEP_NODELIST": "a,b"}, ("SLURM", "a", 4, 2)),
        (SLURM | {"SLURM_STEP_TASKS_PER_NODE": "2(x2)", "SLURM_LOCALID": "1"}, ("SLURM", "node007", 4, 2, (1,))),
        (SLURM | {"JAX_LOCAL_DEVICE_IDS": "0,1", "SLURM_STEP_TASKS_PER_NODE": "2"}, ("SLURM", "node007", 4, 2)),
        (OPEN_MPI, ("Open MPI", "10.0.0.5", 4, 3, (1,))),
        (OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"}, None),
        (SLURM | OPEN_MPI, ("Open MPI", "10.0.0.5", 4, 3, (1,))),  # mpirun within a SLURM job
        (GKE, ("GKE", "localhost", 2, 1)),
        (GKE | {"JAX_PLATFORMS": "cpu"}, None),
        ({"TPU_WORKER_HOSTNAMES": "localhost", "JAX_PLATFORMS": "tpu"}, None),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None),  # a pod by itself
    ],
)
def test_jax_detects_the_cluster(environment, variables, place):
    environment(variables)
    found = find_process(settings())
    if place is None:
        assert found is None
        return
    source, host, *numbers = place
    address, *detected, _ = clusters.ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, 1)
    assert found == ClusterProcess(source, address, *numbers)
    assert [found.processes, found.process] == detected
    assert address.rpartition(":")[0] == host


def test_a_kubernetes_indexed_job_is_asked_about_by_jax(environment, monkeypatch):
    environment({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "2"})
    answers = {"is_env_present": True, "get_process_count": 4, "get_coordinator_address": "job-0.job:55527"}
    for name, answer in answers.items():  # they would ask the cluster's API
        monkeypatch.setattr(clusters.K8sCluster, name, classmethod(lambda cls, *_, answer=answer: answer))
    assert find_process(settings()) == ClusterProcess("Kubernetes", "job-0.job:55527", 4, 2)


@pytest.mark.parametrize(
    ("variables", "place"),
    [
        (OPEN_MPI_5 | {"JAX_COORDINATOR_ADDRESS": "first:1234"}, ("first:1234", 4, 3, (1,))),
        (SLURM | {"JAX_COORDINATOR_ADDRESS": "first:1234"}, ("first:1234", 4, 2)),
        (NAMED | {"JOB_COMPLETION_INDEX": "3"}, ("job-0.job:8476", 4, 3)),
        (NAMED | {"JAX_PROCESS_ID": "0"}, ("job-0.job:8476", 4, 0)),
        (NAMED | {"JAX_PROCESS_ID": "0", "JAX_COORDINATOR_ADDRESS": "[::1]:80"}, ("[::1]:80", 4, 0)),
        ({"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "1", "JAX_PROCESS_ID": "0"}, None),
    ],
)
def test_the_environment_names_the_coordinator(environment, variables, place):
    environment(variables)
    assert find_process(settings()) == (None if place is None else ClusterProcess("the coordinator given", *place))


def test_settings_go_before_the_environment(environment):
    environment(SLURM)
    given = settings(coordinator="here:1", processes=2, process=1)
    assert find_process(given) == ClusterProcess("the coordinator given", "here:1", 2, 1)
    assert find_process(settings(coordinator="none")) is None


@pytest.mark.parametrize(
    ("fields", "variables", "words"),
    [
        ({"coordinator": "here", "processes": 2, "process": 0}, {}, "coordinator=here: expected HOST:PORT, 'auto' or"),
        ({"coordinator": "a:70000", "processes": 2, "process": 0}, {}, "coordinator=a:70000: expected HOST:PORT"),
        ({"coordinator": "here:1"}, {}, "process unknown of unknown at here:1: set .*JAX_NUM_PROCESSES"),
        ({"coordinator": "here:1", "processes": 2, "process": 2}, {}, "process 2 of 2 at here:1"),
        ({"processes": 2}, {}, "2 processes, but no launcher gives the address of process 0: set it"),
        ({"processes": -1}, {}, "--config.distributed.processes=-1: expected a whole number of at least 0"),
        ({"timeout": float("nan")}, {}, "--config.distributed.timeout=nan: expected a number from 1 to 86,400"),
        ({}, SLURM | {"SLURM_NTASKS": "1", "JAX_PROCESS_ID": "3"}, "process 3 of 1: set"),
        ({}, NAMED, "process unknown of 4 at job-0.job:8476"),
        ({}, {"JAX_NUM_PROCESSES": "4"}, "4 processes, but no launcher gives the address of process 0"),
        (
            {},
            OPEN_MPI_5,
            "mpirun -x JAX_COORDINATOR_ADDRESS=HOST:PORT for Open MPI 5|requires mpi4py",
        ),  # JAX 0.12 detects it
        ({}, OPEN_MPI | {"OMPI_MCA_orte_hnp_uri": "x"}, "Open MPI: its description of the cluster is not understood"),
        ({}, SLURM | {"SLURM_PROCID": "x"}, "SLURM: its description of the cluster is not understood .*'x'"),
        ({}, NAMED | {"JAX_PROCESS_ID": "x"}, "JAX_PROCESS_ID=x: expected a whole number"),
    ],
)
def test_what_is_incomplete_is_named(environment, fields, variables, words):
    environment(variables)
    with pytest.raises(InputError, match=words):
        find_process(settings(**fields))


def test_the_coordinator_listens_on_the_address_that_the_run_uses(environment, monkeypatch):
    assert cluster._own_interface("127.0.0.1") == "127.0.0.1"
    assert cluster._own_interface("localhost") in ("127.0.0.1", "::1")
    assert cluster._own_interface("192.0.2.1") is None  # another machine, or an address that is translated
    assert cluster._own_interface("no-such-host.invalid") is None
    debian = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.1.1", 0))]  # /etc/hosts: this host's name
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: debian)
    assert cluster._own_interface("node1") is None
    monkeypatch.undo()
    environment({"JAX_COORDINATOR_BIND_ADDRESS": "0.0.0.0:1234"})
    assert cluster._own_interface("127.0.0.1") is None
