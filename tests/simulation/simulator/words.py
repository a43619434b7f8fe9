"""A history in plain words, one line for each thing that happens."""

import logging

from elrun.rendezvous.errors import RendezvousRoundOverError
from elrun.rendezvous.protocol.round import DOOR
from elrun.rendezvous.protocol.wire import read_forming, read_node, read_roster, read_verdict

from .keys import parse


class Narrator(logging.Handler):
    """Tells what happens, in the order in which it does.

    A question that a node has asked already is not told again until something has changed.

    Args:
        write: Takes each line.
    """

    def __init__(self, write):
        super().__init__()
        self._write = write
        self._world = None
        self._asked = set()

    def begin(self, world, plan):
        """Tell of this world from now on, beginning with what awaits it."""
        self._world = world
        for line in plan_in_words(plan):
            self._write(line)

    def saw_event(self, node, words):
        """Tell of something that happens to a node, or to all."""
        self._asked.clear()
        self._say(node or "all", words)

    def saw_request(self, node, name, args, answer):
        """Tell of a request that takes effect."""
        if isinstance(answer, RendezvousRoundOverError):
            words = f"is told that {answer}"
        else:
            words = self.in_words(name, args, answer)
        if name in ("get", "wait") or args[1:2] == (0,):
            if (node, words) in self._asked:
                return
            self._asked.add((node, words))
        elif words:
            self._asked.clear()
        if words:
            self._say(node, words)

    def in_words(self, name, args, answer=None):
        """Return what a request does; nothing for one that says nothing."""
        return _in_words(name, args, answer)

    def emit(self, record):
        """Tell what the protocol logs."""
        machine = self._world and self._world.running
        if machine is not None:
            self._say(machine, f"says: {record.getMessage()}")

    def _say(self, node, words):
        self._write(f"{self._world.now:8.3f} s  {node!s:7} {words}")


def plan_in_words(plan):
    """Return what is known of a history before it begins."""
    low, high = plan.clock_rates
    fates = ", or ".join(fate.value for fate in plan.fates)
    store = "elrun's store server" if plan.is_server else "etcd"
    if plan.endpoints > 1:
        store += f", at {plan.endpoints} endpoints"
    return (
        f"{plan.nodes} nodes start for a run of {plan.limits}, over a store like {store}.",
        f"A message travels for {plan.latency_s:g} s on the average.",
        f"Clocks run {low:g} to {high:g} times as fast as they should.",
        f"To {plan.fate_rate:.1%} of all requests it happens that {fates}.",
        f"The job may spend {plan.max_restarts} restarts. {plan.timing}",
    )


def _in_words(name, args, answer):
    match name:
        case "add":
            return _addition(*args, answer)
        case "set":
            return ", ".join(filter(None, _unique(_writing(*item) for item in args[0].items())))
        case "create":
            return _creation(args[0], args[1], answer)
        case "get":
            names = _names(key for key in args[0] if "beat" not in key)
            return names and f"reads {names}"
        case "exchange":
            return ""
        case "leave_will":
            return "leaves a will"
        case _:
            return f"waits for {_names(args[0])}"


def _addition(key, amount, value):
    _, number, _ = parse(key)
    if amount == DOOR:
        return f"shuts the door of round {number}"
    if amount == 0:
        return f"counts the seats of round {number}"
    if value is None:
        return f"takes a seat of round {number}"
    if value > DOOR:
        return f"finds the door of round {number} shut"
    return f"takes seat {value - 1} of round {number}"


def _writing(key, value):
    what, number, index = parse(key)
    match what:
        case "node":
            is_withdrawn = read_node(key, value).is_withdrawn
            return f"{'empties' if is_withdrawn else 'sits on'} seat {index} of round {number}"
        case "place":
            return f"writes the places of round {number}"
        case "round":
            return f"sends newcomers to round {read_forming(key, value)}"
        case "beat" | "seat_beat":
            return ""
        case _:
            return f"leaves the mark '{what}' in round {number}"


def _creation(key, value, standing):
    what, number, _ = parse(key)
    is_ours = standing in (value, None)
    match what:
        case "roster":
            hosts = [member.node.host for member in read_roster(key, value).members]
            if is_ours:
                return f"seals round {number} with {', '.join(hosts) or 'nobody'}"
            return f"would seal round {number}, which another node has sealed"
        case "verdict":
            ours = read_verdict(key, value)
            said = f"{ours.kind.value} ({ours.reason})" if ours.reason else ours.kind.value
            if is_ours:
                return f"ends round {number}: {said}"
            stands = read_verdict(key, standing).kind.value
            return f"would end round {number}: {said}; but there stands: {stands}"
        case "round":
            if standing is None:
                return "asks which round is forming"
            return f"learns that round {read_forming(key, standing)} is forming"
        case _:
            return f"creates {key}"


def _names(keys):
    return ", ".join(_unique(_noun(*parse(key)) for key in keys))


def _noun(what, number, index):
    if number < 0:
        return "which round is forming"
    return f"{what} of round {number}" if index < 0 else f"{what} {index} of round {number}"


def _unique(words):
    return list(dict.fromkeys(words))
