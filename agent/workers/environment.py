"""What a worker finds in its environment."""

from __future__ import annotations

import os
import sys

from ...rendezvous.api.parameters import truth_of
from .worker import Worker, WorkerGroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

NCCL_ASYNC_ERROR_HANDLING = "TORCH_NCCL_ASYNC_ERROR_HANDLING"
VISIBLE_DEVICES = "CUDA_VISIBLE_DEVICES"
HIP_VISIBLE_DEVICES = "HIP_VISIBLE_DEVICES"
ROCR_VISIBLE_DEVICES = "ROCR_VISIBLE_DEVICES"
HEALTH_CHECK_PORT = "TORCHELASTIC_HEALTH_CHECK_PORT"
ENABLE_FILE_TIMER = "TORCHELASTIC_ENABLE_FILE_TIMER"
TIMER_FILE = "TORCHELASTIC_TIMER_FILE"
SIGNALS_TO_HANDLE = "TORCHELASTIC_SIGNALS_TO_HANDLE"
UNINTERRUPTIBLE_STATE_TIMEOUT = "TORCHELASTIC_UNINTERRUPTIBLE_STATE_TIMEOUT"

TOTAL_RESTARTS = "ELRUN_TOTAL_RESTARTS"
"""Restarts of the job by elrun and by SLURM together."""

WORKER_HOOK = "ELRUN_WORKER_HOOK"
"""Says whether Python workers keep what ends them (``hook/sitecustomize.py``); yes by default."""

_HOOK_FOLDER = os.path.join(os.path.dirname(__file__), "hook")
_HOOK_ORDER = "ELRUN_WORKER"  # for the hook, which removes it
_MOST_DIGITS = 9
_MOST_OF_A_PATH = 1 << 16  # the kernel takes twice as much in one variable


def earlier_restarts(inherited: Mapping[str, str]) -> int:
    """Return how often SLURM has queued and started the job again.

    Args:
        inherited: The agent's own environment.
    """
    count = inherited.get("SLURM_RESTART_COUNT", "")
    is_count = count.isascii() and count.isdigit() and len(count) <= _MOST_DIGITS
    return int(count) if is_count and "SLURM_JOB_ID" in inherited else 0


def shared_environment(local_world_size: int, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return that part of what elrun adds which is the same for every worker of every attempt.

    Args:
        inherited: The agent's own environment; what the user set there is kept.
    """
    shared = {NCCL_ASYNC_ERROR_HANDLING: inherited.get(NCCL_ASYNC_ERROR_HANDLING, "1")}
    if local_world_size > 1:
        # Each worker's thread pools would otherwise claim every core of the node.
        shared["OMP_NUM_THREADS"] = inherited.get("OMP_NUM_THREADS", "1")
    return shared


def worker_environment(
    worker: Worker,
    group: WorkerGroup,
    *,
    restart_count: int,
    run_id: str,
    use_agent_store: bool,
    inherited: Mapping[str, str],
) -> dict[str, str]:
    """Return what elrun adds to a worker's environment.

    The names are torchrun's, as ``torch.distributed.init_process_group`` and many programs
    read them; ``docs/parity.md`` lists them.

    Args:
        group: Its group after a rendezvous.
        use_agent_store: Whether the agent hosts the workers' store.
        inherited: The agent's own environment; what the user set there is kept.

    Raises:
        ValueError: ``virtual_local_rank`` asks for a GPU that the agent doesn't see.
    """
    spec = group.spec
    added = {
        "RANK": str(worker.global_rank),
        "LOCAL_RANK": str(worker.local_rank),
        "WORLD_SIZE": str(worker.world_size),
        "LOCAL_WORLD_SIZE": str(spec.local_world_size),
        "GROUP_RANK": str(group.group_rank),
        "GROUP_WORLD_SIZE": str(group.group_world_size),
        "ROLE_NAME": spec.role,
        "ROLE_RANK": str(worker.role_rank),
        "ROLE_WORLD_SIZE": str(worker.role_world_size),
        "MASTER_ADDR": str(group.master_addr),
        "MASTER_PORT": str(group.master_port),
        "TORCHELASTIC_RESTART_COUNT": str(restart_count),
        TOTAL_RESTARTS: str(restart_count + earlier_restarts(inherited)),
        "TORCHELASTIC_MAX_RESTARTS": str(spec.max_restarts),
        "TORCHELASTIC_RUN_ID": run_id,
        "TORCHELASTIC_USE_AGENT_STORE": str(use_agent_store),
        **shared_environment(spec.local_world_size, inherited),
    }
    if spec.virtual_local_rank:
        added["LOCAL_RANK"] = "0"
        added |= _one_device(worker.local_rank, inherited)
    return added


def _one_device(local_rank: int, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that show a worker its own GPU only.

    ROCm reads the variable of CUDA as well, but HIP's goes before it; ROCr's leaves some GPUs, and
    what the others name are places among those.
    """
    if inherited.get(HIP_VISIBLE_DEVICES):
        device = _device_of(local_rank, HIP_VISIBLE_DEVICES, inherited)
        return {HIP_VISIBLE_DEVICES: device, VISIBLE_DEVICES: device}
    if VISIBLE_DEVICES in inherited:
        return {VISIBLE_DEVICES: _device_of(local_rank, VISIBLE_DEVICES, inherited)}
    if inherited.get(ROCR_VISIBLE_DEVICES):
        _device_of(local_rank, ROCR_VISIBLE_DEVICES, inherited)
    return {VISIBLE_DEVICES: str(local_rank)}


def _device_of(local_rank: int, name: str, inherited: Mapping[str, str]) -> str:
    devices = [device.strip() for device in inherited[name].split(",") if device.strip()]
    if local_rank >= len(devices):
        raise ValueError(
            f"--virtual-local-rank: local rank {local_rank} has no GPU: "
            f"{name}={inherited[name]!r} shows {len(devices)}"
        )
    return devices[local_rank]


def hooked_environment(
    environment: dict[str, str], command: Sequence[str], error_file: str
) -> dict[str, str]:
    """Return a worker's environment, with the way to our hook where its program takes one.

    Args:
        environment: The worker's whole environment.
        error_file: Where the hook leaves what ends the worker; "" is nowhere.
    """
    is_wanted = truth_of(environment.get(WORKER_HOOK, "")) is not False
    if not (error_file and is_wanted and _takes_hook(command, environment)):
        return environment
    return with_hook(environment, error_file)


def with_hook(environment: Mapping[str, str], error_file: str = "") -> dict[str, str]:
    """Return an environment with which a Python interpreter imports our ``sitecustomize`` first.

    That one makes it again what it is here.

    Args:
        environment: A whole environment.
        error_file: Where it leaves what ends the process; "" is nowhere.
    """
    path = environment.get("PYTHONPATH")
    order = f"{0 if path is None else 1} {os.getpid()} {error_file}"
    hooked = f"{_HOOK_FOLDER}{os.pathsep}{path}" if path else _HOOK_FOLDER
    return {**environment, "PYTHONPATH": hooked, _HOOK_ORDER: order}


def is_hooked(environment: Mapping[str, str]) -> bool:
    """Return whether an interpreter with this environment imports our ``sitecustomize`` first."""
    return _HOOK_ORDER in environment


def _takes_hook(command: Sequence[str], environment: Mapping[str, str]) -> bool:
    if os.pathsep in _HOOK_FOLDER or len(environment.get("PYTHONPATH", "")) > _MOST_OF_A_PATH:
        return False
    interpreter, *words = command
    if interpreter == sys.executable and words[:1] == ["-u"] and words[1:2] != []:
        word = words[1]
        if word in ("-", "-m") or not word.startswith("-"):
            return True
    from .interpreter import program_of  # only what elrun's command line doesn't make

    try:
        return bool(program_of(command, environment.get("PATH", os.defpath)))
    except (ValueError, OSError):  # another program, or one that can't be read
        return False
