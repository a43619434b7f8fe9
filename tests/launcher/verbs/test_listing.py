"""`elrun status --all`: a line for each run."""

import json
import os
import socket
import threading

import pytest
from elrun.agent.output.run_folders import make_run_folder
from elrun.agent.serving.local_sockets import listen_in
from elrun.launcher import cli
from elrun.launcher.verbs.listing import as_lines


@pytest.fixture(name="status")
def _status(tmp_path, monkeypatch, capfd):
    """Run ``elrun status --all WORDS``; return code, output and errors."""
    monkeypatch.setenv("ELRUN_RUN_DIR", str(tmp_path / "runs"))

    def run(*words):
        return (cli.run(["status", "--all", *words]), *capfd.readouterr())

    return run


def test_runs_stand_below_each_other():
    """What is not known is a dash; nothing acts on a terminal."""
    known = {
        "run_id": "a\x1b",
        "name": "train.py",
        "node": "n0",
        "agent_pid": 7,
        "state": "running",
        "restarts": 2,
        "began_at_s": 40.0,
        "ended_at_s": None,
    }
    rows = as_lines([known, dict.fromkeys(known)], 100.0).splitlines()

    assert [
        "RUN    NAME      HOST  AGENT  STATE    RESTARTS  BEGAN          ENDED",
        "a\\x1b  train.py  n0    7      running  2         1 min 0 s ago  -",
        "-      -         -     -      -        -         -              -",
    ] == rows


def test_where_there_is_none_the_list_is_empty(status):
    """For programs, too."""
    assert (0, "[]\n", "") == status("--format", "json")
    assert 0 == status()[0]


@pytest.mark.parametrize("words", [["job"], ["--watch"]])
def test_a_list_is_of_all_and_at_one_moment(status, words):
    """One sentence says so."""
    code, out, err = status(*words)

    assert (2, "") == (code, out)
    assert "elrun: --all lists runs: give neither RUN nor --watch with it\n" == err


STANDING = {
    **dict.fromkeys(("run_id", "node"), "x"),
    "state": "running",
    **dict.fromkeys(("round", "group_rank", "group_world_size", "world_size"), 0),
    "since_s": 1.0,
    "restarts": {"spent": 0, "left": 0, "max": 0},
    "decision": None,
    "workers": [],
}


def test_all_agents_are_asked_at_once(status, tmp_path):
    """One that is stopped gives no answer for seconds; these answer once all of them are asked."""
    (tmp_path / "runs").mkdir()
    all_asked = threading.Barrier(3)
    locks, listeners, threads = [], [], []
    for number in range(3):
        folder, lock = make_run_folder(str(tmp_path / "runs"), f"job{number}")
        with open(os.path.join(folder, "run.json"), "w") as file:
            json.dump({"run_id": f"job{number}", "agent_pid": os.getpid()}, file)
        listener = listen_in(folder, "control")
        listener.setblocking(True)
        locks.append(lock)
        listeners.append(socket.socket(fileno=listener.detach()))

    def serve(listener):
        listener.accept()[0].close()  # only the process that listens is looked at
        client, _ = listener.accept()
        with client:
            client.recv(4096)
            all_asked.wait(60)
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(STANDING).encode())

    for each in listeners:
        threads.append(threading.Thread(target=serve, args=(each,), daemon=True))
        threads[-1].start()
    code, out, _ = status("--format", "json")
    for each in threads:
        each.join()
    for each in listeners:
        each.close()
    for each in locks:
        os.close(each)

    assert (0, ["running"] * 3) == (code, [each["state"] for each in json.loads(out)])
