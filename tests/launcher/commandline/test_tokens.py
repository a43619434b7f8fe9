"""Options as people type them."""

import pytest
from elrun.launcher.commandline.arguments import Refusal
from elrun.launcher.commandline.tokens import spell_out

TAKES_VALUE = {
    "--nnodes": True,
    "--nproc-per-node": True,
    "--node-rank": True,
    "--no-python": False,
    "--redirects": True,
    "-r": True,
    "--module": False,
    "-m": False,
}


@pytest.mark.parametrize(
    ("typed", "declared"),
    [
        ("--nproc_per_node 2 x", "--nproc-per-node 2 x"),
        ("--nproc_per-node=2 x", "--nproc-per-node 2 x"),
        ("--nnodes=1:2 x --nnodes=3", "--nnodes 1:2 x --nnodes=3"),
        ("-m pkg.mod -m", "-m pkg.mod -m"),
        ("-r3 x", "-r 3 x"),
        ("-r=3 x", "-r 3 x"),
        ("-r 0:1,1:2 x", "-r 0:1,1:2 x"),
        ("-mr3 x", "-m -r 3 x"),
        ("-mr 3 x", "-m -r 3 x"),
        ("--nnodes -1 x", "--nnodes -1 x"),
        ("--no-python -- --nnodes", "--no-python --nnodes"),
        ("-- -- x", "-- x"),
        ("x --whatever", "x --whatever"),
        ("- x", "- x"),
        ("", ""),
    ],
)
def test_a_command_line_becomes_its_declared_form(typed, declared):
    """Up to SCRIPT; what follows is not looked at."""
    spelled = spell_out(typed.split(), TAKES_VALUE)

    words = [word for option in spelled.options for word in option if word]
    assert declared.split() == words + spelled.command


def test_a_spelling_with_underscores_needs_no_notice():
    """It is one of the two that are documented."""
    assert () == spell_out(["--nproc_per_node=2"], TAKES_VALUE).notices


def test_an_abbreviation_is_noticed():
    """What it was taken for is said once."""
    spelled = spell_out(["--nnode=1", "x"], TAKES_VALUE)

    assert ([("--nnodes", "1")], ("--nnode is taken as --nnodes",)) == (
        spelled.options,
        spelled.notices,
    )


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("--no", "--no could be --node-rank or --no-python; write it out"),
        (
            "--nproc-per-mode 2",
            "--nproc-per-mode is no option of elrun; did you mean --nproc-per-node?",
        ),
        ("--npproc 2", "--npproc is no option of elrun; did you mean --nproc-per-node?"),
        ("--nporc 2", "--nporc is no option of elrun; did you mean --nproc-per-node?"),
        ("--nproces", "--nproces is no option of elrun; elrun --help lists the options"),
        ("--timeout", "--timeout is no option of elrun; elrun --help lists the options"),
        ("--dry-run", "--dry-run is no option of elrun; elrun --help lists the options"),
        ("--verbose", "--verbose is no option of elrun; elrun --help lists the options"),
        ("--no-pyhton", "--no-pyhton is no option of elrun; did you mean --no-python?"),
        ("--moduel", "--moduel is no option of elrun; did you mean --module?"),
        ("--qqq", "--qqq is no option of elrun; elrun --help lists the options"),
        ("-nnodes 2", "-nnodes is no option of elrun; did you mean --nnodes?"),
        ("-np 4", "-np is no option of elrun; did you mean --nproc-per-node?"),
        ("-n 4", "-n is no option of elrun; did you mean --nproc-per-node?"),
        ("-N 2", "-N is no option of elrun; did you mean --nnodes?"),
        (
            "--num_processes=4",
            "--num_processes is no option of elrun; did you mean --nproc-per-node?",
        ),
        (
            "--main_process_ip a",
            "--main_process_ip is no option of elrun; did you mean --master-addr?",
        ),
        ("-x", "-x is no option of elrun; elrun --help lists the options"),
        ("-=3", "- is no option of elrun; elrun --help lists the options"),
        ("--=3", "-- is no option of elrun; elrun --help lists the options"),
        ("--nnodes", "--nnodes needs a value after it"),
        ("--nnodes --no-python x", "--nnodes needs a value, but --no-python follows it"),
        ("--nnodes --node_rank=1 x", "--nnodes needs a value, but --node_rank=1 follows it"),
        ("--nnodes -- x", "--nnodes needs a value, but -- follows it"),
        ("--no-python=1 x", "--no-python takes no value, but was given 1"),
    ],
)
def test_what_is_no_option_is_refused(typed, sentence):
    """The sentence names what would be right."""
    with pytest.raises(Refusal) as caught:
        spell_out(typed.split(), TAKES_VALUE)

    assert sentence == str(caught.value)
