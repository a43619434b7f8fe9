"""Which figures go into which chart."""

import re
from collections.abc import Mapping

from charts import Bar, Series, bars, lines
from report import ROUNDS, sizes_of_rounds, typical
from rows import Row, Samples

STARTS = {
    "P1": "P1  start and end of an empty script, two workers",
    "P2": "P2  the same with torch, a gloo group and one all-reduce",
    "P3": "P3  restart of a torch script: from the death of a rank to the next all-reduce",
    "P4": "P4  restart of a script without torch",
}
STAGES = {  # colour and meaning, by the moment with which the stage ends
    "P2 imports": ("floor", "the launcher imports"),
    "P2 line": ("agent", "agent, until the scripts begin"),
    "P2 torch": ("torch", "the scripts import torch"),
    "P2 group": ("group", "gloo group and all-reduce"),
    "P2": ("grid", "interpreters and agent end"),
}
LAUNCHERS = ("elrun", "preloaded", "torchrun")


def all_of(rows: Mapping[str, Row], samples: Mapping[str, Samples]) -> dict[str, str]:
    """Return the charts that the samples are enough for, by file name."""
    middles = {
        key: {name: typical(rows[key], figures) for name, figures in by_launcher.items()}
        for key, by_launcher in samples.items()
    }
    pictures = {}
    if middles.keys() >= STARTS.keys():
        pictures["starts.svg"] = starts(middles)
    if middles.keys() >= STAGES.keys():
        pictures["stages.svg"] = stages(middles)
    if sizes_of_rounds(middles):
        pictures["rounds.svg"] = rounds(middles, samples)
    return pictures


_Middles = Mapping[str, Mapping[str, float | None]]


def starts(middles: _Middles) -> str:
    """Draw starts and restarts, with the ratio to torchrun's."""
    groups = []
    for key, title in STARTS.items():
        theirs = middles[key].get("torchrun")
        group = []
        for name in LAUNCHERS:
            ours = middles[key].get(name)
            if ours is not None:
                faster = f", {theirs / ours:.1f} times faster" if theirs else ""
                note = f"{ours:.2f} s" + (faster if name != "torchrun" else "")
                group.append(Bar(name, [(name, ours)], note))
        groups.append((title, group))
    return bars("elrun beside torchrun: start and restart, seconds", groups)


def stages(middles: _Middles) -> str:
    """Draw where the time of P2 goes, stage by stage."""
    group = []
    for name in ("torchrun", "elrun", "preloaded"):
        moments = {key: middles[key].get(name) for key in STAGES}
        moments["P2 imports"] = middles["P2 imports"].get(name.replace("preloaded", "elrun"))
        if any(moment is None for moment in moments.values()):
            continue
        before, parts = 0.0, []
        for key, (colour, _) in STAGES.items():
            parts.append((colour, max(0.0, moments[key] - before)))
            before = moments[key]
        group.append(Bar(name, parts, f"{before:.2f} s"))
    groups = [("import torch, form a gloo group, all-reduce once: whole command (P2)", group)]
    return bars("Where the time goes, seconds", groups, list(STAGES.values()))


def rounds(middles: _Middles, samples: Mapping[str, Samples]) -> str:
    """Draw how long N nodes take to meet."""
    series = []
    for title, (words, name) in ROUNDS.items():
        points, beyond = [], []
        for size in sizes_of_rounds(middles):
            key = f"{words} {size}"
            seconds = middles.get(key, {}).get(name)
            if seconds is not None:
                points.append((size, seconds))
            for figure in set(samples.get(key, {}).get(name, ())):
                limit = re.fullmatch(r"not in (\d+) s", str(figure))
                if limit and seconds is None:
                    beyond.append((size, float(limit[1]), str(figure)))
        if points or beyond:
            series.append(Series(title, words.partition(" ")[2] or name, points, beyond))
    return lines("A round of N nodes: until the last one is in it", "nodes", "seconds", series)
