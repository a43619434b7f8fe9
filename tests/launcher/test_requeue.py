"""``--requeue``: when SLURM is asked to queue a job again, and what people hear of it."""

import os
import signal
import threading
import time

import pytest
from elrun.agent.system.signals import Preempted
from elrun.launcher import requeue as requeue_module
from elrun.launcher.requeue import reason_against, requeue, turn_s

# It notes how it was called; the first argument that is a verb says what it answers.
SCONTROL = """#!/bin/sh
echo "$@" >> "$FOLDER/calls"
[ "$1" = requeue ] && { echo "$REFUSAL" >&2; exit "$CODE"; }
echo "$SHOWN"
"""


@pytest.fixture(name="ask")
def _ask(tmp_path):
    """Preempt a job; return how scontrol was called, and what was said."""

    def ask(*, group_rank=0, scontrol=SCONTROL, in_s=0, has_all_left=False, **variables):
        preempted = Preempted(signal.SIGUSR1, "node1")
        preempted.has_all_left = has_all_left
        preempted.group_rank, preempted.ends_at = group_rank, time.monotonic() + in_s
        if scontrol:
            (tmp_path / "scontrol").write_text(scontrol)
            (tmp_path / "scontrol").chmod(0o755)
        known = {"CODE": "0", "REFUSAL": "", "SHOWN": "JobState=RUNNING Reason=None Restarts=0"}
        path = f"{tmp_path}{os.pathsep}/bin" if scontrol else str(tmp_path)
        given = {"SLURM_JOB_ID": "7", "PATH": path, "FOLDER": str(tmp_path), **known, **variables}
        said = []
        requeue(preempted, given, said.append)
        calls = tmp_path / "calls"
        return calls.read_text().splitlines() if calls.exists() else [], said

    return ask


def test_the_first_node_asks_slurm(ask):
    """For all nodes, and once."""
    calls = ["--oneliner show job 7", "requeue 7"]

    assert (calls, ["job 7 is queued again"]) == ask()


def test_what_a_wrapper_of_scontrol_leaves_running_is_not_waited_for(ask, tmp_path):
    """It has the wrapper's standard output and error open."""
    wrapper = SCONTROL.replace("#!/bin/sh", "#!/bin/sh\nsleep 600 & echo $! >> $FOLDER/left")

    try:
        _, said = ask(scontrol=wrapper)
    finally:
        for pid in (tmp_path / "left").read_text().split():
            os.kill(int(pid), signal.SIGKILL)

    assert ["job 7 is queued again"] == said


@pytest.mark.parametrize(
    ("group_rank", "node_id", "has_all_left", "expected"),
    [
        (0, "1", True, 0.0),
        (0, "1", False, 0.0),
        (1, "0", True, 2.25),
        (9999, "0", True, 4.0),
        (1, "0", False, 20.25),
        (2, "", False, 20.5),
        (9999, "", False, 22.0),
        (None, "0", False, 0.0),
        (None, "", False, 0.0),
        (None, "²", False, 0.0),
        (None, "3", False, 1.75),
        (None, "0", True, None),
    ],
)
def test_the_first_node_that_lives_asks(group_rank, node_id, has_all_left, expected):
    """The rank in the job counts; where nodes still meet, SLURM's number of the node.

    Where the first node may be gone, the others wait until all workers must have left; where it
    has just said that all have, for a moment, in which it may die.
    """
    preempted = Preempted(signal.SIGUSR1, "node1")
    preempted.group_rank, preempted.has_all_left = group_rank, has_all_left
    preempted.ends_at = 120.0

    assert expected == turn_s(preempted, node_id, now=100.0)


def test_a_job_without_a_deadline_is_asked_about_once_in_a_lifetime():
    """Whoever gives workers all the time they need gives it here as well."""
    preempted = Preempted(signal.SIGUSR1, "node1")
    preempted.group_rank, preempted.ends_at = 1, float("inf")

    assert 1e9 < turn_s(preempted, "", now=100.0) < float("inf")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, ["job 7 is queued again"]),
        ({"SHOWN": "JobState=COMPLETING Reason=None Restarts=0"}, []),
        ({"SHOWN": "JobState=PENDING Reason=BeginTime Restarts=1"}, []),
        ({"CODE": "1"}, ["job 7 is not queued again: scontrol said: exit code 1"]),
    ],
)
def test_another_node_whose_turn_comes_says_only_what_is_news(ask, settings, said):
    """The first one may have had the job queued again, and have said so."""
    assert said == ask(group_rank=1, **settings)[1]


@pytest.mark.parametrize("settings", [{"CODE": "1"}, {"scontrol": ""}])
def test_what_the_first_node_has_said_is_not_said_by_all(ask, settings, monkeypatch):
    """It has lived until a moment ago, and asks before them."""
    monkeypatch.setattr(requeue_module, "_FIRST_S", 0.0)

    assert [] == ask(group_rank=1, has_all_left=True, **settings)[1]
    assert ["job 7 is queued again"] == ask(group_rank=1, has_all_left=True)[1]


def test_a_scontrol_that_never_answers_is_not_waited_for_at_the_end(ask, monkeypatch):
    """One time counts for all its answers, and a shorter one once this process is to end."""
    monkeypatch.setattr(requeue_module, "ANSWER_AT_END_S", 0.05)
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    try:
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)
        _, said = ask(scontrol="#!/bin/sh\nexec sleep 600")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGTERM, before)

    assert 1 == len(said)
    assert "scontrol did not answer within 0.05 s" in said[0]


def test_the_end_of_the_job_ends_the_turn(ask):
    """SLURM sends it as soon as another node has had the job queued again."""
    timer = threading.Timer(0.05, signal.pthread_kill, (threading.get_ident(), signal.SIGTERM))
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    threads_block = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM,))
    try:
        timer.start()
        calls, said = ask(group_rank=1, in_s=3600)
        timer.join()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, threads_block)
        signal.signal(signal.SIGTERM, before)

    assert ([], []) == (calls, said)


@pytest.mark.parametrize(
    ("shown", "restart_count", "reason"),
    [
        ("JobState=RUNNING Reason=None Restarts=0", "", ""),
        ("JobState=RUNNING Reason=None Restarts=2", "2", ""),
        ("JobState=COMPLETING Reason=TimeLimit Restarts=0", "", ""),
        ("JobState=COMPLETING Reason=None Restarts=0", "", "is not queued again, since SLURM ends"),
        ("JobState=CANCELLED Reason=None Restarts=1", "1", "is not queued again, since SLURM ends"),
        ("JobState=COMPLETING Reason=None Restarts=1", "", "is queued again by SLURM itself"),
        ("JobState=PENDING Reason=BeginTime Restarts=3", "2", "is queued again by SLURM itself"),
        ("", "x", ""),
    ],
)
def test_what_slurm_does_itself_is_left_to_it(shown, restart_count, reason):
    """A job that its user cancels stays cancelled."""
    known = dict(word.split("=") for word in shown.split())

    found = reason_against(known, restart_count)

    assert (bool(reason), True) == (bool(found), found.startswith(reason))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"CODE": "1", "REFUSAL": "Access denied for job 7"},
            "job 7 is not queued again: scontrol said: Access denied for job 7",
        ),
        (
            {
                "CODE": "1",
                "REFUSAL": "disabled for job 7",
                "SHOWN": "JobState=RUNNING Requeue=0 Restarts=0",
            },
            (
                "job 7 is not queued again: scontrol said: disabled for job 7; "
                "submit it with sbatch --requeue"
            ),
        ),
        (
            {"CODE": "3"},
            "job 7 is not queued again: scontrol said: exit code 3",
        ),
        (
            {"scontrol": ""},
            (
                "job 7 is not queued again: there is no scontrol on PATH; "
                "do it by hand: scontrol requeue 7"
            ),
        ),
    ],
)
def test_what_fails_is_said(ask, settings, sentence):
    """With what to do about it."""
    assert [sentence] == ask(**settings)[1]


def test_the_end_of_its_own_job_does_not_end_scontrol(ask):
    """SLURM signals all processes once it has queued the job again."""
    kills_itself = SCONTROL.replace('echo "$SHOWN"', 'kill -TERM $$; echo "$SHOWN"')

    assert ["job 7 is queued again"] == ask(scontrol=kills_itself)[1]


@pytest.mark.parametrize(
    ("options", "variables", "words"),
    [
        ("--requeue", {}, "--requeue: give --preempt-signal as well"),
        ("--requeue", {"SLURM_JOB_ID": "7"}, "--requeue: give --preempt-signal as well"),
    ],
)
def test_a_job_that_nothing_preempts_is_refused(elrun, options, variables, words):
    """It would run as if nobody had asked."""
    assert words in elrun.refusal(*options.split(), "x.py", **variables)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "--requeue: no effect, since this is no job of SLURM's (SLURM_JOB_ID)"),
        (
            {"SLURM_JOB_ID": "7", "PATH": "/nowhere"},
            "--requeue: there is no scontrol on PATH, so this elrun will not be able to have",
        ),
    ],
)
def test_what_will_not_work_is_said_before_the_job(elrun, variables, words):
    """And the job runs: a command for the cluster is tried at home."""
    plan = elrun.plan("--requeue", "--preempt-signal=USR1", "x.py", **variables)

    assert [words] == [each[: len(words)] for each in plan.notices if "--requeue" in each]
