"""What MPI's and other launchers of tasks say of the tasks they started, in one table.

``mpirun -n 4 elrun train.py`` starts four elruns, which are the four nodes of one job. Each finds
its rank and their number in variables that differ from launcher to launcher. Few launchers say on
which hosts the tasks are; the scheduler beneath them does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from ...rendezvous.named_tuple import NamedTuple
from ..commandline.converters import whole_number
from .host_lists import first_host, host_in_file, host_in_list, hosts_of_open_mpi

# Below 32768, where Linux begins to hand out ports by itself.
FIRST_PORT, PORTS = 20000, 10000

_FLUX_TIMEOUT_S = 10
_MOST_ANCESTORS = 64

_HOST_FILES = ("PBS_NODEFILE", "PE_HOSTFILE", "OAR_NODEFILE", "COBALT_NODEFILE")
"""Files of PBS, Grid Engine, OAR and Cobalt: a line a slot or a host, which stands first in it."""


class Launcher(NamedTuple):
    """The variables by which a launcher tells its tasks of each other.

    Args:
        name: What people call it.
        rank: Place of this task among all of them.
        local_size: Number of those on this host; may be unset.
        jobs: What names this start of tasks, the first that is set.
        nodes: The number of hosts, where that is set and the local size is not.
    """

    name: str
    rank: str
    size: str
    local_size: str
    jobs: tuple[str, ...]
    nodes: str = ""


LAUNCHERS = (
    # jsrun sets Open MPI's variables as well, and Flux and PALS set PMI's.
    Launcher(
        "jsrun",
        "JSM_NAMESPACE_RANK",
        "JSM_NAMESPACE_SIZE",
        "JSM_NAMESPACE_LOCAL_SIZE",
        ("LSB_JOBID",),
    ),
    Launcher(
        "Open MPI",
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        ("PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"),
    ),
    Launcher(
        "MVAPICH",
        "MV2_COMM_WORLD_RANK",
        "MV2_COMM_WORLD_SIZE",
        "MV2_COMM_WORLD_LOCAL_SIZE",
        (),
    ),
    Launcher("Flux", "FLUX_TASK_RANK", "FLUX_JOB_SIZE", "", ("FLUX_JOB_ID",), "FLUX_JOB_NNODES"),
    Launcher("PALS", "PALS_RANKID", "PMI_SIZE", "PALS_LOCAL_SIZE", ("PALS_APID",)),
    # MPICH, Intel MPI and Cray's start tasks by Hydra.
    Launcher("mpiexec", "PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS", ("PMI_JOBID",)),
)


class Tasks(NamedTuple):
    """The elruns that a launcher started together.

    Args:
        rank: Place of this one among them.
        local_size: Number of those on this host; 0: not known.
        job: What names this start of tasks; may be empty.
        host: A host with one of them; empty: not known.
    """

    launcher: str
    rank: int
    size: int
    local_size: int
    job: str
    host: str

    @property
    def endpoint(self) -> str:
        """Where they meet, at a port that no other job is likely to use; empty: not known."""
        if not self.host:
            return ""
        import zlib  # few jobs

        port = FIRST_PORT + zlib.crc32(self.job.encode("utf-8", "surrogateescape")) % PORTS
        return f"[{self.host}]:{port}" if ":" in self.host else f"{self.host}:{port}"


def read_tasks(variables: Mapping[str, str]) -> Tasks | None:
    """Return the tasks that this elrun is one of, or None if it was started alone.

    What a worker starts is none: the tasks are taken by the job that the worker belongs to.
    """
    if "TORCHELASTIC_RUN_ID" in variables:
        return None
    for launcher in LAUNCHERS:
        rank, size = (_number(variables, name) for name in (launcher.rank, launcher.size))
        if rank is None or size is None or not 0 <= rank < size:
            continue
        if size == 1:
            return None
        local_size = _number(variables, launcher.local_size) or 0
        if launcher.nodes and variables.get(launcher.nodes) == "1":
            local_size = size
        is_one_host = local_size == size
        job = next((variables[name] for name in launcher.jobs if variables.get(name)), "")
        if is_one_host and not job:
            starter = str(_starter(launcher.rank))
            job = ".".join(filter(None, (_scheduler_job(variables), starter)))
        return Tasks(
            launcher.name,
            rank,
            size,
            local_size,
            job or _scheduler_job(variables),
            "localhost" if is_one_host else _host(launcher.name, variables),
        )
    return None


def _starter(variable: str) -> int:
    """Return the process of the launcher that started all tasks of this host.

    A task may be a shell that starts elrun. So it is the nearest ancestor that is no task itself.

    Args:
        variable: One that the launcher sets for its tasks.
    """
    pid = os.getppid()
    mark = f"{variable}=".encode()
    for _ in range(_MOST_ANCESTORS):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                is_task = any(each.startswith(mark) for each in file.read().split(b"\0"))
            with open(f"/proc/{pid}/stat", "rb") as file:
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except (OSError, ValueError, IndexError):  # it has ended, or is somebody else's
            return pid
        if not is_task or parent <= 1:
            return pid
        pid = parent
    return pid


def _number(variables: Mapping[str, str], name: str) -> int | None:
    number = whole_number(variables.get(name, ""))
    return None if number is None or number < 0 else number


def _scheduler_job(variables: Mapping[str, str]) -> str:
    names = ["PBS_JOBID", "LSB_JOBID", "SLURM_JOB_ID", "OAR_JOB_ID", "COBALT_JOBID"]
    if "PE_HOSTFILE" in variables:  # Grid Engine's name of it may be anybody's
        names.append("JOB_ID")
    return next((variables[name] for name in names if variables.get(name)), "")


def _host(launcher: str, variables: Mapping[str, str]) -> str:
    """Return a host with one of the tasks, from the first source that has one; or nothing."""
    sources: list[Callable[[], str]] = [lambda: variables.get("MASTER_ADDR", "")]
    if launcher == "Open MPI":
        sources.append(lambda: _host_of_open_mpi(variables))
    if launcher == "Flux":
        sources.append(lambda: _host_of_flux(variables))
    place = int(launcher == "jsrun")  # starts no task where the batch script runs, which LSF names
    sources += [
        *(lambda name=name: host_in_file(variables.get(name, ""), 0) for name in _HOST_FILES),
        lambda: host_in_file(variables.get("LSB_DJOB_HOSTFILE", ""), place),
        lambda: host_in_list(variables.get("LSB_MCPU_HOSTS", "").split()[::2], place),
        lambda: host_in_list(variables.get("LSB_HOSTS", "").split(), place),
        lambda: first_host(variables.get("SLURM_JOB_NODELIST", "")),
    ]
    return next(filter(None, (source() for source in sources)), "")


def _host_of_open_mpi(variables: Mapping[str, str]) -> str:
    """Return a host that has a task, from the list that mpirun gives its daemons.

    mpirun's own host stands first and may have no task; the next one has one.
    """
    hosts = hosts_of_open_mpi(variables.get("OMPI_MCA_orte_node_regex", ""))
    return hosts[1] if len(hosts) > 1 else ""


def _host_of_flux(variables: Mapping[str, str]) -> str:
    """Return the first host of a Flux job: no variable has it, a command of Flux's has."""
    import subprocess  # few jobs

    try:
        asked = subprocess.run(
            ["flux", "hostlist", "--nth=0", "local"],  # noqa: S607  as PATH has it
            check=False,
            capture_output=True,
            env=dict(variables),
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=_FLUX_TIMEOUT_S,
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return ""
    return asked.stdout.strip() if asked.returncode == 0 else ""
