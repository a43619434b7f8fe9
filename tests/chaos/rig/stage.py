"""Where a history takes place: hosts in network namespaces, agents on them, perhaps an etcd."""

import contextlib
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from elrun.rendezvous.stores.etcd.server import _find_binary
from network_kit import Network, enter
from rig.judge import Ending
from rig.schedule import MEMBERS, NODES

PROGRAM = Path(__file__).parents[2] / "integration" / "in_step.py"
C10D_PORT = 29400
CLIENT_PORT, PEER_PORT = 2379, 2380
TOKEN = "ELRUN_CHAOS"
OPTIONS = ["--nnodes", f"{NODES - 1}:{NODES}", "--max-restarts", 10_000, "--rdzv-id", "chaos",
           "--rdzv-conf", "last_call_timeout=1", "--tee", 3]  # fmt: skip
DISK_SIZE = "4m"
ENDS_WITHIN_S = 60
STEPS_OF_A_ROUND = 3
"""So many in a row by all workers: then a round counts as running."""


class Agent:
    """One agent, from its start to its end.

    Args:
        name: For people.
        process: Its process.
    """

    def __init__(self, name, process):
        self.name = name
        self.process = process
        self.may_be = (0,)


class Stage:
    """The nodes, the agents on them, and the folder in which their job writes.

    Args:
        folder: An empty one.
        backend: ``c10d`` or ``etcd-v3``.
        program_options: Further words for the job's program.
        secret: What the agents have to know; empty: there is no secret.
    """

    def __init__(self, folder, backend, program_options=(), secret=""):
        self.folder = folder
        self.backend = backend
        self.began_at = time.monotonic()
        self._program_options = program_options
        self._secret = secret
        self._token = folder.name + os.urandom(4).hex()
        for name in ("job", "temporary", "disk", "said"):
            (folder / name).mkdir()
        has_etcd = backend != "c10d"
        self._network = Network(folder, NODES + MEMBERS * has_etcd)
        self.nodes = self._network.hosts[:NODES]
        self.member_hosts = self._network.hosts[NODES:]
        self.agents = {}  # by node
        self.every_agent = []
        self.members = [None] * len(self.member_hosts)
        for host in self.nodes:
            disk = folder / "disk" / host.name
            disk.mkdir()
            host.run("mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", "elrun-chaos", str(disk))
        for member in range(len(self.members)):
            self.start_member(member)
        self.lines = []
        self._journal_at = 0

    @property
    def endpoint(self):
        if self.backend == "c10d":
            return ",".join(f"{host.name}:{C10D_PORT}" for host in self.nodes[:-1])
        return ",".join(f"{host.name}:{CLIENT_PORT}" for host in self.member_hosts)

    def start_agent(self, node):
        """Start an agent on a node that has none."""
        host = self.nodes[node]
        name = f"agent {len(self.every_agent)} on {host.name}"
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("PET_", "SLURM_"))}
        variables |= {
            TOKEN: self._token,
            "TMPDIR": str(self.folder / "temporary"),
            "ELRUN_RUN_DIR": os.devnull,
            "ELRUN_RDZV_SECRET": self._secret,
            "PYTHONFAULTHANDLER": "1",
        }
        words = ["-m", "elrun", "--rdzv-backend", self.backend, "--rdzv-endpoint", self.endpoint]
        log_dir = ["--log-dir", self.folder / "disk" / host.name]
        program = [PROGRAM, self.folder / "job", *self._program_options]
        with (self.folder / "said" / name.replace(" ", "-")).open("wb") as said:
            process = subprocess.Popen(
                list(
                    map(str, [*host.prefix, sys.executable, *words, *OPTIONS, *log_dir, *program])
                ),
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=variables,
                cwd=self.folder,
            )
        self.agents[node] = Agent(name, process)
        self.every_agent.append(self.agents[node])

    def start_member(self, member):
        """Start a member of the etcd, or start it again."""
        host = self.member_hosts[member]
        names = [each.name for each in self.member_hosts]
        peers = ",".join(
            f"{each.name}=http://{each.address}:{PEER_PORT}" for each in self.member_hosts
        )
        command = [
            _find_binary(),
            f"--name={names[member]}",
            f"--data-dir={self.folder}/etcd-{host.name}",
            f"--listen-client-urls=http://0.0.0.0:{CLIENT_PORT}",
            f"--advertise-client-urls=http://{host.address}:{CLIENT_PORT}",
            f"--listen-peer-urls=http://{host.address}:{PEER_PORT}",
            f"--initial-advertise-peer-urls=http://{host.address}:{PEER_PORT}",
            f"--initial-cluster={peers}",
            "--initial-cluster-state=new",
            "--log-level=error",
            "--unsafe-no-fsync",
        ]
        with (self.folder / "said" / host.name).open("ab") as said:
            self.members[member] = subprocess.Popen(
                [*host.prefix, *command], stdin=subprocess.DEVNULL, stdout=said, stderr=said
            )

    def host_of_store(self):
        """Return the node whose agent has the store; the first one while none is seen."""
        for node in self.agents:
            if listens(self.agents[node].process.pid, C10D_PORT):
                return node
        return 0

    def leader(self):
        """Return the member that leads; the first one while none does."""
        for member, host in enumerate(self.member_hosts):
            done = subprocess.run(
                [*host.prefix, sys.executable, "-c", ASK_MEMBER, str(CLIENT_PORT)],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.stdout.strip() == "leads":
                return member
        return 0

    def workers_of(self, node):
        """Return the pids of a node's workers."""
        return [pid for pid in self.nodes[node].processes() if is_worker(pid)]

    def lose(self, node, number, *may_be):
        """End a node's agent by a signal, and expect one of these exit codes of it."""
        agent = self.agents.pop(node, None)
        if agent is None:
            return
        agent.may_be = may_be
        agent.process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            agent.process.wait(ENDS_WITHIN_S)

    def cable_of(self, host, *words):
        """Run a command in the network namespace of the switch."""
        enter(host._switch, *words)

    def now(self):
        return time.monotonic()

    def let_pass(self, seconds):
        """Let time pass, but no longer than all agents run that should."""
        until = self.now() + seconds
        while (left_s := until - self.now()) > 0:
            select.select([], [], [], min(left_s, 0.1))
            self.check_agents()

    def check_agents(self):
        """Raise if an agent has ended that was not told to."""
        for node, agent in self.agents.items():
            code = agent.process.poll()
            if code is not None:
                raise HistoryError(f"{agent.name} ended with {code} ({self.nodes[node].name})")

    def await_all(self, since, timeout_s):
        """Wait until all agents' workers have made steps together after a time.

        Args:
            since: A time of the monotonic clock.
            timeout_s: How long to wait.

        Returns:
            The time at which the first of these steps was made.
        """
        deadline = self.now() + timeout_s
        while self.now() < deadline:
            self.let_pass(0.05)
            self.read_journal()
            at = first_common_step(self.lines, since, len(self.agents))
            if at is not None:
                return at
        raise HistoryError(f"the {len(self.agents)} agents make no steps together in {timeout_s} s")

    def read_journal(self):
        """Take in what the workers have written since the last time."""
        path = self.folder / "job" / "journal"
        if not path.exists():
            return
        with path.open() as journal:
            journal.seek(self._journal_at)
            text = journal.read()
        whole = text[: text.rfind("\n") + 1]
        self._journal_at += len(whole)
        self.lines += [json.loads(line) for line in whole.splitlines()]

    def finish(self):
        """Let the job make its last step; return how the agents have ended."""
        (self.folder / "job" / "enough").touch()
        deadline = self.now() + ENDS_WITHIN_S
        for agent in self.agents.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                agent.process.wait(max(0.0, deadline - self.now()))
        self.read_journal()
        return [
            Ending(each.name, 999 if code is None else code, each.may_be)
            for each in self.every_agent
            for code in [each.process.poll()]
        ]

    def left(self):
        """Return what is left of the agents, in words: processes, files, and tracebacks."""
        select.select([], [], [], 0.5)  # guardians of killed agents clean up
        found = [f"process {describe(pid)}" for pid in processes_with(TOKEN, self._token)]
        found += [f"file {path.name}" for path in (self.folder / "temporary").iterdir()]
        said = (self.folder / "said").glob("agent-*")
        # Those of workers begin with the worker's name.
        return found + [f"traceback of {path.name}" for path in said if has_traceback(path)]

    def close(self):
        """Kill what runs, and let go of the namespaces."""
        for agent in self.every_agent:
            agent.process.kill()
            agent.process.wait()
        for member in self.members:
            member.kill()
            member.wait()
        for pid in processes_with(TOKEN, self._token):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._network.close()


class HistoryError(Exception):
    """The history can't go on: an agent is gone, or the job stands still."""


ASK_MEMBER = """
import json, sys, urllib.request
url = f"http://127.0.0.1:{sys.argv[1]}/v3/maintenance/status"
found = json.load(urllib.request.urlopen(urllib.request.Request(url, b"{}"), timeout=2))
print("leads" if found["header"]["member_id"] == found["leader"] else "follows")
"""


def first_common_step(lines, since, workers):
    """Return when the latest round began its steps after a time, if all workers are in it."""
    newest = [line for line in lines[-400:] if line["start"] >= since]
    if not newest:
        return None
    meeting = newest[-1]["round"]
    mine = [line for line in newest if line["round"] == meeting]
    steps = {}
    for line in mine:
        steps.setdefault(line["step"], {})[line["rank"]] = line["end"]
    whole = [max(ends.values()) for ends in steps.values() if len(ends) == workers]
    return min(whole) if len(whole) >= STEPS_OF_A_ROUND else None


def longest_gap(lines, begin, end):
    """Return the longest time without a finished step between two times."""
    ends = sorted(line["end"] for line in lines if begin <= line["end"] <= end)
    times = [begin, *ends, end]
    return max(after - before for before, after in itertools.pairwise(times))


def listens(pid, port):
    """Return whether a process's network has a socket that listens at a port, and it is its own."""
    wanted = f":{port:04X}"
    for kind in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for row in Path(f"/proc/{pid}/net/{kind}").read_text().splitlines()[1:]:
                fields = row.split()
                if fields[1].endswith(wanted) and fields[3] == "0A":
                    return True
    return False


def has_traceback(path):
    with path.open("rb") as lines:
        return any(line.startswith((b"Traceback", b"Exception in")) for line in lines)


def is_worker(pid):
    return b"\0RANK=" in environ_of(pid)


def processes_with(name, value):
    """Return the pids whose environment has a variable with this value."""
    wanted = f"{name}={value}".encode()
    pids = map(int, filter(str.isdigit, os.listdir("/proc")))
    return [pid for pid in pids if wanted in environ_of(pid).split(b"\0")]


def environ_of(pid):
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/environ").read_bytes()
    return b""


def describe(pid):
    with contextlib.suppress(OSError):
        return f"{pid} {Path(f'/proc/{pid}/cmdline').read_bytes().decode(errors='replace')[:120]}"
    return str(pid)
