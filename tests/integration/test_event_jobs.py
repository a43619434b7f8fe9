"""Events of real jobs: the whole story in lines of JSON, and handlers that misbehave."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

DOCS = Path(__file__).parent.parent.parent / "docs" / "events.md"

FAILS_ONCE = """
import os, signal, sys
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    if os.environ["RANK"] == "1":
        raise ValueError("no such shard")
    signal.pause()
"""
RECORDED = """
import os, signal
from elrun import record
@record
def main():
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        if os.environ["RANK"] == "1":
            raise ValueError("no such shard")
        signal.pause()
main()
"""
HANG = "import signal, sys; sys.stdout.write('ready\\n'); sys.stdout.flush(); signal.pause()"
HELLO = "print('hello')"
LOSS = "events are lost"
PLUGINS = '''
import logging, threading
class Raising(logging.Handler):
    def emit(self, record):
        raise RuntimeError("no network")
class Blocking(logging.Handler):
    def emit(self, record):
        threading.Event().wait()
class Slow(logging.Handler):
    """Takes its time, and buffers until it is closed."""
    lines = []
    def emit(self, record):
        threading.Event().wait(0.05)
        self.lines.append(self.format(record))
    def close(self):
        with open("slow.jsonl", "w") as file:
            file.write("\\n".join(self.lines) + "\\n")
        super().close()
'''


SHELL = """#!/bin/sh
[ $RANK = 1 ] || exec sleep 600
echo "FATAL: no such shard" >&2
exit 3
"""


@pytest.mark.parametrize("restarts", [0, 1])
def test_a_worker_s_last_words_are_in_its_event(elrun, script, tmp_path, restarts):
    """The cause that the summary names, for each attempt; a program leaves no error file."""
    script(SHELL, "worker.sh").chmod(0o755)
    options = ("--standalone", "--nproc-per-node", 2, "--max-restarts", restarts, "--tee", 2)
    events = ("--event-log-handler", "file:events.jsonl")

    elrun(*options, *events, "--no-python", "./worker.sh").finish()

    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    ends = [each for each in lines if each["name"].endswith("worker.status.FAILED")]
    failed = [each["metadata"] for each in ends if each["source"] == "WORKER"]
    assert ["FATAL: no such shard"] * (restarts + 1) == [
        json.loads(each["raw_error"])["message"]["message"] for each in failed
    ]


@pytest.fixture(name="plugins")
def _plugins(tmp_path):
    """An environment in which a package with handlers is installed."""
    site = tmp_path / "site"
    info = site / "event_sinks-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "event_sinks.py").write_text(PLUGINS)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: event-sinks\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[elrun.event_log_handlers]\n"
        "raising = event_sinks:Raising\n"
        "blocking = event_sinks:Blocking\n"
        "slow = event_sinks:Slow\n"
    )
    return {"PYTHONPATH": str(site)}


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def told(line):
    """Return an event in short: its source and state, and whose."""
    if "node_state" in line:
        return f"{line['name']} {line['node_state']}"
    rank = line["metadata"]["global_rank"]
    who = line["source"] + ("" if rank is None else str(rank))
    return f"{who} {line['metadata']['state']}"


def warnings_in(err):
    return [line for line in err.splitlines() if "handler" in line]


def test_the_story_of_a_job_of_two_nodes_with_a_restart(elrun, script, tmp_path, meeting):
    """Each agent tells its own part, in order; the failed worker's error is told by its agent."""
    backend, endpoint = meeting
    jobs = [
        elrun(
            *("--nnodes", 2, "--rdzv-backend", backend, "--rdzv-endpoint", endpoint),
            *("--rdzv-id", "job", "--max-restarts", 1, "--log-dir", f"logs{number}"),
            *("--event-log-handler", "file", script(RECORDED)),
        )
        for number in range(2)
    ]
    ends = [job.finish() for job in jobs]
    assert [0, 0] == [code for code, _, _ in ends], ends

    stories = {}
    for number, job in enumerate(jobs):
        name = f"events_{os.uname().nodename}_{job.process.pid}.jsonl"
        lines = read(tmp_path / f"logs{number}" / name)
        stories[lines[1]["metadata"]["group_rank"]] = lines
    for rank, lines in sorted(stories.items()):
        end = "FAILED" if rank == 1 else "TERMINATED"
        assert [
            "rendezvous.join INIT",
            "AGENT RENDEZVOUS",
            "rendezvous.joined RUNNING",
            f"WORKER{rank} START",
            "rendezvous.ended RUNNING",
            f"WORKER{rank} {end}",
            "rendezvous.join INIT",
            "AGENT RENDEZVOUS",
            "rendezvous.joined RUNNING",
            f"WORKER{rank} START",
            "rendezvous.ended SUCCEEDED",
            f"WORKER{rank} SUCCEEDED",
            "AGENT SUCCEEDED",
        ] == [told(line) for line in lines]
        stamps = [line["timestamp"] for line in lines]
        assert sorted(stamps) == stamps
        assert "rank 1 on" in lines[4]["message"]
        assert "failed: ValueError: no such shard" in lines[4]["message"]
        assert {"job"} == {line.get("run_id") or line["metadata"]["run_id"] for line in lines}
        assert {backend} == {line["metadata"]["rdzv_backend"] for line in lines if "source" in line}
    error = json.loads(stories[1][5]["metadata"]["raw_error"])
    assert "ValueError: no such shard" == error["message"]["message"]
    assert "Traceback" in error["message"]["extraInfo"]["py_callstack"]


@pytest.mark.skipif(not DOCS.exists(), reason="a wheel is tested, no source tree is near")
def test_the_documentation_shows_what_is_recorded(elrun, script, tmp_path):
    """Its command, with its program, records each of its lines."""

    def in_general(line):
        varies = r'"(pid|timestamp|duration_ms|worker_id|hostname)": ("[^"]*"|[0-9.]+)'
        named = re.sub(varies, r'"\1": …', line)
        numbered = re.sub(r'127.0.0.1:[0-9]+|worker_pid\\": \[[0-9]+\]', "…", named)
        varied = r'File \\+"[^"]*/train.py| in <module> \([^)]*\)|timestamp\\+": \\+"[0-9]+'
        placed = re.sub(varied, "…", numbered)
        placed = placed.replace('\\"python3\\"', '\\"python\\"')  # as pytest was started
        return re.sub(r"rank 1 on [^ ]+", "rank 1 on …", placed)

    text = DOCS.read_text()
    (program,) = re.findall(r"```python.*\n(import os(?:.|\n)*?)```", text)
    (command,) = re.findall(r"```bash.*\nelrun (.*?)\n```", text)
    script(program, "train.py")
    assert 0 == elrun(*command.split()).finish()[0]

    shown = re.findall(r"```json\n(.*?)\n```", text)
    recorded = (tmp_path / "events.jsonl").read_text().splitlines()
    assert 9 == len(shown)
    assert set() == {*map(in_general, shown)} - {*map(in_general, recorded)}


def test_torchs_own_classes_read_the_lines(elrun, script, tmp_path):
    """What was written for torchrun's events takes elrun's."""
    code, _, err = elrun("--event-log-handler", "file:events", script(HELLO)).finish()
    assert 0 == code, err

    from torch.distributed.elastic.events import Event, EventSource  # a second

    lines = [line for line in (tmp_path / "events").read_text().splitlines() if "source" in line]
    events = [Event.deserialize(line) for line in lines]
    assert ["RENDEZVOUS", "START", "SUCCEEDED", "SUCCEEDED"] == [
        event.name.removeprefix("torchelastic.worker.status.") for event in events
    ]
    assert [EventSource.AGENT, EventSource.WORKER, EventSource.WORKER, EventSource.AGENT] == [
        event.source for event in events
    ]


def test_a_failed_job_ends_with_a_failed_agent(elrun, script, tmp_path):
    """torchrun says SUCCEEDED there."""
    options = ["--nproc-per-node", 2, "--event-log-handler", "file:events"]
    code, _, _ = elrun(*options, script(FAILS_ONCE)).finish()

    lines = read(tmp_path / "events")
    assert 1 == code
    assert ["WORKER0 TERMINATED", "WORKER1 FAILED", "AGENT FAILED"] == [
        told(line) for line in lines[-3:]
    ]
    assert "ChildFailedError" in lines[-1]["metadata"]["raw_error"]


def test_a_signal_is_the_end_of_the_story(elrun, script, tmp_path):
    """The workers were terminated, and the agent tells which signal it was."""
    job = elrun("--event-log-handler", "file:events", script(HANG))
    job.wait_for_line("ready")
    job.signal(15)
    code, _, _ = job.finish()

    lines = read(tmp_path / "events")
    assert 143 == code
    assert ["WORKER0 TERMINATED", "AGENT FAILED"] == [told(line) for line in lines[-2:]]
    assert "SIGTERM" in lines[-1]["metadata"]["raw_error"]


def test_the_console_is_standard_error(elrun, script):
    """Standard output is the workers', and each event is a line of its own."""
    variables = {"PET_EVENT_LOG_HANDLER": "console"}
    code, out, err = elrun(script(HELLO), env=variables).finish()

    assert (0, "hello\n") == (code, out)
    assert "AGENT SUCCEEDED" == told([json.loads(line) for line in err.splitlines()][-1])


def test_an_unknown_handler_is_bad_usage(elrun, script):
    """Nothing is started."""
    code, out, err = elrun("--event-log-handler", "fille", script(HELLO)).finish()

    assert (2, "") == (code, out)
    assert (
        "elrun: --event-log-handler fille: there is no such handler; give null, console, file or "
        "file:PATH; did you mean file?\n"
    ) == err


def test_a_plug_in_gets_every_event_before_elrun_leaves(elrun, script, plugins, tmp_path):
    """Also one that is slow, and one that writes only when it is closed."""
    job = elrun("--event-log-handler", "slow", script(HELLO), env=plugins)
    code, _, err = job.finish()

    assert (0, "") == (code, err)
    assert [
        "rendezvous.join INIT",
        "AGENT RENDEZVOUS",
        "rendezvous.joined RUNNING",
        "WORKER0 START",
        "rendezvous.ended SUCCEEDED",
        "WORKER0 SUCCEEDED",
        "AGENT SUCCEEDED",
    ] == [told(line) for line in read(tmp_path / "slow.jsonl")]


@pytest.mark.parametrize(
    ("name", "fault"),
    [("raising", "failed: RuntimeError: no network"), ("blocking", "has not taken all within 5 s")],
)
def test_a_plug_in_that_misbehaves_is_one_warning(elrun, script, plugins, name, fault):
    """The job restarts and succeeds as it would without it."""
    options = ["--nproc-per-node", 2, "--max-restarts", 1, "--event-log-handler", name]
    code, _, err = elrun(*options, script(FAILS_ONCE), env=plugins).finish()

    assert 0 == code, err
    assert [f"elrun: the event log handler {name!r} {fault}; {LOSS}"] == warnings_in(err)


def test_a_handler_that_blocks_lets_a_program_end(script, plugins, tmp_path):
    """The standard library asks each handler for its lock when the interpreter ends."""
    path = script("""
from elrun import LaunchConfig, elastic_launch

def work():
    return 7

if __name__ == "__main__":
    assert {0: 7} == elastic_launch(LaunchConfig(1, 1, 1, event_log_handler="blocking"), work)()
""")
    done = subprocess.run(
        [sys.executable, path],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **plugins},
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert f"the event log handler 'blocking' has not taken all within 5 s; {LOSS}\n" == done.stderr


def test_a_full_disk_is_one_warning(elrun, script, small_disk):
    """However many events find no room."""
    path = small_disk / "events"
    (small_disk / "ballast").write_bytes(b"x" * (64 << 10))
    options = ["--nproc-per-node", 2, "--max-restarts", 1, "--event-log-handler", f"file:{path}"]
    code, _, err = elrun(*options, script(FAILS_ONCE)).finish()

    assert 0 == code, err
    fault = "OSError: [Errno 28] No space left on device"
    assert [f"elrun: the event log handler 'file:{path}' failed: {fault}; {LOSS}"] == (
        warnings_in(err)
    )


def test_a_folder_that_takes_no_files_is_one_warning(elrun, script):
    """Events are not worth a job."""
    code, _, err = elrun("--event-log-handler", "file:/proc/events", script(HELLO)).finish()

    assert 0 == code, err
    assert 1 == len(warnings_in(err))
    assert "FileNotFoundError" in err or "PermissionError" in err


def test_a_job_without_handler_imports_nothing_of_it(elrun, script):
    """It is the default, and each module costs time at the start."""
    job = elrun(script("import time"), command=("-X", "importtime", "-m", "elrun"))
    code, _, err = job.finish()

    imported = {line.rpartition("|")[2].strip() for line in err.splitlines()}
    assert 0 == code
    assert "elrun.agent.elastic.agent" in imported
    assert set() == imported & {
        f"elrun.agent.{name}"
        for name in ("background", "event_file", "event_handlers", "events", "metrics")
    }


def test_a_program_that_launches_has_events_and_metrics(script, tmp_path):
    """All is there when the launch returns, and a second one adds to it."""
    path = script("""
from elrun import LaunchConfig, elastic_launch

def work():
    return 7

if __name__ == "__main__":
    for run in ("first", "second"):
        config = LaunchConfig(
            1,
            1,
            1,
            run_id=run,
            event_log_handler="file:events",
            metrics_cfg={"torchelastic": "console"},
        )
        assert {0: 7} == elastic_launch(config, work)()
        print(len(open("events").readlines()), flush=True)
""")
    done = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, cwd=tmp_path, check=False
    )

    assert (0, "7\n14\n") == (done.returncode, done.stdout), done.stderr
    assert 2 == done.stderr.count("[torchelastic]: workers.default_role.run_success_no_retries=1\n")
    assert 2 == done.stderr.count("[torchelastic]: SimpleElasticAgent.run.success=1\n")
    assert 2 == done.stderr.count("[torchelastic]: LocalElasticAgent._start_workers.success=1\n")
