"""What a backend is constructed from."""

import pytest
from elrun.rendezvous.api.parameters import RendezvousParameters, truth_of

YES = ["1", "true", "True", "t", "yes", "Y", "on", "ON", " on "]
NO = ["0", "false", "False", "f", "no", "N", "off", "OFF", " off "]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, True) for text in YES),
        *((text, False) for text in NO),
        *((text, None) for text in ["", " ", "2", "ja", "onn", "-1"]),
    ],
)
def test_there_is_one_table_of_yes_and_no(text, expected):
    """For flags in the environment and settings of a backend alike."""
    assert expected is truth_of(text)


@pytest.mark.parametrize(("texts", "expected"), [(YES, True), (NO, False)])
def test_a_setting_may_be_a_yes_or_a_no(texts, expected):
    """``--rdzv-conf is_host=on``."""
    for text in texts:
        parameters = RendezvousParameters("c10d", "a:1", "job", 1, 1, is_host=text)

        assert expected is parameters.get_as_bool("is_host")


@pytest.mark.parametrize("text", ["2", "maybe", ""])
def test_a_setting_that_is_neither_is_refused(text):
    """By its name and its value."""
    parameters = RendezvousParameters("c10d", "a:1", "job", 1, 1, is_host=text)

    with pytest.raises(ValueError, match=f"--rdzv-conf is_host={text}: give true or false"):
        parameters.get_as_bool("is_host")
