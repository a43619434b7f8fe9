"""What `make clients` runs of each library, and how it judges that."""

import ast
from pathlib import Path

import clients
import pytest
from clients import CLIENTS, WAYS, Client, judge, render

ACCELERATE = Client("accelerate", "accelerate", "accelerate_loop", "accelerate")
REQUIREMENTS = Path(clients.__file__).with_name("requirements.txt").read_text()


def test_each_client_has_a_program_and_a_pinned_version():
    """A program that nobody runs, or a library of any version, says nothing."""
    programs = {path.stem for path in clients.PROGRAMS.glob("*.py")} - {"faults"}
    assert programs == {client.program for client in CLIENTS}
    pinned = {line.split("==")[0] for line in REQUIREMENTS.splitlines() if "==" in line}
    assert pinned | {"torch"} == {client.distribution for client in CLIENTS}


def test_no_program_has_code_for_elrun():
    """What is shown is that a user's program runs as it is."""
    for path in clients.PROGRAMS.glob("*.py"):
        names = {
            node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)
        }
        assert "elrun" not in path.read_text().replace('"""', "").split("import", 1)[1], path
        assert "elrun" not in names


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.name)
def test_a_way_is_two_workers(way):
    """On one node, or on one of two each."""
    commands = way.commands(ACCELERATE, Path("elrun"))

    assert way.nodes == len(commands)
    assert way.is_preloaded == ("torch,accelerate" in commands[0])
    assert way.fails == ("--max-restarts" in commands[0])


@pytest.mark.parametrize(
    ("ends", "result"),
    [
        ([(0, "rank 1 of 2: b\nnoise\nrank 0 of 2: a\n", "")], "ok"),
        ([(0, "rank 1 of 2: b\n", ""), (0, "rank 0 of 2: a\n", "")], "ok"),
        ([(0, "rank 0 of 2: a\n", "")], "it printed ['rank 0 of 2: a']"),
        ([(0, "", ""), (3, "", "x\nwhy\n")], "exit codes [0, 3]: why"),
    ],
)
def test_a_run_is_judged_by_exit_codes_and_ranks(ends, result):
    """What libraries print beside is theirs."""
    assert result == judge(ends, ["rank 0 of 2: a", "rank 1 of 2: b"])


def test_what_went_wrong_stands_below_the_table():
    """A reader sees which way, and why."""
    results = dict.fromkeys(WAYS, "ok") | {WAYS[2]: "exit codes [1]: why"}

    lines = list(render({ACCELERATE: results}, {ACCELERATE: "1.15.0"}, "today"))

    assert "| accelerate | 1.15.0 | ok | ok | FAILED | ok | ok | today |" == lines[2]
    assert ["", "- accelerate, restarted: exit codes [1]: why"] == lines[3:]


def test_rows_of_clients_that_were_not_run_stay():
    """With their day and their notes; the row that was run anew, and its notes, are replaced."""
    results = dict.fromkeys(WAYS, "ok")
    bad = dict.fromkeys(WAYS, "exit codes [1]: why")
    before = list(render(dict.fromkeys(CLIENTS, bad), dict.fromkeys(CLIENTS, "1"), "then"))

    after = list(render({ACCELERATE: results}, {ACCELERATE: "2"}, "now", "\n".join(before)))

    assert "| accelerate | 2 | ok | ok | ok | ok | ok | now |" == after[2]
    assert before[3 : 2 + len(CLIENTS)] == after[3 : 2 + len(CLIENTS)]
    assert [line for line in before if line[:1] == "-" and "accelerate" not in line] == (
        [line for line in after if line[:1] == "-"]
    )
