"""Texts of options and the values that they stand for."""

import pytest
from elrun.launcher.commandline import converters as parsing
from elrun.launcher.commandline.converters import NodeRange


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1", NodeRange(1, 1)), ("2:4", NodeRange(2, 4)), (" 3 : 3 ", NodeRange(3, 3))],
)
def test_nodes_are_a_number_or_a_range(text, expected):
    """``N`` stands for ``N:N``."""
    assert expected == parsing.parse_nodes(text)


@pytest.mark.parametrize("text", ["", ":", "2:", "1:2:3", "two", "1.5", "1_0", "٣", "9" * 5000])
def test_what_is_no_number_of_nodes_is_refused(text):
    """Only decimal digits count, and not too many of them."""
    with pytest.raises(ValueError, match="give a number of nodes such as 2, or MIN:MAX"):
        parsing.parse_nodes(text)


@pytest.mark.parametrize("nodes", [NodeRange(2, 2), NodeRange(1, 4)])
def test_a_range_of_nodes_reads_as_it_was_written(nodes):
    """Its text parses to itself."""
    assert nodes == parsing.parse_nodes(str(nodes))


@pytest.mark.parametrize(("text", "expected"), [("8", 8), ("gpu", "gpu"), ("auto", "auto")])
def test_workers_are_a_number_or_a_kind(text, expected):
    """Kinds are counted later."""
    assert expected == parsing.parse_workers(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("30", 30), ("0", 0), ("0.5", 0.5), ("1e2", 100), ("inf", float("inf"))]
)
def test_seconds_may_have_a_fraction(text, expected):
    """Whole numbers stay whole."""
    assert expected == parsing.seconds(zero=True)(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("-1", "give a whole number, 0 or more"),
        ("1.0", "give a whole number, 0 or more"),
        ("9223372036854775807", "give a whole number of at most 9 digits"),
    ],
)
def test_a_count_says_what_it_takes(text, sentence):
    """A number that is whole is not told to be whole."""
    with pytest.raises(ValueError, match=f"^{sentence}$"):
        parsing.parse_count(text)


@pytest.mark.parametrize("text", ["nan", "-inf", "-1", "1s", ""])
def test_seconds_are_finite(text):
    """A deadline that never comes, or is no number, is refused."""
    with pytest.raises(ValueError, match="give a number of seconds, 0 or more"):
        parsing.seconds(zero=True)(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        (" a = 1 ,b=x=y", {"a": "1", "b": "x=y"}),
        ("join_timeout=60", {"join_timeout": "60"}),
        ("'a=1,b=2'", {"a": "1", "b": "2"}),  # from programs that start others without a shell
        ('"a=1"', {"a": "1"}),
        ("a='1'", {"a": "'1'"}),
    ],
)
def test_settings_are_keys_and_values(text, expected):
    """Only the first ``=`` separates; quotes around all of it are the shell's."""
    assert expected == parsing.parse_settings(text)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("a", "a is no setting"),
        ("a=", "a has no value; give a=VALUE, or leave it out"),
        ("b=1, a = ", "a has no value"),
        ("=", "= is no setting"),
        ("=1", "=1 is no"),
        ("a=1,a=2", "twice"),
    ],
)
def test_what_is_no_setting_is_refused(text, match):
    """A key without a value, a value without a key, and a key that comes twice."""
    with pytest.raises(ValueError, match=match):
        parsing.parse_settings(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", []), ("apple,orange", ["apple", "orange"]), ("a,,b,c", ["a,b", "c"])],
)
def test_a_word_s_own_comma_is_written_twice(text, expected):
    """As with torchrun."""
    assert expected == parsing.parse_words(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("", ()), ("torch", ("torch",)), ("a.b, c", ("a.b", "c"))]
)
def test_modules_are_names_that_commas_separate(text, expected):
    """Nothing is no module."""
    assert expected == parsing.parse_modules(text)


@pytest.mark.parametrize(("text", "expected"), [("", None), ("0,2", {0, 2}), ("10", {10})])
def test_local_ranks_are_numbers_from_0(text, expected):
    """Nothing stands for all of them."""
    assert expected == parsing.parse_local_ranks(text)


def test_streams_are_read_for_any_local_rank():
    """``10:3`` is the tenth worker, which torchrun refuses."""
    assert {0: 1, 10: 3} == parsing.parse_streams("0:1,10:3")


@pytest.mark.parametrize(
    ("text", "expected"), [("[::1]", "::1"), ("fe80::1", "fe80::1"), ("n1", "n1")]
)
def test_a_host_loses_its_brackets(text, expected):
    """Torchrun's users write IPv6 addresses in either way."""
    assert expected == parsing.parse_host(text)


def test_a_port_by_itself_is_no_host():
    """The system would take 29400 for the address 0.0.114.216."""
    with pytest.raises(ValueError, match="the host is missing"):
        parsing.parse_host("29400")


@pytest.mark.parametrize("text", ["300.1.1.1", "10.0.0.256", "1.2.3.4.5", "10..0.1"])
def test_numbers_that_are_no_address_are_refused(text):
    """No host has such a name."""
    with pytest.raises(ValueError, match="no IPv4 address"):
        parsing.parse_host(text)


@pytest.mark.parametrize("text", ["10.0.0.1", "127.1", "n1.10", "10.0.0.1.example", "fe80::1"])
def test_what_the_system_takes_as_an_address_or_a_name_is_taken(text):
    """The short forms of addresses, too."""
    assert text == parsing.parse_host(text)
