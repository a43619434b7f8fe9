"""Judges a screen: does a person learn from it what has happened, without opening a log?"""

import os
import re
import signal
from collections.abc import Sequence

from gallery.kind import Kind
from gallery.stage import Screen

_ROW = re.compile(r"^ *(\d+) +\d+ +\S+ +\d* *(.+?) *(?:[+-][\d.]+ s.*)?$", re.MULTILINE)
_NO_FAILURE = ("stopped by elrun", "consequence", "(first", "succeeded")


def faults(
    kind: Kind, setting: str, screens: Sequence[Screen], node: str = os.uname().nodename
) -> list[str]:
    """Return what is missing or wrong on the screens of a kind; nothing: all is right.

    Args:
        kind: What happened.
        setting: Where.
        screens: What the nodes showed.
        node: How a node's name begins.
    """
    killed = [screen for screen in screens if screen.code == -signal.SIGKILL]
    found = [] if len(killed) == kind.kills_agent else [f"{len(killed)} agents were killed"]
    for number, screen in enumerate(screens):
        if screen not in killed:
            where = f"node {number}: " if len(screens) > 1 else ""
            code = kind.codes[number] if kind.codes else kind.code
            if screen.code != code:
                found.append(f"{where}exit code {screen.code}")
            found += [f"{where}{each}" for each in _faults_of(kind, setting, screen, node)]
    return found


def _faults_of(kind: Kind, setting: str, screen: Screen, node: str) -> list[str]:
    found: list[str] = []
    words = kind.instead.get(setting, kind.words)
    if kind.culprit == "none":
        report = " ".join(screen.report.split())
        return [*found, *(f"no {each!r}" for each in words if each not in report)]
    if not screen.summary:
        return [*found, "no summary"]
    rank = r"\d" if kind.culprit == "any" else kind.culprit
    if not re.search(rf"failed: rank {rank} ", screen.head):
        found.append("another rank is named")
    if f"(node {node}" not in screen.head:
        found.append("no node is named")
    is_printed = setting in kind.on_screen
    head, report = (screen.text, screen.text) if is_printed else (screen.head, screen.summary)
    found += [f"no {each!r}" for each in words if each not in head]
    found += [f"no {each!r} below" for each in kind.below if each not in report]
    if kind.culprit != "any":
        found += [
            f"rank {rank}: {ending}"
            for rank, ending in endings(screen.summary)
            if rank not in (kind.culprit, *kind.others_fail)
            and not any(each in ending for each in _NO_FAILURE)
        ]
    return found


def endings(summary: str) -> list[tuple[int, str]]:
    """Return how each rank of the table ended."""
    return [(int(rank), ending) for rank, ending in _ROW.findall(summary)]
