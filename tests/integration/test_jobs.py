"""Whole jobs on one node, as a user of torchrun would type them."""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

EXIT_0 = "import sys; sys.exit(0)"
PRINT_RANK = """
import os, sys
sys.stdout.write(f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}\\n")
"""
RANK_1_EXITS_3 = "import os, sys; sys.exit(3 if os.environ['RANK'] == '1' else 0)"
SEGFAULT = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
HANG = "import signal, sys; sys.stdout.write('ready\\n'); signal.pause()"
IGNORE_TERM = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *a: print("ignored", flush=True))
sys.stdout.write("ready\\n")
while True:
    signal.pause()
"""
FAIL_ONCE = """
import os, sys
attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
sys.stdout.write(f"attempt {attempt} port {os.environ['MASTER_PORT']}\\n")
sys.exit(1 if attempt == "0" and os.environ["RANK"] == "0" else 0)
"""
ALL_REDUCE = """
import os, sys, torch, torch.distributed as dist
dist.init_process_group("gloo")
one = torch.ones(1)
dist.all_reduce(one)
assert dist.is_torchelastic_launched()
sys.stdout.write(f"sum {int(one)}\\n")
dist.destroy_process_group()
os._exit(0)  # torch 2.13 aborts now and then when the interpreter is taken down around gloo
"""
TORCH_RECORD = """
from torch.distributed.elastic.multiprocessing.errors import record

@record
def main():
    raise ValueError("no such shard")

main()
"""


def test_a_script_runs_once_per_worker(elrun, script):
    """Standard output is the workers'; elrun has nothing to say about a success."""
    code, out, err = elrun("--standalone", "--nproc-per-node", 2, script(PRINT_RANK)).finish()

    assert (0, ["rank 0 of 2", "rank 1 of 2"]) == (code, sorted(out.splitlines()))
    assert "Traceback" not in err


def test_one_worker_is_the_default_and_says_nothing(elrun, script):
    """``elrun script.py`` adds nothing to what the script prints."""
    assert (0, "rank 0 of 1\n", "") == elrun(script(PRINT_RANK)).finish()


def test_options_after_the_script_are_its_own(elrun, script):
    """They arrive in order, even those that elrun has too."""
    job = elrun(script("import sys; print(sys.argv[1:])"), "--nnodes", "7", "-m", "--", "x y")

    assert (0, "['--nnodes', '7', '-m', '--', 'x y']\n") == job.finish()[:2]


def test_a_module_runs_like_python_m(elrun, script):
    """``-m`` finds the module from the working directory."""
    script("import sys; print(__name__, sys.argv[1:])", "mymodule.py")

    assert (0, "__main__ ['--a']\n") == elrun("-m", "mymodule", "--a").finish()[:2]


def test_a_bash_program_runs_without_python(elrun, script):
    """``--no-python`` starts the program itself."""
    path = script('#!/bin/bash\necho "rank $RANK arg $1"\n', "program.sh")
    path.chmod(0o755)

    code, out, _ = elrun("--no-python", "--nproc-per-node", 2, path, "a b").finish()

    assert (0, ["rank 0 arg a b", "rank 1 arg a b"]) == (code, sorted(out.splitlines()))


def test_run_path_runs_the_script_as_main(elrun, script):
    """``--run-path`` is for scripts that are run in the worker's own interpreter."""
    path = script("import sys; print(__name__, sys.argv)")

    assert (0, f"__main__ ['{path}', '-x']\n") == elrun("--run-path", path, "-x").finish()[:2]


def test_the_environment_alone_configures_a_job(elrun, script):
    """Kubeflow sets PET_ variables and gives no options."""
    env = {"PET_NNODES": "1", "PET_NPROC_PER_NODE": "2", "PET_STANDALONE": "1"}

    code, out, _ = elrun(script(PRINT_RANK), env=env).finish()

    assert (0, 2) == (code, len(out.splitlines()))


@pytest.mark.parametrize(
    ("program", "expected"),
    [(RANK_1_EXITS_3, 3), (SEGFAULT, 139), ("raise KeyboardInterrupt", 130)],
)
def test_the_exit_code_is_the_root_cause_s(elrun, script, program, expected):
    """A shell sees of elrun what it would have seen of the worker."""
    code, _, err = elrun("--nproc-per-node", 2, script(program)).finish()

    assert expected == code
    assert re.search(r"rank [01]\b", err)


def test_a_summary_names_the_root_cause_first(elrun, script):
    """Rank, exit code and the others' ends stand on standard error."""
    hang_but_rank_1 = (
        "import os, sys, signal; sys.exit(3) if os.environ['RANK'] == '1' else signal.pause()"
    )

    code, out, err = elrun("--standalone", "--nproc-per-node", 3, script(hang_but_rank_1)).finish()

    assert (3, "") == (code, out)
    first = next(line for line in err.splitlines() if "rank 1" in line)
    assert "3" in first
    assert 2 == len(re.findall("stopped by elrun", err))


def test_torch_s_own_record_reaches_the_summary(elrun, script):
    """A script that uses torch's decorator shows its traceback, whole."""
    code, _, err = elrun("--standalone", script(TORCH_RECORD)).finish()

    assert 1 == code
    assert "elrun: script.py failed: rank 0 exited with code 1" in " ".join(err.split())
    assert "ValueError: no such shard" in err
    assert "in main" in err


def test_a_gloo_group_forms_with_no_arguments(elrun, script):
    """``init_process_group()`` finds all it needs in the environment."""
    code, out, _ = elrun("--standalone", "--nproc-per-node", 2, script(ALL_REDUCE)).finish()

    assert (0, ["sum 2", "sum 2"]) == (code, out.splitlines())


def test_a_failure_restarts_all_workers_with_a_new_store(elrun, script):
    """Every worker runs again, knows the attempt, and meets the others at a new port."""
    job = elrun("--standalone", "--nproc-per-node", 2, "--max-restarts", 1, script(FAIL_ONCE))

    code, out, _ = job.finish()

    attempts = [line.split() for line in out.splitlines()]
    assert 0 == code
    assert 2 == sum(words[1] == "1" for words in attempts)
    assert 2 == len({(words[1], words[3]) for words in attempts})
    assert 2 == len({words[3] for words in attempts})


def test_without_restarts_left_the_job_fails(elrun, script):
    """The budget is spent, the last failure's exit code is elrun's."""
    counting = """
import os, sys
print(flush=True)
sys.exit(4 + int(os.environ["TORCHELASTIC_RESTART_COUNT"]))
"""

    code, out, _ = elrun("--standalone", "--max-restarts", 2, script(counting)).finish()

    assert (6, "\n\n\n") == (code, out)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT])
def test_a_signal_stops_the_job(elrun, script, number):
    """The workers get it too, and the exit code tells which it was."""
    job = elrun("--standalone", "--nproc-per-node", 2, script(HANG))
    job.wait_for_line("ready")
    job.wait_for_line("ready")

    job.signal(number)

    assert 128 + number == job.finish()[0]


def test_a_worker_that_ignores_the_signal_is_killed_in_the_end(elrun, script):
    """``--shutdown-timeout`` bounds its patience."""
    job = elrun("--standalone", "--shutdown-timeout", 1, script(IGNORE_TERM))
    job.wait_for_line("ready")

    job.signal(signal.SIGTERM)

    assert 143 == job.finish(timeout_s=30)[0]


def test_nohup_keeps_the_job_when_the_terminal_goes(elrun, script):
    """A SIGHUP that was ignored at the start stays ignored."""
    program = (
        "import sys; sys.stdout.write('ready\\n'); sys.stdin.read(); print('done', flush=True)"
    )
    job = elrun(
        "-c",
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); "
        "os.execv(sys.executable, [sys.executable, '-m', 'elrun', *sys.argv[1:]])",
        script(program),
        command=(),
        stdin=-1,
    )
    job.wait_for_line("ready")
    job.signal(signal.SIGHUP)

    code, out, _ = job.finish()

    assert (0, "ready\ndone\n") == (code, out)


GRANDCHILDREN = """
import os, subprocess, sys, signal
subprocess.Popen(["sleep", "1000"])
subprocess.Popen(["sleep", "1000"], start_new_session=True)
subprocess.Popen(["bash", "-c", "(setsid sleep 1000 &) ; sleep 1000"])
sys.stdout.write("ready\\n")
sys.exit(int(os.environ["CODE"])) if "CODE" in os.environ else signal.pause()
"""


def test_no_grandchild_outlives_a_job_that_fails(elrun, script):
    """What its workers left running is ended; the fixture asserts that nothing is left."""
    job = elrun("--standalone", "--nproc-per-node", 2, script(GRANDCHILDREN), env={"CODE": "5"})

    assert 5 == job.finish()[0]


def test_nothing_outlives_an_agent_that_is_killed(elrun, script, request):
    """SIGKILL to the agent ends workers and grandchildren, also those in sessions of their own."""
    conftest = request.config.pluginmanager.get_plugin(str(Path(__file__).with_name("conftest.py")))
    job = elrun("--standalone", "--nproc-per-node", 2, script(GRANDCHILDREN))
    job.wait_for_line("ready")
    job.wait_for_line("ready")
    fds = []
    for pid in conftest.processes_with(elrun.token):
        with contextlib.suppress(ProcessLookupError):  # a subshell that has done its part
            fds.append(os.pidfd_open(pid))
    assert len(fds) >= 9

    job.signal(signal.SIGKILL)

    for fd in fds:  # readable once its process has ended; the test's time-out bounds the wait
        select.select([fd], [], [])
        os.close(fd)


def test_static_nodes_meet_at_the_master_address(elrun, script, vacant_port):
    """Node ranks, address and port are as given; the workers form one group."""
    options = ["--nnodes", 2, "--master-addr", "127.0.0.1", "--master-port", vacant_port()]
    path = script(ALL_REDUCE)

    jobs = [elrun(*options, "--node-rank", rank, "--nproc-per-node", 2, path) for rank in (1, 0)]

    assert [(0, "sum 4\nsum 4\n")] * 2 == [job.finish()[:2] for job in jobs]


def test_logs_lie_where_torchrun_s_users_look(elrun, script, tmp_path):
    """LOG_DIR/run id_unique/attempt_n/local rank/, for every attempt."""
    options = ["--nproc-per-node", 2, "--max-restarts", 1, "--redirects", 3, "--rdzv-id", "myjob"]
    elrun(*options, "--log-dir", tmp_path / "logs", script(FAIL_ONCE)).finish()

    found = {
        str(path.relative_to(tmp_path / "logs")) for path in tmp_path.glob("logs/**/stdout.log")
    }
    assert {f"attempt_{attempt}/{rank}/stdout.log" for attempt in (0, 1) for rank in (0, 1)} == {
        name.split("/", 1)[1] for name in found
    }


def test_a_prefix_template_names_rank_host_and_attempt(elrun, script):
    """The macros of torchrun, and two that its users asked for."""
    template = "[${role_name}|${local_rank}|${rank}|${hostname}|${restart_count}] "
    env = {"TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE": template}

    _, out, _ = elrun("--tee", 1, "--role", "r", script("print('hi')"), env=env).finish()

    assert f"[r|0|0|{os.uname().nodename}|0] hi\n" == out


FUNCTION_JOB = """
import json, os, sys
from elrun import LaunchConfig, elastic_launch

def work(base, fail_first):
    rank = int(os.environ["RANK"])
    if fail_first and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        raise ValueError(f"rank {rank} says no")
    return base + rank

if __name__ == "__main__":
    config = LaunchConfig(1, 1, 2, max_restarts=1, start_method=sys.argv[1], monitor_interval=0.01)
    print(json.dumps(elastic_launch(config, work)(10, True)))
"""


@pytest.mark.parametrize("start_method", ["spawn", "fork", "forkserver"])
def test_a_function_returns_each_rank_s_value(elrun, script, start_method):
    """``elastic_launch`` gives values by global rank, also after a restart."""
    job = elrun(script(FUNCTION_JOB), start_method, command=())

    code, out, err = job.finish()

    assert (0, {"0": 10, "1": 11}) == (code, json.loads(out)), err


FAILING_FUNCTION = """
import sys
from elrun import LaunchConfig, elastic_launch
from elrun.agent import ChildFailedError

def work():
    raise ValueError("a reason")

if __name__ == "__main__":
    try:
        elastic_launch(LaunchConfig(1, 1, 2, max_restarts=0), work)()
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        print(rank in (0, 1), failure.exitcode, failure.summary)
        print("in work" in failure.traceback)
"""


def test_a_function_s_exception_is_the_failure(elrun, script):
    """Its message and traceback come back to the caller."""
    job = elrun(script(FAILING_FUNCTION), command=())

    assert (0, "True 1 ValueError: a reason\nTrue\n") == job.finish()[:2]


RESTARTING_GLOO = """
import os, signal, torch, torch.distributed as dist
dist.init_process_group("gloo")
one = torch.ones(1)
dist.all_reduce(one)
assert int(one) == 2
attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
if dist.get_rank() == 0 and attempt < int(os.environ["DEATHS"]):
    os.kill(os.getpid(), signal.SIGKILL)
dist.barrier()
if dist.get_rank() == 0:
    print("survived", attempt, flush=True)
os._exit(0)  # torch 2.13 aborts now and then when the interpreter is taken down around gloo
"""


@pytest.mark.timeout(600)  # 22 imports of torch, two at once: 30 s on an idle machine
def test_ten_restarts_of_a_gloo_job_all_succeed(elrun, script):
    """Rank 0, which hosts the store, dies in each attempt: torchrun hangs in most of these."""
    options = ["--standalone", "--nproc-per-node", 2, "--max-restarts", 10]
    job = elrun(*options, script(RESTARTING_GLOO), env={"DEATHS": "10"})

    code, out, _ = job.finish(timeout_s=550)

    assert (0, "survived 10\n") == (code, out)


def test_python_exec_names_the_interpreter(elrun, script):
    """torchrun's PYTHON_EXEC is read."""
    wrapper = script(f'#!/bin/bash\necho wrapped; exec "{sys.executable}" "$@"\n', "mypython")
    wrapper.chmod(0o755)

    code, out, _ = elrun(script(EXIT_0), env={"PYTHON_EXEC": str(wrapper)}).finish()

    assert (0, "wrapped\n") == (code, out)


def test_a_peer_that_fails_by_itself_is_not_told_as_stopped(elrun, script):
    """It ignores the signal that stops the group, and meets the same bad record a moment later."""
    program = script(
        "trap '' TERM\n"
        "if [ $RANK = 0 ]; then read x; exit 3; fi\n"
        "echo ready; read x; sleep 0.3; exit 4\n",
        "w.sh",
    )
    job = elrun(
        "--standalone", "--nproc-per-node", 2, "--no-python", "bash", program, stdin=subprocess.PIPE
    )
    job.wait_for_line("ready")
    job.process.stdin.close()
    job.process.stdin = None
    code, _, err = job.finish()

    assert 3 == code
    assert "exit code 3 (first)" in err
    assert "exit code 4" in err
    assert "stopped by elrun" not in err
