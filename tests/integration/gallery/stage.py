"""Puts a kind of death on: prepares a folder, runs elrun or torchrun in a setting, reads it all."""

import contextlib
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from elrun.rendezvous.network.ports import PortClaim
from gallery.kind import Kind

ROWS, COLUMNS = 24, 80
PATIENCE_S = 200
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LEFT_OUT = ("PET_", "SLURM_", "TORCHELASTIC_", "ELRUN_")


@dataclass(frozen=True)
class Screen:
    """What a person sees at the end.

    Args:
        code: Exit code of the launcher.
        text: What stands on the screen, without colours.
    """

    code: int
    text: str

    @property
    def report(self) -> str:
        """What elrun says from its first word about the failure on."""
        return "".join(self.text.partition("elrun: ")[1:])

    @property
    def summary(self) -> str:
        """The failure summary; empty if there is none."""
        found = re.search(r"^elrun: \S+ failed:.*", self.text, re.MULTILINE | re.DOTALL)
        return found[0] if found else ""

    @property
    def head(self) -> str:
        """The summary's first lines, as one: what stands before the table."""
        return " ".join(self.summary.partition("\n\n")[0].split())


def prepare(kind: Kind, folder: Path) -> None:
    """Write the program of a kind."""
    folder.mkdir(exist_ok=True)
    (folder / kind.program).write_text(kind.worker)
    (folder / kind.program).chmod(0o755)
    if kind.stage == "no file":
        (folder / kind.program).unlink()
    if kind.stage == "no mode":
        (folder / kind.program).chmod(0o644)
    if kind.stage == "g++":
        source = folder / f"{kind.program}.cc"
        (folder / kind.program).rename(source)
        subprocess.run(["g++", "-O0", "-o", folder / kind.program, source], check=True)


def why_not(kind: Kind) -> str:
    """Return why a kind can't be put on here; empty if it can."""
    if kind.stage == "g++" and shutil.which("g++") is None:
        return "there is no g++"
    if kind.stage in ("shm", "disk", "cgroup") and os.geteuid() != 0:
        return "needs root"
    if kind.stage == "cgroup" and memory_group() is None:
        return "there is no memory cgroup to be had"
    return ""


def memory_group() -> Path | None:
    """Return the folder of this process's memory cgroup of version 1, if it may have children."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            folder = Path("/sys/fs/cgroup/memory", path.lstrip("/"))
            return folder if os.access(folder, os.W_OK) else None
    return None


def run(
    kind: Kind,
    setting: str,
    folder: Path,
    launcher: Sequence[str],
    patience_s: float = PATIENCE_S,
    *,
    own_names: bool = False,
) -> list[Screen]:
    """Put a kind on in a setting.

    Args:
        kind: What happens.
        setting: One of ``SETTINGS``.
        folder: An empty folder, in which it happens.
        launcher: The command that launches.
        patience_s: After how many seconds a launcher is killed.
        own_names: Whether nodes get host names of their own: node1 and node2.

    Returns:
        The screens of all nodes.
    """
    prepare(kind, folder)
    with contextlib.ExitStack() as ends:
        if setting == "nodes":
            claim = PortClaim.take()
            ends.callback(claim.release)
            options = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
            options += ["--rdzv-endpoint", f"127.0.0.1:{claim.port}", "--rdzv-id", "job"]
        else:
            options = ["--nproc-per-node", "2", *(["--tee", "3"] if setting == "tee" else [])]
        program = kind.after or (kind.program,)
        nodes = []
        for number in range(2 if setting == "nodes" else 1):
            place = folder / "elsewhere" if kind.absent_on == number else folder
            place.mkdir(exist_ok=True)
            conf = ",".join(filter(None, (f"is_host={1 - number}", kind.rdzv_conf)))
            meeting = ["--rdzv-conf", conf] if setting == "nodes" else []
            command = [*launcher, *options, *meeting, *kind.before, *program]
            if own_names:
                command = _named(command, f"node{number + 1}")
            command = ends.enter_context(_staged(kind.stage, command, place))
            nodes.append(_Node(command, place, number, setting == "terminal", patience_s))
        return [node.finish() for node in nodes]


def _named(command: Sequence[str], name: str) -> list[str]:
    return ["unshare", "--uts", *_shell(f"hostname {name}"), *command]


def _shell(first: str) -> list[str]:
    """Return what precedes a command so that a shell does something first."""
    return ["sh", "-c", f'{first} && exec "$@"', "-"]


@contextlib.contextmanager
def _staged(stage: str, command: Sequence[str], place: Path) -> Iterator[list[str]]:
    """Make the machine what a kind needs; give the command that runs on it."""
    small = "mount -t tmpfs -o size=64k small"
    match stage:
        case "shm":
            yield ["unshare", "--mount", *_shell(f"{small} /dev/shm"), *command]
        case "disk":
            (place / "disk").mkdir(exist_ok=True)
            yield ["unshare", "--mount", *_shell(f"{small} disk"), *command]
        case "cgroup":
            group = memory_group() / f"elrun-gallery-{os.urandom(4).hex()}"
            group.mkdir()
            (group / "memory.limit_in_bytes").write_text(str(256 << 20))
            yield [*_shell(f"echo $$ > {group}/cgroup.procs"), *command]
            deadline = time.monotonic() + 10  # the kernel lets go of the dead a moment later
            while time.monotonic() < deadline:
                with contextlib.suppress(OSError):
                    group.rmdir()
                    break
                select.select([], [], [], 0.05)
        case _ if stage.startswith("ulimit"):
            yield [*_shell(stage), *command]
        case _:
            yield list(command)


def _environment(place: Path) -> dict[str, str]:
    kept = {name: each for name, each in os.environ.items() if not name.startswith(_LEFT_OUT)}
    for name in ("PYTHONFAULTHANDLER", "COLUMNS", "PYTHONPATH"):
        kept.pop(name, None)
    temporary = place / "tmp"
    temporary.mkdir(exist_ok=True)
    ours = {"TMPDIR": str(temporary), "OMP_NUM_THREADS": "1", "TERM": "xterm"}
    return kept | ours | {"GLOO_SOCKET_IFNAME": "lo"}


class _Node:
    def __init__(self, command, place, number, is_terminal, patience_s) -> None:
        self._reader, writer = pty.openpty() if is_terminal else os.pipe()
        if is_terminal:
            fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        stdin = writer if is_terminal else subprocess.DEVNULL
        self._process = subprocess.Popen(
            command, stdin=stdin, stdout=writer, stderr=writer, cwd=place,
            env=_environment(place) | {"NODE": str(number)},
            start_new_session=True,
        )  # fmt: skip
        os.close(writer)
        self._shown = bytearray()
        self._deadline = time.monotonic() + patience_s
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        shown = self._shown
        deadline = self._deadline
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([self._reader], [], [], left)[0]:
                continue
            try:
                data = os.read(self._reader, 1 << 16)
            except OSError:  # nobody has the terminal open any more
                break
            if not data:
                break
            shown += data
        else:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        os.close(self._reader)

    def finish(self) -> Screen:
        self._thread.join()
        shown, deadline = self._shown, self._deadline
        try:
            code = self._process.wait(max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            code = self._process.wait()
        text = shown.decode(errors="replace").replace("\r\n", "\n")
        return Screen(code, ESCAPE.sub("", text))
