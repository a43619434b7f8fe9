"""Agents on hosts of their own that are killed, paused or cut off while their job makes its steps.

Whatever happens, the job loses no more steps than those since its last checkpoint, never makes
steps in two rounds at once, and ends.
"""

import os
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest
from elrun.rendezvous.stores.etcd.server import _find_binary
from journal_kit import read_lines, read_steps
from network_kit import SUBNET, Network

pytestmark = pytest.mark.integration

PROGRAM = Path(__file__).with_name("in_step.py")
C10D_PORT = 29400
ETCD_PORT = 2379
# A node that waits 3 s for its store stops its workers then; the rest is for a busy machine.
STOPPED_WITHIN_S = 20
NODES_2_TO_3 = ("--nnodes", "2:3", "--max-restarts", 3)
IMPATIENT = ("--rdzv-conf", "store_patience=3")


class Work:
    """A job on the first three hosts."""

    def __init__(self, elrun, hosts, folder, meeting):
        self.hosts = hosts
        self.endpoint = meeting[-1]
        self._elrun = elrun
        self._folder = folder
        self._meeting = meeting
        self.jobs = []

    def begin(self, *options, program_options=(), first=None):
        """Start the agents; return once their workers have made steps and saved a checkpoint.

        Args:
            first: The number of the node that shall have group rank 0.
        """
        for number in (1, 2, 3):
            wish = ["--node-rank", 0] if number == first else []
            self.add(number, *options, *wish, program_options=program_options)
        self.wait_for("3 workers", 1, 2, 3)
        return self

    def add(self, number, *options, program_options=()):
        """Start the agent of the next node."""
        words = [*self._meeting, "--rdzv-id", "job", *options]
        program = [PROGRAM, self._folder, *program_options]
        self.jobs.append(self._elrun(*words, *program, prefix=self.hosts[number - 1].prefix))

    def wait_for(self, line, *numbers):
        """Return once a worker on each of these nodes has made some steps and says so."""
        for number in numbers:
            self.jobs[number - 1].wait_for_line(line)

    def end(self, *numbers):
        """Let the job make its last step; return how the agents of these nodes end."""
        (self._folder / "enough").touch()
        return self.ends_of(*numbers)

    def ends_of(self, *numbers):
        return [self.jobs[number - 1].finish() for number in numbers]

    def workers_of(self, *numbers):
        """Return a pidfd of the worker on each of these nodes."""
        running = [pid for number in numbers for pid in self.hosts[number - 1].processes()]
        return [os.pidfd_open(pid) for pid in running if is_worker(pid)]

    def steps(self):
        """Return the steps of each round in turn, all in good order."""
        return read_steps(self._folder)

    def master_address(self):
        """Return where the workers met that made the last step."""
        return read_lines(self._folder)[-1]["round"][0]


def is_worker(pid):
    try:
        return b"\0RANK=" in Path("/proc", str(pid), "environ").read_bytes()
    except OSError:  # it has ended meanwhile
        return False


def are_stopped(workers):
    """Wait for the workers, for a bounded time; return whether they have all ended."""
    deadline = time.monotonic() + STOPPED_WITHIN_S
    ended = []
    for pidfd in workers:
        ended += select.select([pidfd], [], [], max(0.0, deadline - time.monotonic()))[0]
        os.close(pidfd)
    return ended == workers


@pytest.fixture(name="hosts")
def _hosts(_namespaces, tmp_path):
    """Return node1 to node3, and node4, where etcd is."""
    network = Network(tmp_path, 4)
    yield network.hosts
    network.close()


@pytest.fixture(name="over_c10d")
def _over_c10d(elrun, hosts, tmp_path):
    """Return a job that meets on node1, or, with two endpoints, on node2 once node1 is gone."""

    def work(endpoints=1):
        endpoint = ",".join(f"{host.name}:{C10D_PORT}" for host in hosts[:endpoints])
        meeting = ("--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint)
        return Work(elrun, hosts, tmp_path, meeting)

    return work


@pytest.fixture(name="over_etcd")
def _over_etcd(elrun, hosts, tmp_path):
    """Return a job that meets at an etcd on node4, by its v3 API or another."""
    host = hosts[3]
    command = [
        _find_binary(),
        "--enable-v2",
        f"--data-dir={tmp_path}/etcd",
        f"--listen-client-urls=http://{host.address}:{ETCD_PORT}",
        f"--advertise-client-urls=http://{host.address}:{ETCD_PORT}",
        "--log-level=error",
        "--unsafe-no-fsync",
    ]
    endpoint = ("--rdzv-endpoint", f"{host.name}:{ETCD_PORT}")

    def work(backend="etcd-v3"):
        return Work(elrun, hosts, tmp_path, ("--rdzv-backend", backend, *endpoint))

    with subprocess.Popen([*host.prefix, *command], stderr=subprocess.DEVNULL) as etcd:
        yield work
        etcd.kill()


@pytest.fixture(params=["c10d", "etcd"], name="work")
def _work(request):
    return request.getfixturevalue(f"over_{request.param}")()


def readdress(host):
    """Give a host another address instead of its own."""
    another = f"{SUBNET}{100 + int(host.address.removeprefix(SUBNET))}/24"
    host.run("ip", "address", "add", another, "dev", "eth0")
    host.run("ip", "address", "delete", f"{host.address}/24", "dev", "eth0")
    # The kernel removes all addresses of a network with the first one.
    host.run("ip", "address", "replace", another, "dev", "eth0")


def silence_name_server(host, folder):
    """Let a host know no name but its own, and wait 150 s for the answer about another."""
    (folder / "own").write_text(f"{host.address} {host.name}\n")
    (folder / "resolv.conf").write_text(f"nameserver {SUBNET}200\noptions timeout:30 attempts:5\n")
    host.run("ip", "neighbour", "add", f"{SUBNET}200", "lladdr", "02:00:00:00:00:01", "dev", "eth0")
    host.run("mount", "--bind", folder / "own", "/etc/hosts")
    host.run("mount", "--bind", folder / "resolv.conf", "/etc/resolv.conf")


def let_pass(seconds):
    select.select([], [], [], seconds)


def test_a_host_whose_name_is_known_late_serves_all_the_same(elrun, hosts, tmp_path):
    """All three are given a name that none can look up yet, as in a headless service."""
    endpoint = f"job-0.headless:{C10D_PORT}"
    meeting = ("--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--rdzv-id", "job")
    options = (*meeting, "--nnodes", 3, "--no-python", "printenv", "GROUP_RANK")
    jobs = [elrun(*options, prefix=host.prefix) for host in hosts[:3]]
    for job in jobs:
        for line in job.process.stderr:
            if "can't be resolved" in line:
                break

    with (tmp_path / "hosts").open("a") as known:
        known.write(f"{hosts[0].address} job-0.headless\n")

    ends = [job.finish() for job in jobs]
    assert [0, 0, 0] == [end[0] for end in ends], ends
    assert ["0\n", "1\n", "2\n"] == sorted(end[1] for end in ends)


def test_survivors_of_a_killed_agent_go_on(work):
    """Its workers die with it, and the other two nodes resume where the job was saved last."""
    work.begin(*NODES_2_TO_3)

    work.jobs[1].signal(signal.SIGKILL)

    work.wait_for("2 workers", 1, 3)
    assert [0, -signal.SIGKILL, 0] == [end[0] for end in work.end(1, 2, 3)]
    assert 2 == len(work.steps())


def test_a_killed_agent_costs_no_restart(over_c10d):
    """Though workers fail, for want of a peer, before their agents know that the node is gone."""
    work = over_c10d().begin(*NODES_2_TO_3)

    work.jobs[1].signal(signal.SIGKILL)

    work.wait_for("2 workers", 1, 3)
    ends = work.end(1, 3)
    assert [0, 0] == [code for code, _, _ in ends]
    words = [" ".join(err.split()) for _, _, err in ends]
    assert all("which costs no restart" in said for said in words), words
    assert not any("(restart 1 of" in said for said in words), words


def test_survivors_form_a_new_gloo_group(over_c10d):
    """The old one fails on both as soon as a peer is gone, long before that node is missed."""
    work = over_c10d().begin(*NODES_2_TO_3, program_options=["--gloo"])

    work.jobs[1].signal(signal.SIGKILL)

    work.wait_for("2 workers", 1, 3)
    assert [0, 0] == [end[0] for end in work.end(1, 3)]
    assert 2 == len(work.steps())


def test_a_host_that_stands_still_for_less_than_the_patience_keeps_its_place(work):
    """The others' workers wait for it in their collective, and there is no new round."""
    work.begin(*NODES_2_TO_3, "--rdzv-conf", "heartbeat_patience=5")

    work.hosts[1].pause()
    let_pass(1.0)
    work.hosts[1].wake_up()
    let_pass(1.0)

    assert [0, 0, 0] == [end[0] for end in work.end(1, 2, 3)]
    assert 1 == len(work.steps())


def test_a_host_that_wakes_up_too_late_joins_again(work):
    """The others went on without it; it stops its workers and comes back as a newcomer."""
    work.begin(*NODES_2_TO_3)
    work.hosts[1].pause()
    work.wait_for("2 workers", 1, 3)

    work.hosts[1].wake_up()

    work.wait_for("3 workers", 1, 2, 3)
    ends = work.end(1, 2, 3)
    assert [0, 0, 0] == [end[0] for end in ends]
    assert 3 == len(work.steps())
    words = [" ".join(err.split()) for _, _, err in ends]
    told = ["this node was suspended or cut off: node2 (group rank" in said for said in words]
    assert [False, True, False] == told, words


def test_a_host_that_is_cut_off_stops_its_workers(work):
    """The others go on; its agent ends, and says which endpoint it can't reach."""
    work.begin(*NODES_2_TO_3, *IMPATIENT)
    workers = work.workers_of(2)

    work.hosts[1].cut_cable()

    work.wait_for("2 workers", 1, 3)
    assert are_stopped(workers)
    ((code, _, err),) = work.ends_of(2)
    assert 75 == code
    assert work.endpoint in err
    assert [0, 0] == [end[0] for end in work.end(1, 3)]
    assert 2 == len(work.steps())


def test_a_host_whose_cable_is_mended_soon_joins_again(work):
    """It was thrown out, and had not yet given the store up."""
    work.begin(*NODES_2_TO_3)
    work.hosts[1].cut_cable()
    work.wait_for("2 workers", 1, 3)

    work.hosts[1].mend_cable()

    work.wait_for("3 workers", 1, 2, 3)
    assert [0, 0, 0] == [end[0] for end in work.end(1, 2, 3)]
    assert 3 == len(work.steps())


def test_a_host_whose_answer_was_lost_in_a_cut_is_back_when_the_cable_is_mended(over_c10d):
    """Its kernel has nothing to repeat, and the store's does so 12.6 s and 25.4 s after the cut.

    The agent would have given up after 20 s.
    """
    work = over_c10d().begin(*NODES_2_TO_3, "--rdzv-conf", "store_patience=20")
    work.hosts[0].pause()
    let_pass(1.0)  # each agent has asked meanwhile, and the kernel of the store's host has it
    work.hosts[2].cut_cable()
    work.hosts[0].wake_up()
    let_pass(14.0)

    work.hosts[2].mend_cable()

    work.wait_for("3 workers", 3, 1, 2)
    assert [0, 0, 0] == [end[0] for end in work.end(1, 2, 3)]
    assert [3, 2, 3] == [each.workers for each in work.steps()]


def test_a_host_with_another_address_joins_again(over_c10d):
    """Its connection to the store is dead for good, without an end; another one arrives."""
    work = over_c10d().begin(*NODES_2_TO_3)

    readdress(work.hosts[2])

    work.wait_for("3 workers", 1, 2, 3)
    assert [0, 0, 0] == [end[0] for end in work.end(1, 2, 3)]
    # The others may have made no step without it.
    assert [each.workers for each in work.steps()] in ([3, 3], [3, 2, 3])


def test_workers_meet_at_the_address_that_rank_0_has_by_now(work):
    """Its host got another one after it had reached the store, and keeps its rank."""
    work.begin(*NODES_2_TO_3, "--rdzv-conf", "heartbeat_patience=30", first=3)
    readdress(work.hosts[2])

    for worker in work.workers_of(1):
        signal.pidfd_send_signal(worker, signal.SIGKILL)
        os.close(worker)

    work.wait_for("3 workers", 1, 2, 3)
    assert [0, 0, 0] == [end[0] for end in work.end(1, 2, 3)]
    assert f"{SUBNET}103" == work.master_address()


def test_newcomers_meet_the_stores_host_at_the_address_that_it_has_by_now(over_c10d, tmp_path):
    """The name server knows the new one, and the first node keeps its rank."""
    work = over_c10d()
    work.add(1, "--nnodes", "1:3", "--max-restarts", 3)
    work.wait_for("1 worker", 1)
    readdress(work.hosts[0])
    known = tmp_path / "hosts"
    known.write_text(known.read_text().replace(f"{SUBNET}1 ", f"{SUBNET}101 "))

    work.add(2, "--nnodes", "1:3", "--max-restarts", 3)

    work.wait_for("2 workers", 1, 2)
    assert [0, 0] == [end[0] for end in work.end(1, 2)]
    assert f"{SUBNET}101" == work.master_address()


def test_a_host_that_is_cut_off_for_longer_than_its_peers_bear_joins_again(work):
    """Its workers run on meanwhile: the cut cable of 8 s costs a round, and no agent."""
    work.begin(*NODES_2_TO_3)
    work.hosts[1].cut_cable()
    let_pass(8.0)
    work.wait_for("2 workers", 1, 3)
    workers = work.workers_of(2)

    work.hosts[1].mend_cable()

    assert are_stopped(workers)  # they ran on until their agent heard of the new round
    work.wait_for("3 workers", 1, 2, 3)
    assert [0, 0, 0] == [end[0] for end in work.end(1, 2, 3)]
    assert 3 == len(work.steps())


def test_the_loss_of_the_stores_host_ends_the_others(over_c10d):
    """They stop their workers in bounded time and name the endpoint; the host itself waits."""
    work = over_c10d().begin(*NODES_2_TO_3, *IMPATIENT)
    workers = work.workers_of(1, 2, 3)

    work.hosts[0].cut_cable()

    assert are_stopped(workers)
    ends = work.ends_of(2, 3)
    assert [75, 75] == [code for code, _, _ in ends]
    assert all(work.endpoint in err for _, _, err in ends)
    assert 1 == len(work.steps())
    work.jobs[0].signal(signal.SIGTERM)
    assert 128 + signal.SIGTERM == work.jobs[0].finish()[0]


def test_a_stores_host_whose_cable_is_mended_soon_goes_on_with_the_others(over_c10d):
    """It has thrown them out meanwhile, and they have not yet given it up."""
    work = over_c10d().begin(*NODES_2_TO_3)
    workers = work.workers_of(1)
    work.hosts[0].cut_cable()
    assert are_stopped(workers)

    work.hosts[0].mend_cable()

    work.wait_for("3 workers", 1, 2, 3)
    assert [0, 0, 0] == [end[0] for end in work.end(1, 2, 3)]
    # The others come back together, or one after the other.
    assert [each.workers for each in work.steps()] in ([3, 3], [3, 2, 3])


def test_with_two_endpoints_the_job_outlives_the_stores_host(over_c10d):
    """The others meet at the second one, and resume where the job was saved last."""
    work = over_c10d(endpoints=2).begin(*NODES_2_TO_3)

    work.jobs[0].signal(signal.SIGKILL)

    work.wait_for("2 workers", 2, 3)
    assert [0, 0] == [end[0] for end in work.end(2, 3)]
    assert 2 == len(work.steps())


def test_a_stores_host_that_was_cut_off_follows_to_the_second_endpoint(over_c10d):
    """The others went on there; once its cable is mended, it finds them."""
    work = over_c10d(endpoints=2).begin(*NODES_2_TO_3)
    work.hosts[0].cut_cable()
    work.wait_for("2 workers", 2, 3)

    work.hosts[0].mend_cable()

    work.wait_for("3 workers", 1, 2, 3)
    assert [0, 0, 0] == [end[0] for end in work.end(1, 2, 3)]
    assert 3 == len(work.steps())


def test_etcd_may_be_out_of_reach_for_a_moment(over_etcd):
    """The job goes on meanwhile, in its round."""
    work = over_etcd().begin(*NODES_2_TO_3)

    work.hosts[3].cut_cable()
    let_pass(8.0)
    work.hosts[3].mend_cable()
    let_pass(1.0)

    assert [0, 0, 0] == [end[0] for end in work.end(1, 2, 3)]
    assert 1 == len(work.steps())


def test_etcd_out_of_reach_for_good_ends_the_job(over_etcd):
    """Every node stops its workers in bounded time and names the endpoint."""
    work = over_etcd().begin(*NODES_2_TO_3, *IMPATIENT)
    workers = work.workers_of(1, 2, 3)

    work.hosts[3].cut_cable()

    assert are_stopped(workers)
    ends = work.ends_of(1, 2, 3)
    assert [75, 75, 75] == [code for code, _, _ in ends]
    assert all(work.endpoint in err for _, _, err in ends)


@pytest.mark.parametrize("backend", ["etcd-v2", "etcd-v3"])
def test_a_silent_name_server_keeps_no_node_from_its_etcd(over_etcd, tmp_path, backend):
    """A node that has reached it knows the address; the others would go on without it."""
    work = over_etcd(backend).begin(*NODES_2_TO_3)
    silence_name_server(work.hosts[1], tmp_path)

    for worker in work.workers_of(1):
        signal.pidfd_send_signal(worker, signal.SIGKILL)
        os.close(worker)

    work.wait_for("3 workers", 1, 2, 3)
    assert [0, 0, 0] == [end[0] for end in work.end(1, 2, 3)]
    assert [3, 3] == [each.workers for each in work.steps()]
