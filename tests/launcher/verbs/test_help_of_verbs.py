"""Each verb's help."""

from importlib import import_module

import pytest
from elrun.launcher.verbs.front import LOOKING, run_verb


@pytest.mark.parametrize("verb", LOOKING)
def test_both_spellings_of_help_show_it(verb, capsys):
    """-h is elrun's own, too; what stands for a value is no name of a function."""
    command = import_module(f"elrun.launcher.verbs.{verb}").command
    command.make_context(verb, [])  # as whoever uses the command alone
    shown = []
    for option in ("-h", "--help"):
        assert 0 == run_verb(verb, [option], {})
        shown.append(capsys.readouterr().out)

    assert shown[0] == shown[1]
    assert shown[0].startswith(f"Usage: elrun {verb} ")
    assert "PARSE" not in shown[0]
