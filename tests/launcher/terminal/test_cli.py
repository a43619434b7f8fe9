"""From arguments to an exit code, with a launch that is told how to end."""

import importlib.metadata
import signal

import pytest
from elrun.agent.failures.failure import ChildFailedError, ProcessFailure
from elrun.agent.system.signals import SignalException
from elrun.launcher import cli
from elrun.launcher.plan.program import Program
from elrun.launcher.terminal.exits import exit_of
from elrun.launcher.terminal.process_end import ExitCode
from elrun.rendezvous.errors import RendezvousClosedError, RendezvousTimeoutError

import elrun
from elrun import UsageError


class Launch:
    """Notes what it is given; ends as it was told."""

    def __init__(self, error=None):
        self.error = error
        self.launched = []

    def __call__(self, config, entrypoint, args):
        self.launched.append((config, Program(entrypoint, args)))
        if self.error is not None:
            raise self.error


@pytest.fixture(name="run")
def _run(tmp_path, monkeypatch, capsys):
    """Run the command line on a script ``x.py``; return exit code and standard error."""
    (tmp_path / "x.py").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)

    def run(*args, error=None):
        code = cli.run([*args, "x.py"], Launch(error))
        return code, capsys.readouterr().err

    return run


def failure(exitcode):
    return ChildFailedError("x.py", {0: ProcessFailure(0, 1234, exitcode, "")})


def test_success_is_silent(run):
    """Standard error is for what people should know."""
    assert (0, "") == run()


@pytest.mark.parametrize(("exitcode", "expected"), [(3, 3), (1, 1), (-11, 139), (127, 127)])
def test_the_root_cause_s_exit_code_is_elrun_s(run, exitcode, expected):
    """128+n for a signal."""
    assert expected == run(error=failure(exitcode))[0]


def test_a_failure_is_summed_up(run):
    """On standard error, the root cause first."""
    assert run(error=failure(3))[1].startswith("elrun: x.py failed: rank 0 exited with code 3 ")


def test_a_signal_is_told_in_one_line(run):
    """With what became of the workers."""
    stopped = SignalException("stop", signal.SIGTERM)

    assert (143, "elrun: stopped by SIGTERM; none of its workers is left\n") == run(error=stopped)


@pytest.mark.parametrize(
    "error",
    [RendezvousTimeoutError("1 of 2 nodes came"), RendezvousClosedError("1 of 2 nodes came")],
)
def test_a_failed_rendezvous_is_one_sentence(run, error):
    """A scheduler may try again: EX_TEMPFAIL."""
    assert (75, "elrun: the rendezvous failed: 1 of 2 nodes came\n") == run(error=error)


def test_what_a_backend_refuses_is_bad_usage(run):
    """It knows its settings only when it is made."""
    sentence = "--rdzv-conf join_timeout=x: give a number of seconds"

    assert (2, f"elrun: {sentence}\n") == run(error=UsageError(sentence))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ValueError("oh"), "this is a fault in elrun itself; please report it with the lines"),
        (TypeError("oh"), "this is a fault in elrun itself; please report it with the lines above"),
        (UnicodeDecodeError("utf-8", b"", 0, 1, "oh"), "this is a fault in elrun itself"),
        (OSError(5, "Input/output error"), "the system refused what elrun needs: [Errno 5] Input"),
    ],
)
def test_a_fault_shows_where_it_happened(run, error, sentence):
    """The traceback, then a sentence."""
    code, said = run(error=error)

    assert 70 == code
    assert said.startswith("Traceback (most recent call last):")
    assert said.splitlines()[-1].startswith(f"elrun: {sentence}")


def test_a_shortage_is_one_sentence(run):
    """Where it happened is of no use to a person who has to raise a limit."""
    sentence = (
        "the system refused what elrun needs: Too many open files; raise the limit of open files "
        "(ulimit -n), or start fewer workers"
    )

    assert (70, f"elrun: {sentence}\n") == run(error=OSError(24, "Too many open files"))


def test_an_interrupt_ends_like_any_program_s(run):
    """Before the agent takes the signal itself."""
    assert (130, "elrun: interrupted\n") == run(error=KeyboardInterrupt())


def test_bad_usage_starts_nothing(run):
    """One sentence, no banner, no traceback."""
    expected = "elrun: --nnodes 4:2: the smaller number comes first, as in 2:4\n"

    assert (2, expected) == run("--nnodes", "4:2", error=AssertionError("it was launched"))


def test_notices_come_before_the_launch(run):
    """An abbreviation, and what is set for the workers."""
    code, said = run("--nproc=2")

    assert 0 == code
    assert [
        "elrun: --nproc is taken as --nproc-per-node",
        "elrun: OMP_NUM_THREADS=1 for each of the 2 workers; set it for another number",
    ] == said.splitlines()


def test_a_worker_that_is_an_elrun_passes_its_error_file_on(run, tmp_path, monkeypatch):
    """Its own launcher then knows the root cause."""
    own, theirs = tmp_path / "own.json", tmp_path / "theirs.json"
    theirs.write_text(
        '{"message": {"message": "oh", "extraInfo": {"py_callstack": "Trace", "timestamp": "1"}}}'
    )
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(own))

    run(error=ChildFailedError("x.py", {0: ProcessFailure(0, 1234, 1, str(theirs))}))

    assert '"oh"' in own.read_text()


def test_a_summary_that_fails_changes_no_exit_code(run, monkeypatch):
    """How a failure is shown must not hide it."""
    monkeypatch.setattr("rich.console.Console.print", None)

    code, said = run(error=failure(3))

    assert 3 == code
    assert "rank 0" in said


def test_main_raises_the_exit_code(tmp_path, monkeypatch):
    """As ``torch.distributed.run.main`` it takes the arguments, or those of the process."""
    monkeypatch.setattr("sys.argv", ["elrun", "--nnodes", "0", "x.py"])

    with pytest.raises(SystemExit) as caught:
        cli.main()

    assert ExitCode.BAD_USAGE == caught.value.code


def test_what_cannot_be_used_is_a_value_error_of_main(tmp_path):
    """As in torch: a program may catch it, and its sentence is there."""
    with pytest.raises(ValueError, match="no such script") as caught:
        cli.main([str(tmp_path / "nosuch.py")])

    assert isinstance(caught.value, SystemExit)


def test_a_failed_job_is_an_exit_that_tells_who_failed():
    """Programs that catch torch's ``ChildFailedError`` of ``main`` go on as before."""
    exit_ = exit_of(139, failure(-11))

    assert isinstance(exit_, SystemExit)
    assert isinstance(exit_, ChildFailedError)
    assert (139, -11) == (exit_.code, exit_.get_first_failure()[1].exitcode)


@pytest.mark.parametrize("cause", [None, RuntimeError("oh")])
def test_another_end_is_a_plain_exit(cause):
    """There is no error of torch's that it could be."""
    exit_ = exit_of(ExitCode.FAULT, cause)

    assert (SystemExit, 70) == (type(exit_), exit_.code)


def test_main_returns_after_a_success(capsys):
    """A program that launches by ``main`` goes on, as with ``torch.distributed.run.main``."""
    assert cli.main(["--version"]) is None
    assert capsys.readouterr().out.startswith("elrun ")


def test_the_version_is_that_of_the_installation(capsys):
    """``pyproject.toml`` says it, and ``version.py``, which is read in no time, says the same."""
    cli.run(["-V"])

    assert f"elrun {elrun.__version__}\n" == capsys.readouterr().out
    assert importlib.metadata.version("elrun") == elrun.__version__


@pytest.mark.parametrize("option", ["--help", "-h", "--version", "-V", "--print-completion=bash"])
def test_questions_are_answered_on_standard_output(capsys, option):
    """Whatever else stands there; nothing is launched."""
    code = cli.run(["--nnodes", "x", option], Launch(AssertionError("it was launched")))

    answer = capsys.readouterr()
    assert (0, "") == (code, answer.err)
    assert "elrun" in answer.out
