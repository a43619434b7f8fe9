"""JSON without ``json``: the same texts and the same values."""

import json
import math
import subprocess
import sys

import pytest
from elrun.rendezvous import light_json
from hypothesis import given
from hypothesis import strategies as st

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
NO_JSON = (
    "",
    " ",
    "{",
    "[1,]",
    "{'a': 1}",
    "nul",
    "1 2",
    "{}}",
    '"\n"',
    '"',
    "\ufeff{}",
    "01",
    "+1",
    "[1,2",
    "[1 2]",
    '{"a" 1}',
    '{"a":1',
    "{1:2}",
    '"abc',
    '"\\x"',
)
WITHOUT_JSON = f"""
import sys
from elrun.rendezvous.light_json import json_reader
from elrun.rendezvous.protocol.wire import is_forming
read = json_reader()
for text in {NO_JSON!r}:
    assert not is_forming(text.encode())
    try:
        read(text)
    except ValueError:
        continue
    sys.exit(f"{{text}} was read")
assert "json" not in sys.modules
"""


@given(VALUES)
def test_values_are_written_and_read_as_json_does_it(value):
    """Also texts with surrogates, and numbers of any size."""
    text = json.dumps(value, separators=(",", ":"))

    assert text == light_json.json_writer()(value)
    assert value == light_json.json_reader()(f" \t\n\r{text}\n")


@given(st.text(alphabet='{}[]",:.-+eE0123456789 \n\\utrfalsn', max_size=12))
def test_a_text_is_refused_if_json_refuses_it(text):
    """A ValueError stands for both."""

    def read(reader):
        try:
            return reader(text)
        except ValueError:
            return "refused"

    assert repr(read(json.JSONDecoder().decode)) == repr(read(light_json.json_reader()))


@pytest.mark.parametrize("text", NO_JSON)
def test_what_is_no_json_is_a_value_error(text):
    """An empty text is, too."""
    with pytest.raises(ValueError, match="."):
        light_json.json_reader()(text)


def test_numbers_are_made_as_the_caller_says():
    """Constants that are no JSON are those of ``json``."""
    read = light_json.json_reader(parse_int=lambda digits: f"int {digits}", parse_float=len)

    assert ["int -12", 3] == read("[-12, 1.5]")
    assert [math.inf, -math.inf] == light_json.json_reader()("[Infinity,-Infinity]")


def test_what_has_no_form_in_json_is_a_type_error():
    """The sentence is that of ``json``."""
    with pytest.raises(TypeError, match="Object of type set is not JSON serializable"):
        light_json.json_writer()({"a": set()})


def test_what_is_too_deep_is_a_recursion_error():
    """Whoever reads what came over a network expects it."""
    with pytest.raises(RecursionError):
        light_json.json_reader()("[" * 100_000)


@pytest.mark.parametrize("functions", ["this interpreter's", "none", "with other arguments"])
def test_each_interpreter_reads_and_writes_the_same_json(functions, monkeypatch):
    """The functions in C are not documented."""
    value = {"a": [1, None, True, 2.5, '\u00fc"\n'], "b": {"c": -(1 << 60)}}
    text = json.dumps(value, separators=("\n", ":"))
    if functions == "none":
        monkeypatch.setitem(sys.modules, "_json", None)
    if functions == "with other arguments":
        monkeypatch.setattr("_json.make_encoder", lambda _markers: None)
        monkeypatch.setattr("_json.make_scanner", lambda: None)

    assert text == light_json.json_writer("\n")(value)
    assert value == light_json.json_reader()(json.dumps(value))


@pytest.mark.integration
def test_what_is_no_json_is_one_where_json_is_not_loaded():
    """The scanner's own error stands in `json.decoder`: before 3.12 it raises a SystemError."""
    subprocess.run([sys.executable, "-c", WITHOUT_JSON], check=True)
