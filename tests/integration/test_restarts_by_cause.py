"""Which failures are followed by a restart, and when: real jobs with each option."""

import signal

import pytest

pytestmark = pytest.mark.integration

ENDS = """
import builtins, os, signal, sys
ends = sys.argv[1:]
end = ends[min(int(os.environ["TORCHELASTIC_RESTART_COUNT"]), len(ends) - 1)]
if os.environ["RANK"] != os.environ.get("FAILING", "0"):
    signal.pause()
if end == "0":
    os.write(1, b"done\\n")
elif end.isdigit():
    os._exit(int(end))
elif end.startswith("SIG"):
    os.kill(os.getpid(), signal.Signals[end])
else:
    class Mine(KeyError):
        pass

    raise {**vars(builtins), "Mine": Mine}[end]("no luck")
"""


@pytest.mark.parametrize(
    ("options", "ends", "code", "words"),
    [
        (["--no-restart-on", "7"], ["7"], 7, "a worker exited with code 7, which is not to be "),
        (["--no-restart-on=5-9"], ["3", "7"], 7, "no restart: a worker exited with code 7"),
        (["--no-restart-on", "SIGUSR1"], ["SIGUSR1"], 138, "a worker was killed by SIGUSR1"),
        (["--no-restart-on", "ImportError"], ["ImportError"], 1, "a worker raised ImportError"),
        (["--no-restart-on", "137"], ["SIGKILL"], 137, "a worker was killed by SIGKILL, which is"),
        (["--no-restart-on", "OSError"], ["FileNotFoundError"], 1, "raised FileNotFoundError, "),
        (["--no-restart-on", "LookupError"], ["Mine"], 1, "a worker raised __main__.Mine, which"),
        (["--restart-on", "OSError"], ["OSError", "3"], 3, "not among what is to be restarted"),
        (["--fuse", "2"], ["4"], 4, "2 attempts in a row have ended within 5 s of their start"),
        (["--restart-window", "60"], ["5"], 5, "restarts spent in 60 s: 3 of 3 (--restart-window)"),
        ([], ["5"], 5, "this looks hopeless: it is death 3 in a row at the start by the same"),
    ],
)
def test_a_failure_that_is_not_restarted_says_why(elrun, script, options, ends, code, words):
    """One line: what happened, and which option decided."""
    job = elrun("--standalone", "--max-restarts", 3, *options, script(ENDS), *ends)

    exit_code, _, err = job.finish()

    assert (code, True) == (exit_code, words in err), err


@pytest.mark.parametrize(
    ("options", "source"),
    [
        ([], "def train(:"),
        (["--no-restart-on", "ValueError"], "raise ValueError"),
        (["--restart-on", "OSError"], "raise ValueError"),
        (["--restart-window", "60"], "raise ValueError"),
    ],
)
def test_without_restarts_the_summary_alone_tells_of_a_failure(elrun, script, options, source):
    """That no restart follows is no news."""
    job = elrun("--standalone", "--max-restarts", 0, *options, script(source))

    _, _, err = job.finish()

    assert (0, 1) == (err.count("; no restart"), err.count("elrun: script.py failed: ")), err


@pytest.mark.parametrize(
    ("options", "ends"),
    [
        (["--restart-on", "7,SIGKILL,OSError"], ["7", "SIGKILL", "OSError", "0"]),
        (["--no-restart-on", "7"], ["6", "SIGKILL", "ImportError", "0"]),
        (["--restart-delay", "0.05"], ["1", "1", "1", "0"]),
        (["--fuse", "2"], ["1", "2", "1", "0"]),
    ],
)
def test_what_the_rules_allow_is_restarted(elrun, script, options, ends):
    """As without rules."""
    job = elrun("--standalone", "--max-restarts", 3, *options, script(ENDS), *ends)

    assert (0, "done\n") == job.finish()[:2]


def test_a_script_that_can_not_be_compiled_is_not_restarted(elrun, script):
    """No restart changes it; one that only imports such a file is restarted."""
    script("x = = 1", "broken.py")
    job = elrun("--standalone", "--max-restarts", 2, "broken.py")
    importer = elrun("--standalone", "--max-restarts", 2, script("import broken"))

    code, _, err = job.finish()
    others_code, _, others_err = importer.finish()

    assert (1, 0, True) == (code, err.count("restarting"), "has a syntax error" in err), err
    assert (1, 2) == (others_code, others_err.count("restarting all workers")), others_err


def test_a_window_forgets_old_restarts(elrun, script):
    """A budget of one lasts for three failures that are far enough apart."""
    slow = ENDS.replace(
        "import builtins, os, signal, sys",
        "import builtins, os, signal, sys, time\ntime.sleep(0.6)",
    )
    options = ("--standalone", "--max-restarts", 1, "--restart-window", 0.4)
    job = elrun(*options, script(slow), 1, 1, 1, 0)

    code, out, err = job.finish()

    assert (0, "done\n", 1) == (code, out, err.count("(restart 3 in all, at most 1 in 0.4 s)"))


def test_a_decision_binds_all_nodes(elrun, script, vacant_endpoint):
    """The node on which the worker failed decides; the other one has no such rule."""
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    options = (*meeting, "--rdzv-id", "job", "--max-restarts", 3)
    failing = {"FAILING": "1"}
    nodes = [
        elrun(*options, "--node-rank", 0, script(ENDS), 7, env=failing),
        elrun(*options, "--node-rank", 1, "--no-restart-on", 7, script(ENDS), 7, env=failing),
    ]

    ends = [node.finish() for node in nodes]

    assert [(7, 1), (7, 1)] == [(code, err.count("(--no-restart-on)")) for code, _, err in ends]


def test_a_signal_ends_the_pause_before_a_restart(elrun, script):
    """A scheduler does not wait for it."""
    options = ("--standalone", "--max-restarts", 3, "--restart-delay", 200)
    job = elrun(*options, script(ENDS), 1)
    while "restarting all workers in " not in (line := job.process.stderr.readline()):
        assert line

    job.signal(signal.SIGTERM)

    code, _, err = job.finish(timeout_s=60)
    assert (143, True) == (code, "stopped by SIGTERM; none of its workers is left" in err), err


STUBBORN = """
import os, signal, sys
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    if os.environ["RANK"] == "1":
        sys.stdin.readline()
        os._exit(1)
    signal.signal(signal.SIGTERM, lambda *_: os.write(1, b"told\\n"))
    os.write(1, b"ready\\n")
    while True:
        signal.pause()
"""


def test_workers_that_are_restarted_have_their_own_time(elrun, script):
    """Those of a broken group hang in a collective; saving at the end takes longer."""
    options = ("--standalone", "--nproc-per-node", 2, "--max-restarts", 1)
    times = ("--restart-timeout", 0.3, "--shutdown-timeout", 200)
    job = elrun(*options, *times, script(STUBBORN), stdin=-1)
    job.wait_for_line("ready")
    job.process.stdin.write("go\n")
    job.process.stdin.flush()

    code, out, err = job.finish(timeout_s=60)

    assert (0, "ready\ntold\n", True) == (code, out, "did not end all in 0.3 s" in err), err
