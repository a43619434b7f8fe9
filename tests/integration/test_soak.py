"""A job of 2 to 4 nodes whose agents come and go, by a schedule that a seed settles.

Agents join, leave politely, are killed, or stand still for a second. Whatever the schedule, the job
loses no more steps than those since its last checkpoint, spends no restart, gathers all agents that
live, and ends well. A longer soak, and another schedule::

    ELRUN_SOAK_S=120 ELRUN_SOAK_SEED=7 pytest tests/integration/test_soak.py
"""

import os
import random
import select
import signal
import sys
import time
from pathlib import Path

import pytest
from elrun.rendezvous.stores.etcd.server import EtcdServer
from job_kit import can_connect
from journal_kit import read_lines, read_steps

SOAK_S = float(os.environ.get("ELRUN_SOAK_S", "20"))
SEED = int(os.environ.get("ELRUN_SOAK_SEED", "1"))

pytestmark = [pytest.mark.integration, pytest.mark.timeout(SOAK_S + 120)]

PROGRAM = Path(__file__).with_name("in_step.py")
FEWEST, MOST = 2, 4
# No restart is to be spent; a node that is slow on a busy machine is not lost at once.
OPTIONS = ["--nnodes", f"{FEWEST}:{MOST}", "--max-restarts", 1, "--rdzv-id", "soak",
           "--rdzv-conf", "last_call_timeout=1,heartbeat_patience=3"]  # fmt: skip
# A lost node is missed after its patience; the rest is for a busy machine.
GATHERED_WITHIN_S = 60


class Soak:
    """The job's agents, and what was done to them.

    Args:
        start: Starts an agent.
        endpoint: Where they meet.
        folder: Where the job keeps its journal.
        seed: Settles the schedule.
        keeps_first: Whether nothing may happen to the first agent, which hosts the store.
    """

    def __init__(self, start, endpoint, folder, seed, *, keeps_first):
        self._start = start
        self._endpoint = endpoint
        self._folder = folder
        self._random = random.Random(seed)
        self._keeps_first = keeps_first
        self._names = {}
        self._agents = []
        self._began_at = time.monotonic()
        self.history = [f"seed {seed}"]

    def run(self, duration_s):
        """Let things happen for so long, and then end the job; return how its last agents end."""
        self.join()
        while not can_connect(self._endpoint):  # so that it is the first who hosts the store
            self.idle(0.05)
        self.join()
        self.await_all()
        until = time.monotonic() + duration_s
        while time.monotonic() < until:
            self._random.choice([self.join, self.join, self.leave, self.die, self.pause])()
            if self._random.random() < 0.5:
                self.await_all()
            self.idle(self._random.uniform(0, 2))
        while len(self._agents) < FEWEST:
            self.join()
        while len(self._agents) > MOST:
            self.leave()
        self.await_all()
        (self._folder / "enough").touch()
        return [agent.finish() for agent in self._agents]

    def join(self):
        """Let a further agent join, perhaps as a spare."""
        if len(self._agents) <= MOST:
            agent = self._start()
            self._names[id(agent)] = f"agent {len(self._names)}"
            self._agents.append(agent)
            self._tell(agent, "joins")

    def leave(self):
        """Stop an agent politely; it leaves as a signal tells it to, or ends before it can."""
        if agent := self._take():
            self._tell(agent, "leaves")
            agent.signal(signal.SIGTERM)
            code, _, err = agent.finish()
            assert code in {143, -signal.SIGTERM}, (self.history, err)

    def die(self):
        """Kill an agent."""
        if agent := self._take():
            self._tell(agent, "dies")
            agent.signal(signal.SIGKILL)
            agent.finish()

    def pause(self):
        """Let an agent stand still for a second, which is less than the patience."""
        agent = self._random.choice(self._agents)
        self._tell(agent, "stands still")
        agent.signal(signal.SIGSTOP)
        self.idle(1)
        agent.signal(signal.SIGCONT)

    def idle(self, duration_s):
        """Let time pass in which no agent may end."""
        pidfds = [os.pidfd_open(agent.process.pid) for agent in self._agents]
        try:
            ended, _, _ = select.select(pidfds, [], [], duration_s)
        finally:
            for pidfd in pidfds:
                os.close(pidfd)
        for pidfd in ended:
            agent = self._agents[pidfds.index(pidfd)]
            raise AssertionError(
                f"{self._names[id(agent)]} ended: {agent.finish()}; {self.history}"
            )

    def await_all(self):
        """Return once a round of all agents that it can take makes steps, if there are enough."""
        wanted = min(len(self._agents), MOST)
        if wanted < FEWEST:
            return
        seen = len(self._lines())
        deadline = time.monotonic() + GATHERED_WITHIN_S
        while True:
            self.idle(0.1)
            lines = self._lines()[seen:]
            latest = [line["rank"] for line in lines if line["round"] == lines[-1]["round"]]
            if len(set(latest)) == wanted:
                self._note(f"{wanted} nodes make step {lines[-1]['step']}")
                return
            assert time.monotonic() < deadline, f"no round of {wanted} nodes: {self.history}"

    def _lines(self):
        return read_lines(self._folder) if (self._folder / "journal").exists() else []

    def _take(self):
        """Return an agent that is to end, if one may."""
        may_end = self._agents[1:] if self._keeps_first else self._agents
        if len(self._agents) == 1 or not may_end:
            return None
        agent = self._random.choice(may_end)
        self._agents.remove(agent)
        return agent

    def _tell(self, agent, what):
        self._note(f"{self._names[id(agent)]} {what}")

    def _note(self, what):
        self.history.append(f"{time.monotonic() - self._began_at:6.2f} s  {what}")


@pytest.fixture(params=["c10d", "etcd-v3"], name="soak")
def _soak(elrun, request, vacant_endpoint, tmp_path):
    def soak(endpoint, *, keeps_first):
        meeting = ["--rdzv-backend", request.param, "--rdzv-endpoint", endpoint]
        return Soak(
            lambda: elrun(*meeting, *OPTIONS, PROGRAM, tmp_path),
            endpoint,
            tmp_path,
            SEED,
            keeps_first=keeps_first,
        )

    if request.param == "c10d":
        yield soak(vacant_endpoint, keeps_first=True)
    else:
        with EtcdServer() as server:
            yield soak(server.get_endpoint(), keeps_first=False)


def test_a_job_goes_on_while_its_agents_come_and_go(soak, tmp_path):
    """It never goes back by more than its last checkpoint, and leaves nothing behind."""
    ends = soak.run(SOAK_S)

    sys.stdout.write("\n".join(soak.history))
    assert {0} == {code for code, _, _ in ends}, (soak.history, ends)
    assert len(read_steps(tmp_path)) > 1
