"""A regular expression of the user's is compared in bounded time, or is refused."""

import pytest
from elrun.launcher.commandline.patterns import check_pattern


@pytest.mark.parametrize(
    "text",
    [r"(a+)+$", r"^(\w+\s?)*: step", r"(?:a|b*)*", r"((a{3,})b?){2,}", r"(?=(a*)+)", r"(.*?,)*"],
)
def test_a_repeat_within_a_repeat_is_refused(text):
    """Forty letters might keep elrun busy for years, deaf to signals."""
    with pytest.raises(ValueError, match="a repeat within a repeat"):
        check_pattern(text)


@pytest.mark.parametrize("text", ["a{99999999999}", "(" * 3000 + ")" * 3000, "(", "[b-a]", "a**"])
def test_what_python_s_re_refuses_is_refused(text):
    """Whatever it raises."""
    with pytest.raises(ValueError, match="give a regular expression, as of Python's re"):
        check_pattern(text)


@pytest.mark.parametrize(
    "text",
    [r"step \d+", r"^\[rank \d+\] (loss|step)", "(ab){2,5}c+", "(a|b)+ .*", "[[a]&&b]",
     "(a{1,3}b)+"],
)  # fmt: skip
def test_others_are_taken(text):
    """Without a warning."""
    check_pattern(text)
