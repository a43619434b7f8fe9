"""Changes that random bytes would hardly make: a JSON value in an input becomes another one."""

from __future__ import annotations

import json
import random
from typing import Any

# What readers of JSON forget: numbers that are none, or too large; texts no file or terminal takes.
ODD = (
    None,
    True,
    False,
    0,
    -1,
    1,
    1 << 31,
    -(1 << 63),
    10**30,
    10**400,
    1e308,
    -0.0,
    0.5,
    float("inf"),
    float("nan"),
    "",
    "0",
    "\0",
    "\ud800",
    "\x1b[2J",
    "a" * 2000,
    "é\u202e\n",
    [],
    {},
    [[]],
    {"": {}},
)
_DEEPEST = 3000


def mutated(data: bytes, seed: int) -> bytes | None:
    """Return an input in which one line that is JSON has one value changed; None: there is none."""
    dice = random.Random(seed)
    lines = data.split(b"\n")
    for number in dice.sample(range(len(lines)), len(lines)):
        try:
            value = json.loads(lines[number])
        except (ValueError, RecursionError):
            continue
        if not isinstance(value, dict | list):
            continue
        lines[number] = _changed(value, dice)
        return b"\n".join(lines)
    return None


def _changed(value: Any, dice: random.Random) -> bytes:
    if dice.random() < 0.01:
        return b"[" * _DEEPEST
    places = list(_places(value))
    if not places:
        return json.dumps(dice.choice(ODD)).encode()
    for _ in range(dice.choice((1, 1, 1, 2, 4))):
        inside, key = dice.choice(places)
        if isinstance(inside, list) and isinstance(key, int) and key >= len(inside):
            continue
        if isinstance(inside, dict) and key not in inside:
            continue
        _change(inside, key, dice)
    return json.dumps(value).encode()


def _change(inside: Any, key: Any, dice: random.Random) -> None:
    match dice.randrange(5):
        case 0:
            del inside[key]
        case 1 if isinstance(inside, list):
            inside.insert(key, inside[key])
        case 1:
            inside[str(dice.choice(ODD))[:50]] = inside[key]
        case 2 if isinstance(inside[key], str):
            inside[key] += str(dice.choice(ODD))[:50]
        case 2 if type(inside[key]) is int:
            inside[key] += dice.choice((-1, 1, 1000, -1000))
        case _:
            inside[key] = dice.choice(ODD)


def _places(value: Any) -> Any:
    """Yield where values stand: what they are in, and their key or index there."""
    within = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in within:
        yield value, key
        if isinstance(inner, dict | list):
            yield from _places(inner)
