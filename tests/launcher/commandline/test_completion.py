"""Scripts that complete the command line, tried by the shells that are on this machine."""

import shutil
import subprocess

import pytest
from elrun.launcher.commandline.arguments import Refusal
from elrun.launcher.commandline.completion import completion_script
from elrun.launcher.commandline.environment import Environment
from elrun.launcher.commandline.options import ALL_OPTIONS
from elrun.launcher.commandline.parse import Answered, parse
from elrun.launcher.commandline.verbs import VERBS

SHELLS = ["bash", "zsh", "fish", "tcsh"]
ASK_BASH = """
source /dev/stdin
COMP_LINE=$1 COMP_POINT=${#1}
_elrun && printf '%s\\n' "${COMPREPLY[@]}"
"""


def offers(line):
    """Return what bash offers after a line."""
    done = subprocess.run(
        ["bash", "--norc", "-c", ASK_BASH, "bash", line],
        input=completion_script("bash"),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "" == done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("elrun --start-m", ["--start-method"]),
        ("elrun --start-method ", ["spawn", "fork", "forkserver"]),
        ("elrun --start-method forks", ["forkserver"]),
        ("elrun --start-method=forks", ["forkserver"]),
        ("elrun -t ", ["0", "1", "2", "3"]),
        ("elrun --nnodes 2:4 --nproc-per-node=2 --stand", ["--standalone"]),
        ("elrun --nproc-per-node ", ["auto", "gpu", "cpu", "xpu"]),
        ("elrun --log-dir ", []),
        ("elrun train.py --stand", []),
        ("elrun -m pkg.train --stand", []),
        ("elrun st", ["status", "stacks", "stop"]),
        ("elrun tr", ["train.py"]),
        ("elrun do", ["doctor"]),
        ("elrun status ", []),
        ("elrun status --", ["--watch", "--all", "--format"]),
        ("elrun status --format ", ["text", "json"]),
        ("elrun status job7 --w", ["--watch"]),
        ("elrun logs --f", ["--follow"]),
        ("elrun report -", ["-o", "--output"]),
        ("elrun stop --stand", []),
        ("elrun doctor --stand", ["--standalone"]),
        ("elrun run --start-method ", ["spawn", "fork", "forkserver"]),
        ("elrun run ", []),
        ("elrun --standalone st", []),
        ("elrun --nosuch", []),
    ],
)
def test_bash_completes_verbs_options_and_values(tmp_path, monkeypatch, line, expected):
    """Up to SCRIPT; where nothing is offered, bash offers files."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").touch()

    assert expected == offers(line)


def test_bash_offers_every_option():
    """And the short forms."""
    assert [each for option in ALL_OPTIONS for each in option.opts] == offers("elrun -")


def test_bash_offers_verbs_and_files_for_the_first_word(tmp_path, monkeypatch):
    """It may be either."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").touch()

    assert [*VERBS, "train.py"] == offers("elrun ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_names_every_verb_with_its_options(shell):
    """In each shell's own way."""
    script = completion_script(shell)
    options = [each for verb in VERBS.values() for each in verb.options or ()]

    assert [] == [each for each in [*VERBS, *options] if each.lstrip("-") not in script]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_names_every_option(shell):
    """In each shell's own way."""
    script = completion_script(shell)

    assert [] == [each.opts[-1] for each in ALL_OPTIONS if each.opts[-1].lstrip("-") not in script]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_one_of_its_shell(shell):
    """The shell reads it without a complaint."""
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell} here")

    subprocess.run([shell, "-n"], input=completion_script(shell), text=True, check=True)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("elrun sto", ["stop"]),
        ("elrun logs --fo", ["--follow"]),
        ("elrun status --format ", ["json", "text"]),
        ("elrun doctor --stand", ["--standalone"]),
        ("elrun train.py --stand", []),
    ],
)
def test_fish_completes_verbs_and_their_options(tmp_path, line, expected):
    """And the options of a job after a verb that reads them."""
    if shutil.which("fish") is None:
        pytest.skip("there is no fish here")
    (tmp_path / "elrun.fish").write_text(completion_script("fish"))

    done = subprocess.run(
        ["fish", "--no-config", "-c", f"source elrun.fish; complete -C '{line}'"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )

    assert expected == [each.split("\t")[0] for each in done.stdout.splitlines()]


@pytest.mark.parametrize("option", ["--print-completion", "--print_completion"])
@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_printed_and_nothing_is_launched(capsys, option, shell):
    """On standard output, to be kept where the shell looks."""
    with pytest.raises(Answered):
        parse([option, shell], Environment({}))

    assert (completion_script(shell), "") == capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--print-completion", "ksh"], "ksh"),
        (["--print-completion", ""], "''"),
        (["--print-completion="], "''"),
        (["--print-completion", "", "x.py"], "''"),
    ],
)
def test_another_shell_is_refused(words, shown):
    """With those that are known; a shell without a name is none, either."""
    with pytest.raises(Refusal, match=f"--print-completion {shown}: give bash, zsh, fish or tcsh"):
        parse(words, Environment({}))
