"""Jobs of several agents that meet over c10d, here side by side on one machine."""

import json
import os
import signal
import threading

import pytest
from elrun.rendezvous.network.addresses import parse_endpoint
from elrun.rendezvous.protocol.keys import RunKeys
from elrun.rendezvous.stores.server.connector import StoreConnector
from job_kit import can_connect, until

pytestmark = pytest.mark.integration

ALL_REDUCE = """
import os, sys, torch, torch.distributed as dist
dist.init_process_group("gloo")
one = torch.ones(1)
dist.all_reduce(one)
attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
sys.stdout.write(f"sum {int(one)} restart {attempt}\\n")
dist.destroy_process_group()
os._exit(0)  # torch 2.13 aborts now and then when the interpreter is taken down around gloo
"""
WAIT_FOR_TWO = """
import os, signal, sys
nodes = os.environ["GROUP_WORLD_SIZE"]
attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
sys.stdout.write(f"nodes {nodes} restart {attempt}\\n")
if nodes == "1":
    signal.pause()
"""
FAILS_ONCE = """
import os, signal, sys
attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
sys.stdout.write(f"attempt {attempt}\\n")
if attempt == "0":
    sys.exit(7) if os.environ["RANK"] == os.environ["FAILS"] else signal.pause()
"""
SLOW_TO_STOP = """
import os, signal, sys, time
nodes, attempt = os.environ["GROUP_WORLD_SIZE"], os.environ["TORCHELASTIC_RESTART_COUNT"]
sys.stdout.write(f"nodes {nodes} restart {attempt}\\n")
if nodes == "1":
    signal.pause()
if attempt == "0":
    if os.environ["RANK"] == "0":
        open(sys.argv[1]).close()
        sys.exit(7)
    signal.signal(signal.SIGTERM, lambda *_: (time.sleep(2), sys.exit(0)))
    open(sys.argv[1], "w").close()
    signal.pause()
"""
FAIL_OR_HANG = (
    "import os, signal, sys; sys.exit(9) if os.environ['RANK'] == '3' else signal.pause()"
)
HANG = "import signal, sys; sys.stdout.write('ready\\n'); signal.pause()"


@pytest.fixture(name="c10d")
def _c10d(elrun, vacant_endpoint):
    """Start an agent of the job; all of them meet at one free port."""

    def start(*args, **options):
        meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint]
        return elrun(*meeting, "--rdzv-id", "job", *args, **options)

    return start


def test_two_agents_form_one_job(c10d, script):
    """World size and ranks span both; neither says anything on standard error."""
    path = script(ALL_REDUCE)
    jobs = [c10d("--nnodes", 2, "--nproc-per-node", 2, path) for _ in range(2)]

    ends = [job.finish() for job in jobs]

    assert [(0, "sum 4 restart 0\n" * 2)] * 2 == [end[:2] for end in ends]
    assert not any("[W" in end[2] or "Traceback" in end[2] for end in ends)


def test_nodes_may_bring_different_numbers_of_workers(c10d, script):
    """Ranks add up over heterogeneous nodes."""
    path = script(ALL_REDUCE)
    jobs = [c10d("--nnodes", 2, "--nproc-per-node", n, path) for n in (1, 3)]

    assert [0, 0] == [job.finish()[0] for job in jobs]


def test_a_late_node_joins_in_a_new_round_at_no_cost(c10d, script):
    """With ``--nnodes 1:2``, the first trains alone until the second comes."""
    path = script(WAIT_FOR_TWO)
    options = ["--nnodes", "1:2", "--rdzv-conf", "last_call_timeout=0.1", path]
    first = c10d(*options)
    first.wait_for_line("nodes 1 restart 0")

    second = c10d(*options)

    code, out, err = first.finish()
    assert (0, "nodes 1 restart 0\nnodes 2 restart 0\n") == (code, out), err
    assert (0, "nodes 2 restart 0\n") == second.finish()[:2]


@pytest.mark.parametrize("fails", ["0", "3"])
def test_a_failure_restarts_the_workers_of_all_nodes(c10d, script, fails):
    """Whichever node it happened on, every node starts again."""
    path = script(FAILS_ONCE)
    options = ["--nnodes", 2, "--nproc-per-node", 2, "--max-restarts", 1, path]
    jobs = [c10d(*options, env={"FAILS": fails}) for _ in range(2)]

    ends = [job.finish() for job in jobs]

    assert [(0, 2)] * 2 == [(code, out.count("attempt 1\n")) for code, out, _ in ends]


def test_a_node_whose_workers_take_long_to_stop_is_waited_for(c10d, script, tmp_path):
    """A checkpoint saved on SIGTERM must not cost the node its place, nor a further round."""
    os.mkfifo(tmp_path / "both-run")
    options = ["--nnodes", "1:2", "--max-restarts", 1, "--rdzv-conf", "last_call_timeout=0.1"]
    jobs = [c10d(*options, script(SLOW_TO_STOP), tmp_path / "both-run") for _ in range(2)]

    ends = [job.finish() for job in jobs]

    assert [0, 0] == [code for code, _, _ in ends]
    assert all(out.endswith("nodes 2 restart 0\nnodes 2 restart 1\n") for _, out, _ in ends)


def test_every_node_reports_the_same_root_cause(c10d, script):
    """The exit code and the first line are the failed rank's, also where nothing failed."""
    path = script(FAIL_OR_HANG)
    jobs = [c10d("--nnodes", 2, "--nproc-per-node", 2, path) for _ in range(2)]

    ends = [job.finish() for job in jobs]

    assert [9, 9] == [end[0] for end in ends]
    assert all("rank 3" in end[2] for end in ends)


def test_a_node_that_is_stopped_leaves_the_others_running(c10d, script):
    """SIGTERM to one agent of 1:2 is a membership change for the other."""
    path = script(HANG)
    options = ["--nnodes", "1:2", "--rdzv-conf", "last_call_timeout=0.1", path]
    first = c10d(*options)
    first.wait_for_line("ready")
    second = c10d(*options)
    second.wait_for_line("ready")
    first.wait_for_line("ready")

    second.signal(signal.SIGTERM)

    assert 143 == second.finish()[0]
    first.wait_for_line("ready")
    first.signal(signal.SIGTERM)
    assert 143 == first.finish()[0]


def test_too_few_nodes_end_with_a_sentence(c10d, script):
    """Exit code 75 lets a scheduler requeue; the message says who is missing and what to set."""
    code, _, err = c10d("--nnodes", 2, "--rdzv-conf", "join_timeout=1", script(HANG)).finish()

    assert 75 == code
    assert "1 of 2 nodes" in err
    assert "join_timeout" in err


def test_an_endpoint_that_nobody_hosts_is_named(elrun, script):
    """Exit code 75 and the endpoint."""
    job = elrun("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", "192.0.2.1:29400",
                "--rdzv-conf", "join_timeout=1", script(HANG))  # fmt: skip

    code, _, err = job.finish()

    assert 75 == code
    assert "192.0.2.1:29400" in err


def test_a_signal_ends_the_wait_for_other_nodes(c10d, vacant_endpoint, script):
    """An agent that waits for others can be stopped at once."""
    job = c10d("--nnodes", 2, script(HANG))
    until(lambda: can_connect(vacant_endpoint))

    job.signal(signal.SIGTERM)

    assert 143 == job.finish()[0]


def test_a_setting_of_torch_s_rendezvous_is_taken(c10d):
    """It has no effect: what it is about, elrun's rendezvous does otherwise."""
    torch_s = (
        "cas_backoff_max_seconds=2.5,keep_alive_interval=3,keep_alive_max_attempt=4,heartbeat=5"
    )

    job = c10d("--nnodes", 1, "--rdzv-conf", torch_s, "--no-python", "echo", "well")

    assert (0, "well\n", "") == job.finish()


def test_those_who_wait_are_told_who_is_there_when_it_changes(elrun, script, meeting):
    """First one of three nodes is there, and then two."""
    backend, endpoint = meeting
    options = ["--rdzv-backend", backend, "--rdzv-endpoint", endpoint, "--rdzv-id", "job"]
    words = [*options, "--nnodes", 3, script("")]
    first = elrun(*words)
    told = [line_of(first, "waiting in run 'job': ")]
    others = [elrun(*words)]
    told.append(line_of(first, "waiting in run 'job': "))
    others.append(elrun(*words))

    ends = [job.finish() for job in (first, *others)]
    assert [0, 0, 0] == [end[0] for end in ends], ends
    assert "1 of 3 nodes is here" in told[0]
    assert "2 more are needed" in told[0]
    assert "2 of 3 nodes are here" in told[1]
    assert "1 more is needed" in told[1]
    assert all("s, with exit code 75 (--rdzv-conf join_timeout=600)" in line for line in told)


def line_of(job, start):
    """Return the next line of standard error that holds these words."""
    return next(line for line in job.process.stderr if start in line)


LONG_S = 200
WAIT_FOR_WORD = """
import os, sys
print(os.environ["TORCHELASTIC_RUN_ID"], flush=True)
open(sys.argv[1]).read()
"""


@pytest.fixture(name="words")
def _words(tmp_path):
    """Return pipes: what is written to one lets the worker go on that reads there."""
    pipes = [tmp_path / f"word{number}" for number in range(2)]
    for pipe in pipes:
        os.mkfifo(pipe)
    return pipes


def test_two_runs_at_one_endpoint_go_one_after_the_other(elrun, script, vacant_endpoint, words):
    """The second is told whose endpoint it is, and does not lose its store with the first."""
    path, end = script(WAIT_FOR_WORD), script("", "end.py")
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint, "--nnodes", 2]
    firsts = [elrun(*meeting, "--rdzv-id", "first", path, word) for word in words]
    for job in firsts:
        job.wait_for_line("first")
    seconds = [elrun(*meeting, "--rdzv-id", "second", end) for _ in range(2)]
    told = [line_of(job, "is not there yet") for job in seconds]
    for word in words:
        word.write_text("go on")

    ends = [job.finish(LONG_S) for job in (*firsts, *seconds)]
    assert [0] * 4 == [end[0] for end in ends], ends
    assert all("it is the store of run 'first', and ends with that run" in line for line in told)


def test_two_runs_of_one_node_at_one_endpoint_go_side_by_side(
    elrun, script, vacant_endpoint, words
):
    """Nobody has to find the second one's store."""
    path = script(WAIT_FOR_WORD)
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint, "--nnodes", 1]
    jobs = []
    for name, word in zip(("first", "second"), words, strict=True):
        jobs.append(elrun(*meeting, "--rdzv-id", name, path, word))
        jobs[-1].wait_for_line(name)
    for word in words:
        word.write_text("go on")

    ends = [job.finish(LONG_S) for job in jobs]
    assert [(0, "first\n", ""), (0, "second\n", "")] == ends


@pytest.mark.parametrize("address", ["node1\0", "node1\udcff", "a\nb", ""])
def test_a_node_that_publishes_no_address_is_not_taken(elrun, script, vacant_endpoint, address):
    """It is named, and the others go on with a node that is fit."""
    meeting = ["--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint, "--rdzv-id", "job"]
    options = [*meeting, "--nnodes", 2, script("import os; print(os.environ['MASTER_ADDR'])")]
    first = elrun(*options)
    connect = StoreConnector(parse_endpoint(vacant_endpoint), False, None, LONG_S, run_id="job")
    store = connect(threading.Event()).store
    keys = RunKeys("job").round(0)
    (record,) = store.wait([keys.node(0)], LONG_S)
    seat = store.add(keys.seats, 1) - 1
    unfit = {**json.loads(record), "host": "shifty", "address": address}
    store.set({keys.node(seat): json.dumps(unfit).encode()})
    second = elrun(*options)

    ends = [job.finish(LONG_S) for job in (first, second)]
    store.close()
    assert [(0, "127.0.0.1\n")] * 2 == [end[:2] for end in ends], ends
    said = " ".join(ends[0][2].split())
    assert f"a node is not taken, as its record is refused: {keys.node(seat)}: address is" in said
    assert "(host 'shifty')" in said


def test_a_second_host_is_told_that_there_is_one(elrun, script, vacant_endpoint):
    """On the same machine by its refusal, elsewhere by what the first one says while it waits."""
    options = ["--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint]
    words = [*options, "--nnodes", 2, "--rdzv-conf", "is_host=true", script(HANG)]
    first = elrun(*words)
    until(lambda: can_connect(vacant_endpoint))

    code, _, err = elrun(*words).finish()

    assert (75, True) == (code, "only one node may have --rdzv-conf is_host=true" in err), err
    assert "by --rdzv-conf is_host=true, which only one node may" in first.process.stderr.readline()
    first.signal(signal.SIGTERM)
    assert 143 == first.finish()[0]
