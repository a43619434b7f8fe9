"""Makes a recorded screen the same at each recording: pids, times, folders and addresses differ."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

_MOST_LINES = 34
_FIRST_LINES = 22
_TITLES = ("rank", "local", "node", "pid", "ended by", "after", "file")
_RIGHT = ("rank", "local", "pid", "after")
_HEADER = re.compile(r"^rank +local +node +pid +ended by +after")
_RULE = re.compile(r"^─+$")
_CELLS = re.compile(
    r"^ *(?P<rank>\d+) +(?P<local>\d+) +(?P<node>\S+(?: \(agent \d\))?) +(?P<pid>\d*) *"
    r"(?P<end>\S.*?) *(?P<after>[+-][\d.]+ s)? *(?P<file>/.*|\S+\.(?:json\S*|log))?$"
)
_REPLACED = (
    (r"/\S*/(?:site|dist)-packages/", "site-packages/"),
    (r"/\S*/lib/python3\.\d+/", "python3/"),
    (r"\bpython3\.\d+/", "python3/"),
    (r"/?tmp/torchelastic_\w+/[^/\s]+/", "/tmp/torchelastic_79c0/none_42/"),
    (r"tmp/elrun_[0-9a-f]+/[^/\s]+/", "/tmp/elrun_79c0/job_42/"),
    (r"\bdisk/[^/\s]+/attempt", "disk/job_42/attempt"),
    (r"\bat \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \w+", "at 2026-11-26 12:00:00 UTC"),
    (r"\d{4}-\d\d-\d\d_\d\d:\d\d:\d\d", "2026-11-26_12:00:00"),
    (r"(?m)^([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ \d+ ", r"\g<1>1126 12:00:00 4711 "),
    (r"\[([IWEF])\d{4} \d\d:\d\d:\d\d\.\d+ ", r"[\g<1>1126 12:00:00 "),
    (r"0x[0-9a-f]{6,}", "0x7f00"),
    (r"\b([Pp]id|PID|[Pp]rocess)([ :(]+)\d{2,}", r"\1\g<2>4711"),
    (r"(?m)^( *\S+: line \d+:) \d{2,} ", r"\1 4711 "),  # as bash tells of a program's end
    (r"\buntil \d\d:\d\d:\d\d", "until 12:00:30"),
    (r"\(pid\(s\) \d+\)", "(pid(s) 4711)"),
    (r"(127\.0\.0\.1\]?|localhost\]?):\d{3,5}\b", r"\1:29500"),
    (r"(?m)^([=-])\1{39,}$", lambda rule: 55 * rule[1]),  # as long as the numbers between them
    (r"\bheld [\d.]+ MiB", "held 240 MiB"),
    (r"\b(open files .* on this host to) \d+", r"\1 270"),
    (r"\b(pair\.cc|inline_container\.cc|socket\.cpp):\d+", r"\1:1"),
    (r"\b(of which|which) [\d.]+ [KMGT]?i?B(?:ytes)?", r"\1 1 GiB"),
    (r"peak [\d.]+ [KMGT]iB", "peak 256 MiB"),
    (r"torch_\d+_\d+_\d+", "torch_4711"),
)


def settled(text: str, folder: Path) -> str:
    """Return a screen without what differs from run to run.

    Args:
        text: What stood on the screen.
        folder: Where the program lay.
    """
    text = text.replace(f"{folder}/", "").replace(f"{sys.prefix}/bin/", "")
    for pattern, replacement in _REPLACED:
        text = re.sub(pattern, replacement, text)
    return "\n".join(_without_repeats(_with_tables_aligned(text.splitlines())))


def of_elrun(text: str) -> str:
    """Return what elrun says, without what the workers have printed before."""
    lines = text.splitlines()
    first = next((at for at, line in enumerate(lines) if line.startswith("elrun: ")), len(lines))
    return _cut(lines[first:])


def of_torchrun(text: str) -> str:
    """Return torchrun's report of a failure; where there is none, its last lines."""
    lines = text.rstrip().splitlines()
    for at, line in enumerate(lines):
        if line.endswith(" FAILED") and at:
            return _cut(lines[at - 1 :])
    return _cut(lines[-12:])


def _cut(lines: Sequence[str]) -> str:
    left_out = len(lines) - _MOST_LINES
    if left_out > 1:
        last = _MOST_LINES - _FIRST_LINES
        lines = [*lines[:_FIRST_LINES], "…", *lines[-last:]]
    return "\n".join(line[:300] for line in lines).strip("\n")


def _without_repeats(lines: Sequence[str]) -> list[str]:
    return [line for at, line in enumerate(lines) if not at or line != lines[at - 1] or not line]


def _with_tables_aligned(lines: Sequence[str]) -> list[str]:
    found: list[str] = []
    at = 0
    while at < len(lines):
        if not _HEADER.match(lines[at]):
            found.append(lines[at])
            at += 1
            continue
        titles = [title for title in _TITLES if re.search(rf"\b{title}\b", lines[at])]
        gap = 3 if at + 1 < len(lines) and _RULE.match(lines[at + 1]) else 2
        at += gap - 1
        rows = []
        while at < len(lines) and (row := _CELLS.match(lines[at])):
            rows.append(_cells(row))
            at += 1
        found += _aligned(titles, rows, gap)
    return found


def _cells(row: re.Match[str]) -> list[str]:
    pid = "4711" if row["pid"] else ""
    after = row["after"] and ("+0.00 s" if "(first)" in row["end"] else "+0.01 s")
    return [row["rank"], row["local"], row["node"], pid, row["end"], after or "", row["file"] or ""]


def _aligned(titles: Sequence[str], rows: Sequence[Sequence[str]], gap: int) -> list[str]:
    table = [titles, *(row[: len(titles)] for row in rows)]
    widths = [max(len(row[at]) for row in table) for at in range(len(titles))]
    lines = []
    for row in table:
        cells = [
            cell.rjust(width) if title in _RIGHT else cell.ljust(width)
            for title, cell, width in zip(titles, row, widths, strict=True)
        ]
        lines.append((" " * gap).join(cells).rstrip())
    if gap == 3:
        lines.insert(1, "─" * (sum(widths) + gap * (len(titles) - 1)))
    return lines
