"""Which processes belong to an agent."""

import os
import subprocess
import sys

import pytest
from elrun.agent.system.process_tree import (
    Process,
    ProcessTree,
    carries_mark,
    find_relatives,
    mapping_name,
    read_process,
)

AGENT = 10
WORKER = 20
STRANGER = 5


def process(pid, parent, session, start=100):
    return Process(pid, start, parent, group=session, session=session, ended=False)


def relatives(*processes, workers=None, reaper=AGENT, marked=(), known=()):
    found = find_relatives(
        {each.pid: each for each in processes},
        {WORKER: 100} if workers is None else workers,
        reaper,
        marked.__contains__,
        known,
    )
    return {each.pid for each in found}


def test_a_worker_belongs():
    """It is named by its pid and its start time."""
    assert {WORKER} == relatives(process(WORKER, AGENT, WORKER), process(STRANGER, 1, STRANGER))


def test_another_process_with_a_workers_old_pid_does_not_belong():
    """Nor does what is in that process's session."""
    recycled = process(WORKER, 1, WORKER, start=200)

    assert set() == relatives(recycled, process(30, WORKER, WORKER))


def test_the_session_of_a_worker_that_has_ended_belongs():
    """The orphans of a worker's session are in it still."""
    assert {30, 31} == relatives(process(30, AGENT, WORKER), process(31, 1, WORKER))


def test_descendants_belong_whatever_their_session():
    """Children's children too, each in a session of its own."""
    assert {WORKER, 30, 31} == relatives(
        process(31, 30, 31), process(30, WORKER, 30), process(WORKER, AGENT, WORKER)
    )


def test_an_adopted_process_with_the_mark_belongs():
    """With all that descends from it; one without the mark is the user's own."""
    found = relatives(
        process(30, AGENT, 30), process(31, 30, 31), process(32, AGENT, 32), marked={30}
    )

    assert {30, 31} == found


def test_a_marked_process_that_was_not_adopted_does_not_belong():
    """A batch job that a worker submitted has the worker's environment, and another parent."""
    assert set() == relatives(
        process(30, STRANGER, 30), process(STRANGER, 1, STRANGER), marked={30}
    )


def test_after_the_agents_death_orphans_are_its_reapers():
    """Whoever adopts the agent's children stands in its place."""
    assert {30} == relatives(process(30, 1, 30), process(31, AGENT, 31), reaper=1, marked={30, 31})


def test_what_was_found_once_belongs():
    """It may have been orphaned since, and carry no mark; another process of its pid is no kin."""
    orphan, recycled = process(30, AGENT, 30), process(31, AGENT, 31, start=200)

    assert {30} == relatives(orphan, recycled, known={(30, 100), (31, 100)})


def test_a_ring_of_parents_ends():
    """Processes are read one after the other, so that parents may contradict each other."""
    assert set() == relatives(process(30, 31, 30), process(31, 30, 31))


def test_a_long_line_of_descendants_is_followed():
    """However long it is."""
    line = [process(pid, pid - 1, pid) for pid in range(WORKER + 1, WORKER + 5001)]

    assert 5001 == len(relatives(process(WORKER, AGENT, WORKER), *reversed(line)))


def test_an_orphan_of_a_workers_session_is_known():
    """The worker itself is none."""
    tree = ProcessTree("mark")
    tree.add(WORKER, 100)

    assert tree.has_orphan(process(30, AGENT, WORKER))
    assert not tree.has_orphan(process(WORKER, AGENT, WORKER))
    tree.remove(WORKER)
    assert not tree.has_orphan(process(30, AGENT, WORKER))


def test_a_process_of_the_agent_alone_has_no_children_but_its_own_and_orphans():
    """Any other is an orphan, unless the agent's own program may have started it."""
    tree = ProcessTree("mark", takes_strangers=True)
    tree.add(WORKER, 100)
    tree.add_helper(40)
    children = [process(pid, AGENT, session=pid) for pid in (WORKER, 30, 40)]
    children.append(process(50, AGENT, session=os.getsid(0)))

    assert [False, True, False, False] == [tree.has_orphan(each) for each in children]


@pytest.mark.integration
def test_a_process_is_read_from_the_kernel():
    """Whatever its name looks like."""
    name = ") Z 1 1 1 ("
    child = subprocess.Popen(
        ["python3", "-c", f"open('/proc/self/comm', 'w').write({name!r}); print(); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    child.stdout.readline()

    seen = read_process(child.pid)
    child.communicate()

    assert (child.pid, os.getpid(), child.pid, child.pid, False) == (
        seen.pid,
        seen.parent,
        seen.group,
        seen.session,
        seen.ended,
    )
    assert read_process(child.pid) is None


@pytest.mark.integration
def test_a_zombie_has_ended():
    """It is still there to be reaped, with its session."""
    child = subprocess.Popen(["true"], start_new_session=True)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    seen = read_process(child.pid)
    child.wait()

    assert (True, child.pid) == (seen.ended, seen.session)


@pytest.mark.integration
@pytest.mark.parametrize(("mark", "carries"), [("cafe", True), ("beef", True), ("f00d", False)])
def test_marks_are_found_in_the_environment(mark, carries):
    """Each agent adds its own to those of outer ones."""
    child = subprocess.Popen(
        ["cat"],
        env={**os.environ, "ELRUN_AGENT": "cafe:beef"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    child.stdin.write(b"it runs\n")
    child.stdin.flush()
    child.stdout.readline()

    found = carries_mark(child.pid, mark)
    child.communicate()

    assert carries is found


@pytest.mark.integration
def test_a_mark_is_found_among_the_mappings():
    """That is how a process that was forked, and executed nothing, carries it."""
    code = (
        "import mmap, os; fd = os.memfd_create('" + mapping_name("cafe") + "');"
        "os.ftruncate(fd, 4096); mapping = mmap.mmap(fd, 4096); print(); input()"
    )
    child = subprocess.Popen(["python3", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()

    found = carries_mark(child.pid, "cafe"), carries_mark(child.pid, "f00d")
    in_its_environment = carries_mark(child.pid, "cafe", is_mapped=False)
    child.communicate()

    assert (True, False, False) == (*found, in_its_environment)


@pytest.mark.integration
def test_the_mappings_of_a_helper_are_not_read(monkeypatch):
    """A process with torch has thousands, and each look at a restart would read them."""
    tree = ProcessTree("mark")
    helper, orphan = (subprocess.Popen(["sleep", "1000"], start_new_session=True) for _ in range(2))
    tree.add_helper(helper.pid)
    read = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *more: read.append(path) or real(path, *more))

    tree.members(os.getpid())
    for each in (helper, orphan):
        each.kill()
        each.wait()

    maps = [f"/proc/{each.pid}/maps" in read for each in (helper, orphan)]
    assert [False, True] == maps


@pytest.mark.integration
def test_a_family_has_its_workers_and_nobody_else():
    """A real one, beside a child of this process that is no worker."""
    tree = ProcessTree("mark")
    worker, other = (subprocess.Popen(["sleep", "1000"], start_new_session=True) for _ in range(2))
    tree.add(worker.pid, read_process(worker.pid).start)

    found = [member.pid for member in tree.members(os.getpid())]
    tree.abandon(read_process(worker.pid))
    found_then = tree.members(os.getpid())
    for each in (worker, other):
        each.kill()
        each.wait()

    assert [worker.pid] == found
    assert [] == found_then


LOOK_FOR_LEFTOVERS = """
import os, subprocess, sys
from elrun.agent.system.prctl import set_subreaper
from elrun.agent.system.process_tree import ProcessTree, marked, read_process

set_subreaper(on=True)
tree = ProcessTree("mark")
helper = subprocess.Popen(["sleep", "1000"])
tree.add_helper(helper.pid)
shell = sys.argv[1]
worker = subprocess.Popen(["sh", "-c", shell], start_new_session=True, stdout=subprocess.PIPE,
    env=marked(os.environ, "mark"))
tree.add(worker.pid, read_process(worker.pid).start)
left = worker.stdout.read()
worker.wait()
looks = []
sys.addaudithook(lambda event, args: looks.append(event) if args == ("/proc",) else None)
is_over = tree.is_certainly_over()
found = tree.leftovers()
is_right = [str(each.pid).encode() for each in found] == left.split()
print(is_right, len(looks), is_over == (not found))
for each in (helper.pid, *(process.pid for process in found)):
    os.kill(each, 9)
"""


@pytest.mark.integration
@pytest.mark.parametrize(
    ("shell", "looks"),
    [
        ("exit 0", 0),
        ("sleep 1000 > /dev/null & echo $!", 1),
        ("setsid sh -c 'echo $$; exec sleep 1000 > /dev/null' & exit 0", 1),
    ],
)
def test_all_processes_are_looked_through_only_if_a_worker_left_one(shell, looks):
    """A busy machine has thousands, and nearly no worker leaves anything: its orphans are ours.

    One look at these tells that all is over.
    """
    program = [sys.executable, "-c", LOOK_FOR_LEFTOVERS, shell]

    found = subprocess.run(program, capture_output=True, text=True, check=True).stdout

    assert f"True {looks} True\n" == found


LOOK_AT_RUNNING = """
import os, subprocess, sys
from elrun.agent.system.prctl import set_subreaper
from elrun.agent.system.process_tree import ProcessTree, read_process

set_subreaper(on=True)
tree = ProcessTree("mark")
worker = subprocess.Popen([sys.executable, "-c", sys.argv[1]], start_new_session=True,
    stdout=subprocess.PIPE)
tree.add(worker.pid, read_process(worker.pid).start)
left = worker.stdout.readline()
looks = []
sys.addaudithook(lambda event, args: looks.append(event) if args == ("/proc",) else None)
found = tree.members(os.getpid())
seen = len(looks)
print({each.pid for each in found} == {worker.pid, *map(int, left.split())}, seen,
    tree.is_certainly_over())
for each in found:
    os.kill(each.pid, 9)
"""

ALONE = "print(flush=True)"
WITH_CHILD = "print(subprocess.Popen(['sleep', '1000']).pid, flush=True)"
WITH_CHILD_OF_A_THREAD = f"threading.Thread(target=lambda: ({WITH_CHILD}, HANG())).start()"
WITH_ORPHAN = """
print(int(subprocess.check_output(["sh", "-c", "sleep 1000 >/dev/null & echo $!"])), flush=True)
"""
WITH_THREADS = f"[threading.Thread(target=HANG).start() for _ in range(40)]; {ALONE}"


@pytest.mark.integration
@pytest.mark.parametrize(
    ("does", "looks"),
    [
        (ALONE, 0),
        (WITH_CHILD, 1),
        (WITH_CHILD_OF_A_THREAD, 1),
        (WITH_ORPHAN, 1),
        (WITH_THREADS, 1),
    ],
)
def test_all_processes_are_looked_through_only_if_a_running_worker_has_a_child(does, looks):
    """That look comes before the signal that stops it, and takes milliseconds."""
    worker = f"import subprocess, threading, time\nHANG = lambda: time.sleep(1000)\n{does}\nHANG()"
    program = [sys.executable, "-c", LOOK_AT_RUNNING, worker]

    found = subprocess.run(program, capture_output=True, text=True, check=True).stdout

    assert f"True {looks} False\n" == found
