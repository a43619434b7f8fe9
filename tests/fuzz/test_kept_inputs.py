"""The inputs that `make fuzz` has found keep no promise of elrun's broken."""

import json
import random

import pytest
from corpora import SURFACES, attempt_of, inputs_of
from mutation import mutated


@pytest.mark.parametrize("surface", SURFACES)
def test_no_kept_input_breaks_a_promise(surface):
    """What came from another process is taken or refused; nothing else happens."""
    attempt = attempt_of(surface)
    inputs = inputs_of(surface)
    assert inputs

    for each in inputs:
        attempt(each)


@pytest.mark.parametrize("surface", SURFACES)
def test_no_change_to_a_kept_input_breaks_a_promise(surface):
    """A few that `make fuzz` would make, the same ones in each run."""
    attempt, dice = attempt_of(surface), random.Random(16)
    inputs = inputs_of(surface)

    for number in range(100):
        before = dice.choice(inputs)
        changed = mutated(before, number)
        if changed is None:
            at = dice.randrange(len(before) + 1)
            changed = before[:at] + bytes([dice.randrange(256)]) + before[at + dice.randrange(2) :]
        attempt(changed)


def test_a_change_is_one_of_a_value():
    """JSON stays JSON, so that what is behind its parser is reached."""
    before = b'first\n{"a": [1, {"b": "c"}], "d": null}'

    changed = {mutated(before, seed) for seed in range(50)}

    assert len(changed) > 20
    assert before not in changed
    shallow = [each for each in changed if b"[[[[" not in each]
    for each in shallow:
        first, json_text = each.split(b"\n")
        assert b"first" == first
        json.loads(json_text)


def test_what_is_no_json_is_left_to_others():
    """Bytes are changed as bytes."""
    assert mutated(b"no\njson 5", 1) is None
