"""The workers' store is served by a process of the agent's: from the start, beyond rank 0's end."""

import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from elrun.rendezvous.stores.etcd.server import EtcdServer

pytestmark = pytest.mark.integration

OUTLIVES = Path(__file__).with_name("programs") / "outlives_rank_0.py"
PATIENCE_S = 240

# What workers share with the process that serves their store: the agent. It is found by its name.
FIND_HOST = """
import os, select, signal, sys
from pathlib import Path


def say(text):
    os.write(1, f"{text}\\n".encode())  # in one piece


def find_host():
    agent = os.getppid()
    children = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    found = [pid for pid in children if Path(f"/proc/{pid}/comm").read_text() == "elrun-store\\n"]
    return [int(pid) for pid in found if Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"]
"""
# A client of the store, before there is any process group.
CLIENT = (
    FIND_HOST
    + """
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
from torch.distributed import TCPStore
place = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
store = TCPStore(*place, is_master=False, wait_for_workers=False)
"""
)
HELLO = """
store.set(f"hello {rank}", "there")
said = " ".join(store.get(f"hello {each}").decode() for each in range(size))
say(f"{rank} {said}")
"""
LEAVE_TOGETHER = """
if store.add("left", 1) == size:
    store.set("all left", "")
store.wait(["all left"])
os._exit(0)
"""
HELLOS = ["0 there there", "1 there there"]
OUTLIVED = [f"rank {rank}: {{'well'}}" for rank in (1, 2)]


def lines_of(*ends):
    return sorted(line for _, out, _ in ends for line in out.splitlines())


def finish(*jobs):
    """Return what the jobs printed, which all succeed."""
    ends = [job.finish(PATIENCE_S) for job in jobs]
    assert [0] * len(jobs) == [code for code, _, _ in ends], ends
    return lines_of(*ends)


@pytest.fixture(name="meet", params=["c10d", "etcd-v3"])
def _meet(request, vacant_endpoint):
    """Options by which three nodes meet."""
    words = ["--nnodes", 3, "--rdzv-id", "job", "--rdzv-backend", request.param]
    if request.param == "c10d":
        yield [*words, "--rdzv-endpoint", vacant_endpoint]
    else:
        with EtcdServer() as server:
            yield [*words, "--rdzv-endpoint", server.get_endpoint()]


@pytest.mark.parametrize("end", ["return", "exit", "_exit"])
def test_the_store_outlives_rank_0_on_one_node(elrun, end):
    """The others go on to use it: keys, a new group, a barrier in that."""
    assert OUTLIVED == finish(elrun("--standalone", "--nproc-per-node", 3, OUTLIVES, end))


def test_the_store_outlives_rank_0_on_other_nodes(elrun, meet):
    """All of its node's workers have ended: the agent there stays as long as it is needed."""
    assert OUTLIVED == finish(*(elrun(*meet, OUTLIVES, "_exit") for _ in range(3)))


def test_the_store_outlives_rank_0_where_it_was_forked(elrun):
    """From the process that has imported torch for all."""
    job = elrun("--standalone", "--nproc-per-node", 3, "--preload", "torch", OUTLIVES, "_exit")

    assert OUTLIVED == finish(job)


@pytest.mark.parametrize("nodes", [1, 3])
def test_the_store_outlives_rank_0_at_a_fixed_port(elrun, vacant_port, nodes):
    """The static rendezvous names the port, at which its nodes meet, too."""
    place = ["--master-addr", "127.0.0.1", "--master-port", vacant_port(), "--nnodes", nodes]
    words = ["--rdzv-backend", "static", *place, "--nproc-per-node", 3 // nodes]
    jobs = [elrun(*words, "--node-rank", rank, OUTLIVES, "_exit") for rank in range(nodes)]

    assert OUTLIVED == finish(*jobs)


@pytest.mark.parametrize(
    "options",
    [
        ("--standalone",),
        ("--preload", "torch"),
        ("--master-addr", "127.0.0.1", "--master-port", "PORT"),
        ("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:PORT"),
    ],
    ids=" ".join,
)
def test_a_client_needs_no_process_group(elrun, script, vacant_port, options):
    """It connects first thing in the script: the store is there on every backend."""
    words = [word.replace("PORT", str(vacant_port())) for word in options]
    path = script(CLIENT + HELLO + LEAVE_TOGETHER)

    assert HELLOS == finish(elrun(*words, "--nproc-per-node", 2, path))


def test_a_client_below_a_shell_needs_no_process_group(elrun, script):
    """elrun does not see what the shell starts; the connection itself calls for the store."""
    path = script(CLIENT + HELLO + LEAVE_TOGETHER)
    shell = script(f"{sys.executable} {path}\nexit $?\n", "run.sh")

    words = ["--standalone", "--nproc-per-node", 2, "--no-python", "bash", shell]
    assert HELLOS == finish(elrun(*words))


def test_a_client_in_a_function_needs_no_process_group(elrun, script):
    """Functions that are spawned, too."""
    text = f"""
from elrun import LaunchConfig, elastic_launch

def hello():
{"".join(f"    {line}" + chr(10) for line in (CLIENT + HELLO + LEAVE_TOGETHER).splitlines())}

if __name__ == "__main__":
    elastic_launch(LaunchConfig(1, 1, 2, run_id="x", max_restarts=0), hello)()
"""
    text = text.replace("    os._exit(0)\n", "")

    assert HELLOS == finish(elrun(script(text), command=()))


def test_rank_0_may_ask_to_serve_the_store_itself(elrun, script):
    """torch's own class then finds that it is served, and is a client: scripts that say so run."""
    text = CLIENT.replace("is_master=False", "is_master=rank == 0") + HELLO + LEAVE_TOGETHER

    assert HELLOS == finish(elrun("--standalone", "--nproc-per-node", 2, script(text)))


@pytest.mark.parametrize("options", [(), ("--preload", "torch")], ids=["executed", "forked"])
def test_each_attempt_has_a_store_and_a_process_of_its_own(elrun, script, options):
    """SIGKILL of rank 0 with restarts left: nothing of the last attempt's is met."""
    text = (
        CLIENT
        + """
attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
say(f"{rank} {attempt} {store.add('starts', 1) <= size} {find_host()}")
store.set(f"started {rank}", "")
if attempt != "2":
    store.wait(["started 0", "started 1"])
    if rank == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()
"""
        + LEAVE_TOGETHER
    )
    job = elrun("--standalone", "--nproc-per-node", 2, "--max-restarts", 2, *options, script(text))
    told = finish(job)

    fresh, hosts = zip(*(line.split(" [") for line in told), strict=True)
    assert tuple(f"{rank} {attempt} True" for rank in range(2) for attempt in range(3)) == fresh
    assert options or 3 == len(set(hosts))  # of those that are forked, one more is in reserve


@pytest.mark.parametrize("restarts", [0, 1])
def test_the_death_of_the_store_s_process_is_told_and_costs_a_restart(elrun, script, restarts):
    """Whatever the workers make of it: they may not even notice."""
    text = (
        CLIENT
        + """
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    if rank == 0:
        os.kill(*find_host(), signal.SIGKILL)
    signal.pause()
"""
        + HELLO
        + LEAVE_TOGETHER
    )
    options = ["--standalone", "--nproc-per-node", 2, "--max-restarts", restarts]
    code, out, err = elrun(*options, script(text)).finish(PATIENCE_S)

    assert (1 - restarts, HELLOS * restarts) == (code, sorted(out.splitlines()))
    assert "the process that serves the workers' store" in err
    assert "was killed by SIGKILL" in err
    assert "rank -1" not in err


def test_a_store_that_dies_while_its_node_waits_for_others_is_missed(
    elrun, script, vacant_endpoint
):
    """Workers of other nodes may need it: all are restarted."""
    text = (
        CLIENT
        + """
attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
if rank == 0:
    store.set("host", str(find_host()[0]))
    store.set("pid", str(os.getpid()))
    store.wait(["read"])
    if attempt == "1":
        print("again", flush=True)
    os._exit(0)
host, pid = int(store.get("host")), int(store.get("pid"))
end = os.pidfd_open(pid)
store.set("read", "")
select.select([end], [], [])
if attempt == "0":
    os.kill(host, signal.SIGKILL)
    signal.pause()
os._exit(0)
"""
    )
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint]
    words = [*meeting, "--rdzv-id", "job", "--nnodes", 2, "--max-restarts", 1, script(text)]

    assert ["again"] == finish(elrun(*words), elrun(*words))


def test_a_frozen_store_does_not_outlast_its_attempt(elrun, script):
    """A restart gets another process; the stopped one is killed."""
    text = (
        CLIENT
        + """
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    if rank == 0:
        os.kill(*find_host(), signal.SIGSTOP)
        os._exit(1)
    signal.pause()
"""
        + HELLO
        + LEAVE_TOGETHER
    )
    options = ["--standalone", "--nproc-per-node", 2, "--max-restarts", 1]

    assert HELLOS == finish(elrun(*options, script(text)))


def test_the_process_holds_nothing_of_the_workers(elrun, script, tmp_path):
    """No pipe of their output, no file, no folder: what it would hold would never end."""
    text = (
        CLIENT
        + """
def links(pid):
    folder = f"/proc/{pid}/fd"
    return {os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)} - {"/dev/null"}

held = links(*find_host())
mine = {os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2)}
files = [name for name in held if name.startswith("/")]
print(len(mine), held & mine, files, os.readlink(f"/proc/{find_host()[0]}/cwd"), flush=True)
os._exit(0)
"""
    )
    options = ["--standalone", "--tee", "3", "--log-dir", tmp_path, script(text)]

    assert ["[default0]:3 set() [] /"] == finish(elrun(*options, stdin=subprocess.PIPE))


def test_a_job_without_torch_has_no_such_process(elrun, script):
    """However long its workers live: they neither connect nor load torch."""
    text = FIND_HOST + "select.select([], [], [], 1)\nprint(find_host())\n"

    assert ["[]"] == finish(elrun("--standalone", script(text)))


def test_the_process_dies_with_the_agent(elrun, script):
    """Whatever ends the agent; the fixture finds what is left."""
    text = CLIENT + "print(*find_host(), flush=True)\nsignal.pause()\n"
    job = elrun("--standalone", script(text))
    host = os.pidfd_open(int(job.wait_for_line("")))
    job.signal(signal.SIGKILL)
    job.finish()

    os.close(host)


@pytest.mark.skipif(
    tuple(map(int, version("torch").split(".")[:2])) < (2, 8),
    reason="before 2.8 the older server is the only one that takes a socket that listens",
)
def test_the_older_server_serves_where_a_variable_says_so(elrun, script):
    """``USE_LIBUV=0``; torch's newer one has a thread for an event loop, the older one another."""
    text = (
        CLIENT
        + """
(host,) = find_host()
fds = [os.readlink(f"/proc/{host}/fd/{fd}") for fd in os.listdir(f"/proc/{host}/fd")]
print("anon_inode:[eventpoll]" in fds, flush=True)
os._exit(0)
"""
    )
    told = [finish(elrun("--standalone", script(text), env={"USE_LIBUV": n})) for n in "10"]

    assert [["True"], ["False"]] == told
