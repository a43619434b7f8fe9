"""What verbs do with answers that they don't expect: of other nodes, of other versions of elrun."""

import json
import os
import socket
import subprocess
import threading

import pytest
from elrun.agent.output.run_folders import make_run_folder
from elrun.agent.serving.local_sockets import listen_in
from elrun.launcher.report.refusal import VerbRefusal
from elrun.launcher.verbs.front import run_verb

WORKER = {
    "rank": 0,
    "local_rank": 0,
    "pid": None,
    "state": "running",
    "exitcode": None,
    "logs": [],
    "last_line": "step 1",
    "silent_s": 0.5,
    "cpu_percent": 50.0,
    "memory_bytes": 1 << 20,
}
STANDING = {
    "version": 1,
    "run_id": "job",
    "node": "n0",
    "agent_pid": 7,
    "state": "running",
    "since_s": 5.0,
    "round": 0,
    "group_rank": 0,
    "group_world_size": 2,
    "world_size": 2,
    "restarts": {"spent": 0, "left": 0, "max": 0},
    "decision": None,
    "workers": [WORKER],
}
OTHER = {**STANDING, "node": "n1", "group_rank": 1, "workers": [{**WORKER, "rank": 1}]}
PLACE = {"rank": 0, "pid": 9, "place": "f (a.py:1)", "silence": "", "stack": "", "is_held": False}
ENVIRONMENT = {}
STACKS = {"node": "n0", "ranks": [PLACE], "group_rank": 0}


def without(value, name):
    return {key: each for key, each in value.items() if key != name}


@pytest.fixture(name="verb")
def _verb(tmp_path, capsys):
    """Run a verb on a job whose agent gives such answers; return what is shown."""
    folder, lock = make_run_folder(str(tmp_path), "job")
    about = {"run_id": "job", "name": "train.py", "node": os.uname().nodename, "began_at_s": 1.0}
    with open(os.path.join(folder, "run.json"), "w") as file:
        json.dump({**about, "agent_pid": os.getpid()}, file)
    listener = listen_in(folder, "control")
    listener.setblocking(True)
    answers = {}

    def serve():
        path = ""
        with socket.socket(fileno=listener.detach()) as served:
            while path != "/end":
                client, _ = served.accept()
                with client:
                    path = client.recv(4096).partition(b" HTTP")[0].removeprefix(b"GET ").decode()
                    if path in answers:
                        body = json.dumps(answers[path]).encode()
                        client.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + body)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    def run(*args, **of_paths):
        answers.update({f"/{name}": each for name, each in of_paths.items()})
        verb, *rest = args
        run_verb(verb, list(rest), {**ENVIRONMENT, "ELRUN_RUN_DIR": str(tmp_path)})
        shown = capsys.readouterr()
        return shown.out + shown.err

    yield run
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(os.path.join(folder, "control"))
        client.sendall(b"GET /end HTTP/1.1\r\n\r\n")
    thread.join()
    os.close(lock)


def nodes(*found, missing=()):
    return {"nodes": [*found], "missing": [*missing], "problem": ""}


def test_the_answers_of_all_nodes_are_shown(verb):
    """As they are meant."""
    shown = verb("status", status=STANDING, nodes=nodes(STANDING, OTHER))

    assert (True, True, False) == ("n0" in shown, "n1" in shown, "note:" in shown), shown


ODD = [
    {"group_rank": 1},
    without(OTHER, "workers"),
    {**OTHER, "workers": [{}]},
    {**OTHER, "workers": 7},
    {**OTHER, "workers": [{**WORKER, "rank": "x"}]},
    {**OTHER, "workers": [{**WORKER, "silent_s": "long"}]},
    {**OTHER, "node": None},
    {**OTHER, "state": ["running"]},
]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("form", ["text", "json"])
def test_a_node_whose_answer_is_not_understood_is_named(verb, odd, form):
    """One node with another elrun keeps nobody from seeing the others."""
    shown = verb("status", "--format", form, status=STANDING, nodes=nodes(STANDING, odd))

    sentence = "the answer of node 1 is not understood: is another version of elrun there?"
    assert (True, True, True) == ("n0" in shown, "no answer" in shown, sentence in shown), shown


@pytest.mark.parametrize("missing", [(), (2,)])
def test_a_node_without_a_rank_is_no_trouble(verb, missing):
    """The agent that is asked gives each node its rank, unless it is of another version."""
    size, odd = {**STANDING, "group_world_size": 3}, {"group_rank": None}

    shown = verb("status", status=size, nodes=nodes(odd, missing=missing))

    assert (True, True) == ("n0" in shown, "is not understood" in shown), shown


@pytest.mark.parametrize("odd", [{}, [], {"shutdown_timeout_s": "x"}, "stopped"])
def test_a_stop_that_is_not_understood_is_refused(verb, odd):
    """By an agent of another version."""
    with pytest.raises(VerbRefusal, match="is not understood"):
        verb("stop", stop=odd)


@pytest.mark.parametrize("used", ["x", None, [], float("nan"), True])
def test_what_a_worker_elsewhere_uses_may_be_anything(verb, used):
    """It is shown only where it is a number."""
    workers = [{**WORKER, "rank": 1, "cpu_percent": used, "memory_bytes": used}]
    shown = verb("status", status=STANDING, nodes=nodes(STANDING, {**OTHER, "workers": workers}))

    assert (True, False) == ("n1" in shown, "note:" in shown), shown


@pytest.mark.parametrize(
    "odd", [{"group_rank": 1}, {**STACKS, "group_rank": 1, "ranks": [without(PLACE, "stack")]}]
)
def test_stacks_that_are_not_understood_are_named(verb, odd):
    """Those of the others are shown."""
    shown = verb("stacks", status=STANDING, stacks=nodes(STACKS, odd))

    sentence = "the answer of node 1 is not understood: is another version of elrun there?"
    assert (True, True) == ("f (a.py:1)" in shown, sentence in shown), shown


@pytest.mark.parametrize("odd", [{}, [], 7, without(STANDING, "restarts")])
def test_an_agent_whose_own_answer_is_not_understood_is_a_sentence(verb, odd):
    """One of another version."""
    with pytest.raises(VerbRefusal) as caught:
        verb("status", status=odd)

    assert "is it one of another version?" in str(caught.value)


@pytest.mark.parametrize(("child", "is_shown"), [(True, True), (False, False)])
def test_native_frames_are_those_of_the_agents_own_workers(
    verb, tmp_path, monkeypatch, child, is_shown
):
    """A process of the same number may be anybody's, where a node is another host or container."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "py-spy"
    program.write_text("#!/bin/sh\necho native frames\n")
    program.chmod(0o755)
    process = subprocess.Popen(["sleep", "100"])
    node = {"node": os.uname().nodename, "group_rank": 0}
    ranks = [{**PLACE, "pid": process.pid if child else os.getppid()}]
    monkeypatch.setitem(ENVIRONMENT, "PATH", f"{program.parent}:/usr/bin:/bin")
    shown = verb("stacks", "--native", status=STANDING, stacks=nodes({**node, "ranks": ranks}))
    process.kill()
    process.wait()

    expected = (is_shown, not is_shown)
    assert expected == ("native frames\n" in shown, "no native frames of rank 0" in shown), shown
