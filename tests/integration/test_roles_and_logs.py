"""Roles, prefixes, filters, virtual ranks and the end of a rendezvous, in whole jobs."""

import json
import os
import signal
import sys

import pytest
from elrun.launcher.launch import get_entrypoint_name

pytestmark = pytest.mark.integration

GLOO_SUM = """
import os, sys, torch, torch.distributed as dist
dist.init_process_group("gloo")
total = torch.tensor([dist.get_rank() + 1])
dist.all_reduce(total)
role = [os.environ[name] for name in ("ROLE_NAME", "ROLE_RANK", "ROLE_WORLD_SIZE")]
sys.stdout.write(" ".join([*role, "sum", f"{int(total)}\\n"]))
sys.stdout.flush()
os._exit(0)  # torch 2.13 aborts now and then when the interpreter is taken down around gloo
"""


def test_gloo_sums_over_roles_of_different_sizes(elrun, script, meeting):
    """One job, two roles: the ranks count through, the role's own begin at 0."""
    backend, endpoint = meeting
    path = script(GLOO_SUM)
    jobs = [
        elrun(
            *("--nnodes", 2, "--rdzv-backend", backend, "--rdzv-endpoint", endpoint),
            *("--rdzv-id", "job", "--role", role, "--nproc-per-node", workers, path),
        )
        for role, workers in (("learner", 1), ("actor", 2))
    ]

    ends = [job.finish(timeout_s=100) for job in jobs]

    assert [0, 0] == [code for code, _, _ in ends], ends
    assert ["actor 0 2 sum 6", "actor 1 2 sum 6", "learner 0 1 sum 6"] == sorted(
        line for _, out, _ in ends for line in out.splitlines()
    )


SPEAKS = """
import os, sys
rank = os.environ["RANK"]
sys.stdout.write(f"loss of rank {rank}, with a comma\\n")
sys.stdout.write("nothing of interest\\n")
sys.stderr.write(f"warning: rank {rank}\\n")
"""


def test_lines_with_a_word_are_kept_aside_over_all_workers(elrun, script, tmp_path):
    """One file a stream and attempt; the console and the other files have them, too."""
    code, out, err = elrun(
        *("--nproc-per-node", 2, "--log-dir", tmp_path / "logs"),
        *("--duplicate-stdout-filters", "loss,, of,comma", "--duplicate_stderr_filters", "rank 1"),
        script(SPEAKS),
    ).finish()

    def kept(name):
        (path,) = (tmp_path / "logs").glob(f"*/attempt_0/{name}")
        return sorted(path.read_text().splitlines())

    assert 0 == code
    assert [f"[default{n}]:loss of rank {n}, with a comma" for n in (0, 1)] == kept(
        "filtered_stdout.log"
    )
    assert ["[default1]:warning: rank 1"] == kept("filtered_stderr.log")
    assert (4, 2) == (len(out.splitlines()), err.count("warning: rank"))


SPEAKS_LONG = """
import os
os.write(1, b"first\\n")
for _ in range(16):
    os.write(1, b"long" * 16384)  # one line, as of a progress bar without an end
os.write(1, b"\\nlast\\n")
"""


def test_the_console_shows_what_a_log_file_has_no_room_for(elrun, script, tmp_path):
    """Also of a line that is too long to be held in memory and was to be read back from it."""
    most_bytes = 512 << 10
    command = f'ulimit -f {most_bytes >> 10}; exec "$@"'
    code, out, err = elrun(
        *("--tee", 3, "--log-dir", tmp_path / "logs", script(SPEAKS_LONG)),
        prefix=("bash", "-c", command, "elrun"),
    ).finish()
    (file,) = tmp_path.glob("logs/*/attempt_0/0/stdout.log")

    assert (0, most_bytes) == (code, file.stat().st_size)
    assert (16 * 16384, 0) == (out.count("long"), out.count("left out")), err
    assert (1, 1, 1) == (err.count("\n"), out.count("first"), out.count("last")), err
    assert f"cannot write '{file}' after its first {most_bytes} bytes: File too large" in err
    assert "the console shows it" in err


FUNCTION_WITH_PREFIX = """
import os, sys
from elrun import LaunchConfig, elastic_launch
from elrun.agent import DefaultLogsSpecs, Std

def speak():
    print("hello", flush=True)
    return os.environ["ROLE_NAME"]

if __name__ == "__main__":
    config = LaunchConfig(
        1, 1, 2, role="actor", start_method="fork", logs_specs=DefaultLogsSpecs(tee=Std.OUT),
        log_line_prefix_template="<${role_name} ${rank}/${local_rank}> ",
    )
    assert {0: "actor", 1: "actor"} == elastic_launch(config, speak)()
"""


def test_a_function_s_lines_have_the_prefix_of_its_config(elrun, script):
    """``log_line_prefix_template`` in a LaunchConfig, as the variable for a command."""
    code, out, err = elrun(script(FUNCTION_WITH_PREFIX), command=()).finish()

    assert (0, ["<actor 0/0> hello", "<actor 1/1> hello"]) == (code, sorted(out.splitlines())), err


PRINT_DEVICE = """
import os, sys
found = [os.environ[name] for name in ("RANK", "LOCAL_RANK", "CUDA_VISIBLE_DEVICES")]
sys.stdout.write(" ".join(found) + "\\n")
"""


@pytest.mark.parametrize(
    ("visible", "expected"),
    [({"CUDA_VISIBLE_DEVICES": "5,3"}, ["0 0 5", "1 0 3"]), ({}, ["0 0 0", "1 0 1"])],
)
def test_each_worker_sees_its_own_gpu_as_device_0(elrun, script, monkeypatch, visible, expected):
    """``--virtual-local-rank``: LOCAL_RANK is 0 everywhere, and one device is to be seen."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    path = script(PRINT_DEVICE)
    job = elrun("--virtual-local-rank", "--nproc-per-node", 2, path, env=visible)

    code, out, _ = job.finish()

    assert (0, expected) == (code, sorted(out.splitlines()))


STUCK_ONCE = """
import os, threading
from elrun.agent import timers

timers.configure(timers.FileTimerClient(os.environ["TORCHELASTIC_TIMER_FILE"]))
hangs = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
with timers.expires(after=0.2 if hangs else 60, scope="all-reduce"):
    if hangs:
        threading.Event().wait()
"""


def test_what_the_watchdog_does_is_an_event(elrun, script, tmp_path):
    """Whoever reads the events learns of the timer, its scope and the worker that was ended."""
    path = tmp_path / "events"
    job = elrun(
        *("--standalone", "--max-restarts", 1, "--event-log-handler", f"file:{path}"),
        script(STUCK_ONCE),
        env={"TORCHELASTIC_ENABLE_FILE_TIMER": "1"},
    )

    code, _, err = job.finish()

    events = [json.loads(line) for line in path.read_text().splitlines()]
    told = {event["name"]: event.get("metadata") for event in events}
    assert 0 == code, err
    assert {"timer expired", "kill worker process"} <= set(told)
    more = json.loads(told["kill worker process"]["metadata"])
    assert ("all-reduce", str(int(signal.SIGKILL))) == (more["scope_id"], more["signal"])


WITH_A_HANDLER = """
import os, signal, sys
from elrun import LaunchConfig, elastic_launch
from elrun.agent import SignalException
from elrun.rendezvous import (
    RendezvousHandler, RendezvousInfo, RendezvousStoreInfo, rendezvous_handler_registry,
)

class Telling(RendezvousHandler):
    get_backend = lambda self: "telling"
    get_run_id = lambda self: "job"
    is_closed = lambda self: False
    num_nodes_waiting = lambda self: 0
    def set_closed(self): print("closed", flush=True)
    def shutdown(self):
        print("shut down", flush=True)
        if sys.argv[1] == "stuck":
            raise OSError("the store is gone")
    def next_rendezvous(self):
        if sys.argv[1] == "error":
            raise OSError("the network is gone")
        from torch.distributed import HashStore
        return RendezvousInfo(HashStore(), 0, 1, RendezvousStoreInfo("localhost", 1))

def work():
    if sys.argv[1] == "signal":
        os.kill(os.getppid(), signal.SIGTERM)
        signal.pause()
    assert sys.argv[1] in ("success", "stuck")
    return 42

rendezvous_handler_registry.register("telling", lambda parameters: Telling())
config = LaunchConfig(
    1, 1, 1, run_id="job", rdzv_backend="telling", rdzv_endpoint="x", max_restarts=0,
    start_method="fork",
)
try:
    if elastic_launch(config, work)() != {0: 42}:
        print("no value")
except (SignalException, OSError) as error:
    print(type(error).__name__, flush=True)
except Exception as error:
    print("failed", flush=True)
"""


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        ("success", ["shut down"]),
        ("stuck", ["shut down"]),
        ("failure", ["closed", "shut down", "failed"]),
        ("error", ["shut down", "OSError"]),
        ("signal", ["SignalException"]),
    ],
)
def test_a_rendezvous_is_left_open_on_a_signal_only(elrun, script, ending, told):
    """torchrun's handlers would close it for all; an error of the agent shuts it down.

    Where that can't be done, the result is what it was.
    """
    code, out, err = elrun(script(WITH_A_HANDLER), ending, command=()).finish()

    assert (0, told) == (code, out.splitlines()), err
    assert (ending == "stuck") == ("not left in order: the store is gone" in err)


def test_a_local_rank_may_stand_in_an_argument(elrun, script):
    """``${local_rank}`` is each worker's own, for scripts that expect an argument."""
    path = script("import sys; sys.stdout.write(' '.join(sys.argv[1:]) + '\\n')")

    code, out, _ = elrun("--nproc-per-node", 2, path, "--local-rank=${local_rank}", "x").finish()

    assert (0, ["--local-rank=0 x", "--local-rank=1 x"]) == (code, sorted(out.splitlines()))


@pytest.mark.parametrize(
    ("entrypoint", "args", "name"),
    [
        (os.path.join, ["a"], "join"),
        (sys.executable, ["-u", "train.py", "--lr"], "train.py"),
        (sys.executable, ["-u", "-m", "train", "--lr"], "train"),
        (sys.executable, ["-u", "-m", "-"], "-"),
        (sys.executable, ["-u", "-", "-m"], "<stdin>"),
        (sys.executable, ["-X", "dev", "-W", "error", "train.py", "--lr"], "train.py"),
        (sys.executable, ["-um", "train", "--lr"], "train"),
        (sys.executable, ["-mpdb", "train.py"], "pdb"),
        (sys.executable, ["-c", "pass", "train.py"], sys.executable),
        (sys.executable, ["-u", "-m"], sys.executable),
        ("python", ["-X", "dev", "train.py"], "train.py"),
        ("/venv/bin/python3.12", ["-m", "train"], "train"),
        ("/bin/bash", ["-c", "x"], "/bin/bash"),
        (None, [], ""),
    ],
)
def test_an_entrypoint_has_a_name(entrypoint, args, name):
    """A function's own, the script that Python runs, else the command."""
    assert name == get_entrypoint_name(entrypoint, args)
