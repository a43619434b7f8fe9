"""Each verb's help."""

import pytest
from elrun.launcher.verbs.front import LOOKING, run_verb


@pytest.mark.parametrize("verb", LOOKING)
def test_both_spellings_of_help_show_it(verb, capsys):
    """-h is elrun's own, too; what stands for a value is no name of a function."""
    shown = []
    for option in ("-h", "--help"):
        assert 0 == run_verb(verb, [option], {})
        shown.append(capsys.readouterr().out)

    assert shown[0] == shown[1]
    assert shown[0].startswith(f"Usage: elrun {verb} ")
    assert "PARSE" not in shown[0]
