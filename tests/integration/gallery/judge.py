"""Judges a screen: does a person learn from it what has happened, without opening a log?"""

import os
import re
from collections.abc import Sequence

from gallery.kind import Kind
from gallery.stage import Screen


def faults(kind: Kind, setting: str, screens: Sequence[Screen]) -> list[str]:
    """Return what is missing or wrong on the screens of a kind; nothing: all is right."""
    found = []
    for number, screen in enumerate(screens):
        where = f"node {number}: " if len(screens) > 1 else ""
        found += [f"{where}{each}" for each in _faults_of(kind, setting, screen)]
    return found


def _faults_of(kind: Kind, setting: str, screen: Screen) -> list[str]:
    words = kind.instead.get(setting, kind.words)
    if screen.code == -9:
        return []
    found = [] if screen.code == kind.code else [f"exit code {screen.code}"]
    if kind.culprit is None:
        report = " ".join(screen.report.split())
        return [*found, *(f"no {each!r}" for each in words if each not in report)]
    if not screen.summary:
        return [*found, "no summary"]
    head = screen.head
    place = screen.text if setting in kind.on_screen else head
    rank = r"\d" if kind.culprit < 0 else kind.culprit
    if not re.search(rf"failed: rank {rank} ", head):
        found.append("another rank")
    if f"node {os.uname().nodename}" not in head:
        found.append("no node")
    found += [f"no {each!r}" for each in words if each not in place]
    rest = screen.text if setting in kind.on_screen else screen.summary
    found += [f"no {each!r} below" for each in kind.below if each not in rest]
    for rank, ending in rows(screen.summary):
        is_plain = "stopped by elrun" not in ending and "consequence" not in ending and "(first" not in ending
        if is_plain and rank != kind.culprit and rank not in kind.others_fail and kind.culprit >= 0 and "succeeded" not in ending:
            found.append(f"rank {rank}: {ending}")
    return found


def rows(summary: str) -> list[tuple[int, str]]:
    """Return how each rank of the table ended."""
    found = re.findall(r"^ *(\d+) +\d+ +\S+ +\d* *(.+?) *(?:[+-][\d.]+ s.*)?$", summary, re.MULTILINE)
    return [(int(rank), ending) for rank, ending in found]
