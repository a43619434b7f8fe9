"""The command as people type it, in a process of its own."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.integration

EXIT_3 = "import sys; sys.exit(3)"
# One write for each line: print makes two of it, between which another worker may write.
SHOW = "import os, sys; sys.stdout.write(f\"{sys.argv[1:]} {os.getenv('OMP_NUM_THREADS')}\\n\")"
HANG = "import signal; print('ready', flush=True); signal.pause()"
PATHS = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
MARK = "open('ran', 'w').close()"


@pytest.fixture(name="run")
def _run(tmp_path):
    """Run ``python -m elrun ARGS`` to its end, in a folder with a script ``x.py``."""

    def run(*args, script=SHOW, command=(sys.executable, "-m", "elrun"), **variables):
        (tmp_path / "x.py").write_text(script)
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("PET_", "OMP_"))}
        return subprocess.run(
            [*command, *args],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={**environ, **variables},
        )

    return run


def test_a_script_gets_all_that_follows_it(run):
    """Also what looks like an option of elrun."""
    done = run("--nnodes=1", "x.py", "--nnodes", "9", "--", "-m")

    assert (0, "['--nnodes', '9', '--', '-m'] None\n", "") == (
        done.returncode,
        done.stdout,
        done.stderr,
    )


def test_variables_alone_launch_a_job(run):
    """As Kubeflow does it."""
    done = run("x.py", PET_NPROC_PER_NODE="2", PET_STANDALONE="1")

    assert (0, "[] 1\n[] 1\n") == (done.returncode, done.stdout)


@pytest.mark.parametrize(
    "args", [[], ["--nnodes", "4:2", "x.py"], ["nosuch.py"], ["--qqq", "x.py"]]
)
def test_bad_usage_is_one_sentence_and_2(run, tmp_path, args):
    """Nothing has run."""
    done = run(*args, script=MARK)

    assert (2, 1, "") == (done.returncode, len(done.stderr.splitlines()), done.stdout)
    assert done.stderr.startswith("elrun: ")
    assert not (tmp_path / "ran").exists()


def test_a_failure_is_summed_up_without_colours(run):
    """On standard error, which is no terminal here; the exit code is the worker's.

    Only a line with a path may be longer than the terminal is wide.
    """
    done = run("--nproc-per-node", "2", "x.py", script=EXIT_3, OMP_NUM_THREADS="1", COLUMNS="80")

    assert (3, "") == (done.returncode, done.stdout)
    assert done.stderr.startswith("elrun: x.py failed: rank ")
    assert done.stderr.isascii()
    assert max(len(line) for line in done.stderr.splitlines() if "/x.py" not in line) <= 80


def test_a_summary_survives_a_reader_that_has_gone(run):
    """Nobody reads standard error any more: the exit code stays the worker's."""
    shell = '"$0" -m elrun x.py 2> >(exec head -c 0)'

    assert 3 == run(sys.executable, script=EXIT_3, command=("bash", "-c", shell)).returncode


def test_a_closed_standard_error_changes_nothing(run):
    """``2>&-`` is what some daemons do."""
    shell = '"$0" -m elrun x.py 2>&-'

    assert 3 == run(sys.executable, script=EXIT_3, command=("bash", "-c", shell)).returncode


def test_help_survives_a_reader_that_has_enough(run):
    """``elrun --help | head -1``."""
    shell = 'set -o pipefail; "$0" -m elrun --help | head -1'

    done = run(sys.executable, command=("bash", "-c", shell))

    assert (0, "Usage: elrun [OPTIONS] SCRIPT [ARGS]...\n", "") == (
        done.returncode,
        done.stdout,
        done.stderr,
    )


@pytest.mark.parametrize("question", ["--help", "--version", "--print-completion=bash"])
def test_an_answer_that_cannot_be_written_is_no_success(run, question):
    """``elrun --print-completion bash > FILE`` on a full disk leaves half a script, and says so."""
    into_full = ("bash", "-c", f'exec "{sys.executable}" -m elrun "$@" > /dev/full', "bash")

    done = run(question, command=into_full)

    assert 70 == done.returncode
    assert done.stderr == (
        "elrun: the system refused what elrun needs: "
        "No space left on device (standard output); make room there\n"
    )


SITE = """
import atexit, os, sys, threading
if "ELRUN_AGENT" not in os.environ:  # of the agent alone
    {register}
"""
NOTE = "atexit.register(lambda: print('noted', file=open('note', 'w')))"
FAIL = "atexit.register(lambda: 1 / 0)"
PRINT = "atexit.register(print, 'printed')"
EXIT = "atexit.register(sys.exit, 5)"


@pytest.mark.parametrize("script", ["", EXIT_3])
@pytest.mark.parametrize("other", ["pass", FAIL, EXIT])
def test_exit_functions_of_tools_and_plug_ins_are_called(run, tmp_path, script, other):
    """Coverage's, for example; none of them changes the exit code."""
    (tmp_path / "sitecustomize.py").write_text(SITE.format(register=f"{NOTE}; {other}; {PRINT}"))

    done = run("x.py", script=script, PYTHONPATH=str(tmp_path))

    assert (3 if script else 0, "printed\n") == (done.returncode, done.stdout)
    assert "noted\n" == (tmp_path / "note").read_text()


def test_exit_functions_have_a_bounded_time():
    """One that hangs keeps neither the exit code nor the process back."""
    program = (
        "import atexit, threading\n"
        "from elrun.launcher.terminal.process_end import end_process\n"
        "atexit.register(threading.Event().wait)\n"
        "end_process(3, within_s=0.1)"
    )

    assert 3 == subprocess.run([sys.executable, "-c", program], check=False).returncode


def test_a_thread_that_is_to_be_waited_for_has_a_bounded_time_too():
    """Python itself would wait for ever."""
    program = (
        "import threading\n"
        "from elrun.launcher.terminal.process_end import end_process\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "end_process(3, within_s=0.1)"
    )

    assert 3 == subprocess.run([sys.executable, "-c", program], check=False).returncode


def test_an_interrupt_stops_the_workers(tmp_path):
    """Exit code 130, and one line that says so."""
    (tmp_path / "x.py").write_text(HANG)
    with subprocess.Popen(
        [sys.executable, "-m", "elrun", "x.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as job:
        assert "ready\n" == job.stdout.readline()
        job.send_signal(signal.SIGINT)
        said = job.stderr.read()

    assert 130 == job.returncode
    assert "elrun: stopped by SIGINT; none of its workers is left" == said.splitlines()[-1]


def test_an_interrupt_while_elrun_is_still_loaded_is_told_in_one_line(run):
    """A traceback of its imports would look like a fault."""
    interrupted = """
        import sys
        from elrun.__main__ import main

        class CtrlC:
            def find_spec(self, name, path=None, target=None):
                if name == "elrun.launcher.commandline.parse":
                    raise KeyboardInterrupt

        sys.meta_path.insert(0, CtrlC())
        main()
    """

    done = run(command=(sys.executable, "-c", textwrap.dedent(interrupted)))

    assert (130, "", "elrun: interrupted\n") == (done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize(
    "module",
    [
        "contextlib",
        "elrun.launcher",
        "elrun.launcher.cli",
        "elrun.agent.system.signals",
        "elrun.agent.elastic.local",
    ],
)
def test_an_interrupt_in_the_middle_of_any_import_is_one_line(run, module):
    """The signal itself, wherever the interpreter is: nothing is unwound."""
    interrupted = f"""
        import sys
        before = {{*sys.modules}}
        from elrun.__main__ import main
        for name in {{*sys.modules}} - before - {{"elrun", "elrun.__main__"}}:
            assert not name.startswith(("typing", "re", "elrun.")), name
        sys.modules.pop({module!r}, None)
        import signal

        class CtrlC:
            def find_spec(self, name, path=None, target=None):
                if name == {module!r}:
                    signal.raise_signal(signal.SIGINT)

        sys.meta_path.insert(0, CtrlC())
        main()
    """

    # What a shell's `&` has ignored would stay ignored.
    heeding = ("env", "--default-signal=INT", sys.executable, "-S", "-c")
    done = run("x.py", command=(*heeding, textwrap.dedent(interrupted)), **PATHS)

    assert (130, "", "elrun: interrupted\n") == (done.returncode, done.stdout, done.stderr)


def test_a_program_may_catch_the_failure_of_main(run):
    """Or not: then it ends with elrun's exit code."""
    launch = "from elrun.launcher import main; main(['x.py'])"
    catch = f"""
from elrun.agent import ChildFailedError
try:
    {launch}
except ChildFailedError as error:
    print(error.failures[0].exitcode)
"""
    caught = run("-c", catch, script=EXIT_3, command=(sys.executable,))
    uncaught = run("-c", launch, script=EXIT_3, command=(sys.executable,))

    assert (0, "3\n") == (caught.returncode, caught.stdout)
    assert 3 == uncaught.returncode
    assert "Traceback" not in uncaught.stderr


@pytest.mark.parametrize("question", [["--version"], ["--help"], ["--dry-run", "x.py"]])
def test_an_answer_that_nobody_can_read_is_not_written_elsewhere(run, question):
    """Standard output is closed: standard error is for what goes wrong."""
    command = ("bash", "-c", '"$0" -m elrun "$@" >&-', sys.executable)

    done = run(*question, command=command)

    assert (0, "", "") == (done.returncode, done.stdout, done.stderr)


def test_a_thread_waits_no_millisecond_for_the_interpreter_of_an_agent():
    """Lines pass through two of its threads, while the main thread may load modules."""
    code = """\
        import sys
        from elrun import LaunchConfig
        from elrun import __main__ as command
        from elrun.launcher import launch

        launch.launch_agent = lambda *_, **__: sys.getswitchinterval()
        print(command._launch(LaunchConfig(1, 1, 1), "x.py", [], None))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]

    said = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | PATHS
    )

    assert float(said.stdout) < 0.001
