"""What ``elrun doctor`` looks at on this node: Python, torch, devices, memory, limits, folders."""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping

from ...agent.failures.memory_events import MemoryEvents
from ...agent.hardware.cpus import allowed_cpus, cpu_quota
from ...agent.hardware.devices import Devices, count_workers, read_devices
from ...agent.monitoring.node_check import NodeCheck
from ...agent.system.pidfd import wait_briefly
from ...rendezvous.errors import UnfitNodeError
from ..commandline.version import __version__
from .check import Check, failed, ok, warning

OLDEST_TORCH = (2, 4)
_SMALL_SHM_BYTES = 1 << 30
_LITTLE_SPACE_BYTES = 100 << 20
_FEW_DESCRIPTORS = 4096
_A_DAY_AFTER_WRITING = 1_790_000_000  # a clock before this, in 2026, is wrong
_SECONDS_TO_START = 15
_MOST_OF_A_VERSION = 1 << 16
_GIB = 1 << 30
_SHM = "/dev/shm"  # no file of ours is there: its space is asked for

_WHERE = """
import importlib.util, sys
spec = importlib.util.find_spec("torch")
print(sys.version.split()[0], (spec and spec.submodule_search_locations or [""])[0], sep="\\n")
"""


class Interpreter:
    """The interpreter that runs the workers, and the torch that it would import."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.problem = ""
        self.torch_problem = ""
        self.version, self.torch_folder = self._ask()

    def _ask(self) -> tuple[str, str]:
        if self.path == sys.executable:
            try:
                spec = importlib.util.find_spec("torch")
            except Exception as error:  # noqa: BLE001  an import hook's, of somebody else
                self.torch_problem = f"an import hook fails: {error!r}"
                spec = None
            folders = list(spec.submodule_search_locations or ()) if spec else []
            return sys.version.split()[0], folders[0] if folders else ""
        try:
            asked = subprocess.run(
                [self.path, "-c", _WHERE],
                capture_output=True,
                check=True,
                stdin=subprocess.DEVNULL,
                text=True,
                timeout=_SECONDS_TO_START,
            )
            version, folder = asked.stdout.split("\n")[:2]
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            self.problem = str(error)
            return "", ""
        return version, folder

    def torch_build(self) -> dict[str, str]:
        """Return ``__version__``, ``cuda`` and ``hip`` of torch, as far as its files name them."""
        try:
            path = os.path.join(self.torch_folder, "version.py")
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read(_MOST_OF_A_VERSION)
        except OSError:
            return {}
        pattern = r"^(__version__|cuda|hip)\b[^=\n]*=\s*['\"]([^'\"]+)['\"]"
        return dict(re.findall(pattern, text, re.MULTILINE))


def check_python(interpreter: Interpreter) -> Iterator[Check]:
    """Look at elrun, and at the workers' interpreter."""
    yield ok("elrun", f"{__version__} under Python {sys.version.split()[0]}")
    name = "Python of the workers"
    if interpreter.problem:
        advice = "give PYTHON_EXEC an interpreter that starts"
        yield failed(name, f"{interpreter.path} does not start: {interpreter.problem}", advice)
        return
    yield ok(name, f"{interpreter.version}, {interpreter.path}")


def check_torch(interpreter: Interpreter, devices: Devices) -> Iterator[Check]:
    """Look at torch without importing it."""
    if interpreter.problem:
        return
    if not interpreter.torch_folder:
        advice = "install torch there, or set PYTHON_EXEC to the interpreter that has it"
        found = interpreter.torch_problem or f"{interpreter.path} has no torch"
        yield warning("torch", found, advice)
        return
    build = interpreter.torch_build()
    version = build.get("__version__", "")
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    kind = next((f"{each} {build[each]}" for each in ("cuda", "hip") if build.get(each)), "CPU")
    found = f"{version or 'of an unknown version'} for {kind.replace('cuda', 'CUDA')}"
    oldest = ".".join(map(str, OLDEST_TORCH))
    if numbers and numbers < OLDEST_TORCH:
        yield failed("torch", found, f"install torch {oldest} or newer")
    elif kind == "CPU" and (devices.nvidia or devices.amd):
        yield warning("torch", f"{found}, on a node with GPUs", "install a build for these GPUs")
    else:
        yield ok("torch", found)


def check_devices(devices: Devices, variables: Mapping[str, str]) -> Iterator[Check]:
    """Look at the GPUs and at what hides them."""
    kinds = {"NVIDIA": devices.nvidia, "AMD": devices.amd}
    listed = [f"{len(gpus)} of {maker}" for maker, gpus in kinds.items() if gpus]
    if devices.xpu:
        listed.append(f"{devices.xpu} of Intel")
    found = ", ".join(listed) or "none"
    driver = _first_line("/proc/driver/nvidia/version")
    if devices.nvidia and (version := re.search(r"\d+\.\d+(\.\d+)?", driver)):
        found += f", driver {version[0]}"
    if devices.nvidia or devices.amd:
        try:
            visible = count_workers("gpu", variables, lambda _kind: devices).workers
        except ValueError as error:
            yield warning("GPUs", str(error), "change or unset the variable")
            return
        if visible != len(devices.nvidia or devices.amd):
            found += f"; {visible} visible to this job"
    yield ok("GPUs", found)


def check_workers(workers: int, devices: Devices, variables: Mapping[str, str]) -> Iterator[Check]:
    """Look whether the workers fit to the devices."""
    found = "1 worker" if workers == 1 else f"{workers} workers"
    gpus: int | None = None
    if devices.nvidia or devices.amd:
        try:
            gpus = count_workers("gpu", variables, lambda _kind: devices).workers
        except ValueError:  # said already
            gpus = None
    if gpus is not None and workers > gpus:
        share = f"{found} on {gpus} visible GPUs"
        yield warning("workers", share, "give --nproc-per-node gpu for one worker a GPU")
    elif gpus is not None and workers < gpus:
        spare = f"{found}, {gpus} visible GPUs"
        yield warning("workers", spare, "give --nproc-per-node gpu to use all of them")
    else:
        yield ok("workers", found)


def check_cpus() -> Iterator[Check]:
    """Look at the CPUs of this process and at the quota of its cgroup."""
    cpus, quota = allowed_cpus(), cpu_quota()
    found = f"{cpus} of {os.cpu_count()} may be used"
    if quota < cpus:
        advice = "raise the container's limit, or give --nproc-per-node cpu, which counts it"
        yield warning("CPUs", f"{found}, but the cgroup's quota is {quota:g}", advice)
    else:
        yield ok("CPUs", found)


def check_memory() -> Iterator[Check]:
    """Look at memory, the cgroup's limit, and ``/dev/shm``."""
    limit = MemoryEvents.now().limit_bytes()
    available = re.search(r"MemAvailable:\s*(\d+) kB", _whole("/proc/meminfo"))
    found = f"{int(available[1]) / (1 << 20):.1f} GiB available" if available else "unknown"
    yield ok("memory", f"{found}, limit {limit / _GIB:.1f} GiB" if limit else found)
    space = os.statvfs(_SHM)
    size, free = space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize
    found = f"{free / _GIB:.2f} of {size / _GIB:.2f} GiB free"
    if free < _SMALL_SHM_BYTES:
        advice = (
            "DataLoader workers and NCCL need more: give docker --shm-size 8g or --ipc host, and "
            "a pod of Kubernetes an emptyDir with medium Memory at /dev/shm"
        )
        yield warning(_SHM, found, advice)
    else:
        yield ok(_SHM, found)


def check_limits() -> Iterator[Check]:
    """Look at the limits that end or starve workers."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{_shown(soft)} open files, at most {_shown(hard)}"
    if hard != resource.RLIM_INFINITY and hard < _FEW_DESCRIPTORS:
        yield warning("limits", found, "raise ulimit -n: DataLoaders hold many files open")
    else:
        yield ok("limits", found)
    ending = {
        "-t": (resource.RLIMIT_CPU, "seconds of CPU time, then SIGXCPU"),
        "-f": (resource.RLIMIT_FSIZE, "bytes a file, then SIGXFSZ"),
        "-v": (resource.RLIMIT_AS, "bytes of address space, which CUDA alone exceeds"),
    }
    for letter, (limit, meaning) in ending.items():
        value, _ = resource.getrlimit(limit)
        if value != resource.RLIM_INFINITY:
            advice = f"ulimit {letter} unlimited, unless it is meant"
            yield warning("limits", f"{value} {meaning}", advice)
    locked, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if os.path.isdir("/dev/infiniband") and locked != resource.RLIM_INFINITY:
        found = f"{locked} bytes of locked memory, on a node with InfiniBand"
        yield failed("limits", found, "ulimit -l unlimited, else NCCL can't register its buffers")


def check_folders(log_dir: str | None, variables: Mapping[str, str]) -> Iterator[Check]:
    """Look whether the temporary folder and the log folder take files."""
    folder, wanted = tempfile.gettempdir(), variables.get("TMPDIR")
    advice = "set TMPDIR to a folder that can be written"
    if wanted and os.path.abspath(wanted) != folder:
        found = f"{folder} is used, since TMPDIR={wanted} takes no files"
        yield warning("temporary folder", found, advice)
    yield _folder("temporary folder", folder, advice)
    if log_dir and log_dir != os.devnull:
        place = os.path.abspath(log_dir)
        while not os.path.exists(place):
            place = os.path.dirname(place)
        yield _folder("log folder", place, "give --log-dir a folder that can be written")


def check_health(command: str, timeout_s: float, variables: Mapping[str, str]) -> Iterator[Check]:
    """Run the health check that the job would run before each attempt."""
    try:
        NodeCheck(command, timeout_s, variables, wait_briefly).require_fit_node(None)
    except UnfitNodeError as error:
        yield failed("health check", str(error), "this node would not take part: see what it lacks")
    else:
        yield ok("health check", f"{command!r} succeeded")


def check_clock() -> Iterator[Check]:
    """Look whether the clock was ever set; nodes are compared when they have met."""
    now = time.time()
    found = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if now < _A_DAY_AFTER_WRITING:
        yield failed("clock", found, "set it: certificates and log files depend on it")
    else:
        yield ok("clock", found)


def devices_here() -> Devices:
    """Return this node's devices; a driver that can't be asked has none."""
    try:
        return read_devices("auto")
    except (OSError, ValueError):
        return Devices()


def _folder(name: str, folder: str, advice: str) -> Check:
    try:
        with tempfile.NamedTemporaryFile(dir=folder) as file:
            file.write(b"elrun")
            file.flush()
        space = os.statvfs(folder)
    except OSError as error:
        return failed(name, f"{folder}: {error.strerror}", advice)
    free = space.f_bavail * space.f_frsize
    found = f"{folder}, {free / _GIB:.1f} GiB free"
    return (
        warning(name, found, "free some space") if free < _LITTLE_SPACE_BYTES else ok(name, found)
    )


def _shown(limit: int) -> str:
    return "unlimited" if limit == resource.RLIM_INFINITY else str(limit)


def _first_line(path: str) -> str:
    return _whole(path).partition("\n")[0].strip()


def _whole(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
