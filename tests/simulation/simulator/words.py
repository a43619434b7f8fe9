"""A history in plain words, one line for each thing that happens."""

import logging

from elrun.rendezvous.round import DOOR
from elrun.rendezvous.wire import read_forming, read_node, read_roster, read_verdict

from .keys import parse


class Narrator(logging.Handler):
    """Tells what happens, in the order in which it does.

    Args:
        write: Takes each line.
    """

    def __init__(self, write):
        super().__init__()
        self._write = write
        self._world = None

    def follow(self, world):
        """Tell of this world from now on."""
        self._world = world

    def saw_event(self, node, words):
        """Tell of something that happens to a node, or to all."""
        self._write(f"{self._world.now:8.3f} s  {node or 'all'!s:7} {words}")

    def saw_request(self, machine, name, args, answer):
        """Tell of a request that takes effect."""
        words = in_words(name, args, answer)
        if words:
            self.saw_event(machine, words)

    def emit(self, record):
        """Tell what the protocol logs."""
        thread = self._world.running
        if thread is not None:
            self.saw_event(thread.machine, f"says: {record.getMessage()}")


def in_words(name, args, answer=None):
    """Return what a request does; nothing for one that says nothing."""
    match name:
        case "add":
            return _addition(*args, answer)
        case "set":
            return ", ".join(filter(None, _unique(_writing(*item) for item in args[0].items())))
        case "create":
            return _creation(*args[:2], answer)
        case "get":
            names = _unique(_name(key) for key in args[0] if "beat" not in key)
            return f"reads {', '.join(names)}" if names else ""
        case _:
            return f"waits for {', '.join(_unique(_name(key) for key in args[0]))}"


def _addition(key, amount, value):
    what, number, _ = parse(key)
    if what == "finished":
        return f"finishes in round {number}: {value} have now"
    if value is None:
        return f"it could add {amount} to the {what} of round {number}"
    if amount == DOOR:
        return f"shuts the door of round {number}, behind {value % DOOR} seats"
    if amount == 0:
        return f"counts {value % DOOR} seats in round {number}"
    if value > DOOR:
        return f"finds the door of round {number} shut"
    return f"takes seat {value - 1} of round {number}"


def _writing(key, value):
    what, number, index = parse(key)
    match what:
        case "node":
            leaves = read_node(key, value).is_withdrawn
            return f"{'empties' if leaves else 'sits down on'} seat {index} of round {number}"
        case "place":
            return f"writes the places of round {number}"
        case "round":
            return f"sends newcomers to round {read_forming(key, value)}"
        case "beat" | "seat_beat":
            return ""
        case _:
            return f"writes the {what} mark {index} of round {number}"


def _creation(key, value, standing):
    what, number, _ = parse(key)
    is_first = standing in (value, None)
    match what:
        case "roster":
            members = [member.node.host for member in read_roster(key, value).members]
            deed = f"seals round {number} with {', '.join(members) or 'nobody'}"
            return deed if is_first else f"would have it that it {deed}, which another one has"
        case "verdict":
            ours = read_verdict(key, value)
            said = f"{ours.kind.value} ({ours.reason})"
            if is_first:
                return f"ends round {number}: {said}"
            stands = read_verdict(key, standing).kind.value
            return f"would end round {number}: {said}; it has ended: {stands}"
        case "round":
            forming = "?" if standing is None else read_forming(key, standing)
            return f"learns that round {forming} is forming"
        case _:
            return f"creates {key}"


def _name(key):
    what, number, index = parse(key)
    whose = "" if index < 0 else f" {index}"
    return f"{what}{whose} of round {number}"


def _unique(words):
    return list(dict.fromkeys(words))
