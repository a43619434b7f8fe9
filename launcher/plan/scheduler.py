"""What SLURM, MPI or Kubernetes says about this node, as answers to options that were not given.

``srun`` and ``mpirun`` start one elrun on each node and tell each which nodes there are, so that
nobody has to say it again. What the user gave stands; a place to meet that was given is a recipe of
the user's own, which is left alone but for what else the nodes must know of each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...rendezvous.named_tuple import NamedTuple
from ..commandline.arguments import Answer, Given, Origin, Refusal, spelling_of
from ..commandline.converters import NodeRange, whole_number
from ..commandline.options import STANDALONE
from .host_lists import first_host
from .task_launchers import FIRST_PORT, PORTS, Tasks, read_tasks

_STEP_STRIDE = 997

_PLACES = ("rdzv_endpoint", "master_addr", "master_port")


class Step(NamedTuple):
    """The SLURM step that this process is a task of.

    Args:
        tasks: Number of its tasks on all of them.
        task: Place of this task among them.
        node_rank: Place of this node among them.
        hosts: Names of the nodes, as SLURM writes them.
        gpus: Number of the step's GPUs on this node; 0 where SLURM does not tell.
    """

    job: int
    number: int
    nodes: int
    tasks: int
    task: int
    node_rank: int
    hosts: str
    gpus: int

    @property
    def name(self) -> str:
        """What SLURM calls it."""
        return f"{self.job}.{self.number}"

    @property
    def endpoint(self) -> str:
        """Where the nodes meet: at the first, at a port that no step beside it is likely to use."""
        port = FIRST_PORT + (self.job + self.number * _STEP_STRIDE) % PORTS
        return f"{first_host(self.hosts)}:{port}"


def ask_scheduler(given: Given, variables: Mapping[str, str]) -> tuple[Given, tuple[str, ...]]:
    """Return what the user gave and, beside it, what the scheduler says; and a notice of that.

    Args:
        given: The options and SCRIPT.

    Raises:
        Refusal: SLURM started several tasks on a node, and each would be an agent; the job takes
            more nodes than there are tasks; or nothing says where the tasks meet.
    """
    step, tasks = read_step(variables), read_tasks(variables)
    if tasks is not None and not _are_those_of(tasks, step):
        return _join_tasks(given, tasks)
    if step is not None:
        _check_size(given, step, variables)
    if step is not None and step.nodes > 1 and _leaves_meeting_open(given):
        return _join_step(given, step)
    if step is not None and step.tasks > 1 and _is_alone_by_default(given):
        return given, _one_voice(step, _tell_of_several(step))
    rank = _rank_among(given["nnodes"].maximum, step, variables)
    if step is None and tasks is None and _is_alone_by_default(given):
        return given, _tell_of_unknown_others(variables) or _tell_of_pods(given, variables)
    if rank is None or not _wants_rank(given):
        return given, ()
    return _with(given, {"node_rank": rank}), ()


def read_step(variables: Mapping[str, str]) -> Step | None:
    """Return the SLURM step that this process is a task of, or None.

    A batch script is none. Neither is what a worker starts: the nodes of its step are taken.
    """
    if "TORCHELASTIC_RUN_ID" in variables:
        return None
    try:
        return Step(
            job=int(variables["SLURM_JOB_ID"]),
            number=int(variables["SLURM_STEP_ID"]),
            nodes=int(variables["SLURM_STEP_NUM_NODES"]),
            tasks=int(variables["SLURM_STEP_NUM_TASKS"]),
            task=int(variables["SLURM_PROCID"]),
            node_rank=int(variables["SLURM_NODEID"]),
            hosts=variables["SLURM_STEP_NODELIST"],
            gpus=whole_number(variables.get("SLURM_GPUS_ON_NODE", "")) or 0,
        )
    except (KeyError, ValueError):
        return None


def _rank_among(nodes: int, step: Step | None, variables: Mapping[str, str]) -> int | None:
    """Return this node's place among so many, from the scheduler that counts as many."""
    if step is not None and step.tasks == step.nodes == nodes:
        return step.node_rank
    index = whole_number(variables.get("JOB_COMPLETION_INDEX") or _rank_of_pmix(step, variables))
    return index if index is not None and 0 <= index < nodes else None


def _rank_of_pmix(step: Step | None, variables: Mapping[str, str]) -> str:
    """Return the task's rank, if as far as is known each task may be a node, and no worker's."""
    is_node = step is None and "TORCHELASTIC_RUN_ID" not in variables
    return variables.get("PMIX_RANK", "") if is_node else ""


def _leaves_meeting_open(given: Given) -> bool:
    if given["standalone"] or any(given.is_given(name) for name in _PLACES):
        return False
    if given.is_given("rdzv_backend") and given["rdzv_backend"] != "c10d":
        return False
    return not given.is_given("nnodes") or given["nnodes"].maximum > 1


def _is_alone_by_default(given: Given) -> bool:
    if given["standalone"] or given["rdzv_backend"] == STANDALONE:
        return False
    return not given.is_given("nnodes")


def _wants_rank(given: Given) -> bool:
    """Return whether a rank from the scheduler is of use.

    For ``static`` it is the node's rank. Where the nodes agree on ranks it is a wish, by which
    a pod that comes back has its own again.
    """
    backend: str = given["rdzv_backend"]
    return (
        (backend in ("static", "c10d") or backend.startswith("etcd"))
        and not given.is_given("node_rank")
        and given["nnodes"].maximum > 1
    )


def _check_size(given: Given, step: Step, variables: Mapping[str, str]) -> None:
    """Refuse to wait for nodes that nothing will start.

    Where the user says where the nodes meet, more of them may come from other steps, and from
    another component of a heterogeneous job.
    """
    wanted = given["nnodes"].minimum
    if wanted <= max(step.nodes, step.tasks) or "SLURM_HET_SIZE" in variables:
        return
    if _leaves_meeting_open(given):
        nodes = "1 node" if step.nodes == 1 else f"{step.nodes} nodes"
        raise Refusal(
            f"{given.said('nnodes')}: SLURM step {step.name} has {nodes}; give srun --nodes "
            f"{wanted}, or --rdzv-backend c10d and --rdzv-endpoint HOST:PORT for nodes that other "
            "steps start"
        )


def _join_step(given: Given, step: Step) -> tuple[Given, tuple[str, ...]]:
    if step.tasks != step.nodes:
        raise Refusal(
            f"SLURM step {step.name} has {step.tasks} tasks on {step.nodes} nodes, and each would "
            "be an agent; give srun --ntasks-per-node=1, and elrun --nproc-per-node, which starts "
            "the workers (or --standalone for a job of its own in each task)"
        )
    said = {
        "nnodes": NodeRange(step.nodes, step.nodes),
        "rdzv_backend": "c10d",
        "rdzv_endpoint": step.endpoint,
        "rdzv_id": step.name,
        "nproc_per_node": step.gpus,
    }
    taken = {
        option: value for option, value in said.items() if value and not given.is_given(option)
    }
    notice = " ".join(f"{spelling_of(option)} {value}" for option, value in taken.items())
    if not given.is_given("node_rank"):
        taken["node_rank"] = step.node_rank
    return _with(given, taken), _one_voice(step, f"from SLURM: {notice}")


def _are_those_of(tasks: Tasks, step: Step | None) -> bool:
    """Return whether srun started the tasks itself; mpirun's are beneath a step of one a node."""
    return step is not None and (tasks.size, tasks.rank) == (step.tasks, step.task)


def _join_tasks(given: Given, tasks: Tasks) -> tuple[Given, tuple[str, ...]]:
    started = f"{tasks.launcher} started {tasks.size} elruns"
    if given["standalone"] or given["rdzv_backend"] == STANDALONE:
        return given, ()
    if given["nnodes"].minimum > tasks.size:
        raise Refusal(f"{given.said('nnodes')}: {started}, one for each node; start as many")
    taken: dict[str, Any] = {}
    if not given.is_given("nnodes"):
        taken["nnodes"] = NodeRange(tasks.size, tasks.size)
    nodes = taken.get("nnodes", given["nnodes"]).maximum
    if nodes > 1 and not any(given.is_given(name) for name in _PLACES):
        if given.is_given("rdzv_backend") and given["rdzv_backend"] != "c10d":
            return given, ()  # which says what is missing
        if not tasks.endpoint:
            raise Refusal(
                f"{started}, and does not say on which hosts; give --rdzv-endpoint HOST:PORT with "
                "the host of one of them, or --standalone for a job of its own in each"
            )
        taken |= {"rdzv_backend": "c10d", "rdzv_endpoint": tasks.endpoint}
        if tasks.job and not given.is_given("rdzv_id"):
            taken["rdzv_id"] = tasks.job
    notice = " ".join(f"{spelling_of(option)} {value}" for option, value in taken.items())
    if nodes == tasks.size > 1 and not given.is_given("node_rank"):
        taken["node_rank"] = tasks.rank
    notices = [f"from {tasks.launcher}: {notice}"] if notice else []
    if tasks.local_size > 1:
        notices.append(
            f"{tasks.launcher} started {tasks.local_size} elruns on this host, and the workers of "
            "each have local ranks from 0; start one a host, and give elrun --nproc-per-node, for "
            "workers that share its devices"
        )
    return _with(given, taken), tuple(notices) if tasks.rank == 0 else ()


def _tell_of_several(step: Step) -> str:
    how = f"--nnodes {step.nodes}"
    if step.nodes == 1:
        how = f"srun --ntasks-per-node=1, and elrun --nproc-per-node {step.tasks}"
    return (
        f"SLURM step {step.name} has {step.tasks} tasks, and each runs a job of its own; give "
        f"{how} for one job, or --standalone if that is meant"
    )


def _tell_of_unknown_others(variables: Mapping[str, str]) -> tuple[str, ...]:
    """Tell of tasks of a PMIx launcher such as prterun, which sets no variable for their number."""
    rank = _rank_of_pmix(None, variables)
    if not whole_number(rank):
        return ()
    sentence = (
        f"this is task {rank} of a PMIx launcher (PMIX_RANK), which does not say how many tasks "
        "there are, so each runs a job of its own; for one job give --nnodes and --rdzv-endpoint "
        "HOST:PORT, or --standalone if that is meant"
    )
    return (sentence,)


def _tell_of_pods(given: Given, variables: Mapping[str, str]) -> tuple[str, ...]:
    """Tell of the other pods of a job, as Kubeflow's PyTorchJob or Volcano names them to each pod.

    A worker has the same variables; what it starts is a job of its own.
    """
    size = whole_number(variables.get("WORLD_SIZE", "")) or 0
    if size <= 1 or "TORCHELASTIC_RUN_ID" in variables or not _leaves_meeting_open(given):
        return ()
    known = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if variables.get(name)]
    said = "".join(f" {name}={variables[name]}" for name in known)
    rank = "$RANK" if "RANK" in known else "RANK"
    host = "$MASTER_ADDR" if "MASTER_ADDR" in known else "HOST"
    port = " --master-port $MASTER_PORT" if "MASTER_PORT" in known else ""
    sentence = (
        f"the environment has WORLD_SIZE={size}{said}, as for one of {size} nodes, and each such "
        "elrun runs a job of its own; for one job give "
        f"--nnodes $WORLD_SIZE --node-rank {rank} --master-addr {host}{port}, "
        "or --standalone or --nnodes 1 if that is meant"
    )
    return (sentence,)


def _one_voice(step: Step, notice: str) -> tuple[str, ...]:
    return (notice,) if step.task == 0 else ()


def _with(given: Given, said: Mapping[str, Any]) -> Given:
    answers = {name: Answer(value, Origin.SCHEDULER, str(value)) for name, value in said.items()}
    return Given({**given.answers, **answers}, given.command)
