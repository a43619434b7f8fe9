"""Makes the page of a run: one file that needs no network, whatever the run's texts are.

Every text is escaped, and the page allows no script and no style but its own two, by their hashes.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from ..commandline.version import __version__
from .curves import Curve, path_of
from .failures import stacks_of
from .story import Story
from .timeline import Doing, Span
from .words import as_clock, as_duration, as_exit, as_iso, as_percent, as_size

if TYPE_CHECKING:
    import jinja2

_TICKS = 3
_MOST_LISTED = 200
_WIDTH = 1_000
_LEAST_WIDTH = 1.0


def page_of(story: Story) -> str:
    """Return the page, as HTML."""
    css, script = _text_in("page.css"), _text_in("page.js")
    verdict = story.verdict
    return _template().render(
        policy=_policy_for(css, script),
        version=__version__,
        css=css,
        script=script,
        title=story.title,
        state=verdict["state"],
        is_well=verdict["state"] in ("succeeded", "running"),
        reason=verdict["reason"],
        facts=list(_facts_of(story)),
        axis=story.axis,
        ticks=_ticks_of(story),
        doings=[each.value for each in Doing],
        has_shifts=any(node.timeline.shift_s for node in story.nodes),
        nodes=[
            {
                "name": node.name,
                "timeline": node.timeline,
                "label": node.label,
                "listed": node.timeline.spans[:_MOST_LISTED],
            }
            for node in story.nodes
        ],
        failures=story.failures,
        ranks=story.ranks,
        curves=story.curves,
        tops=_tops_of(story),
        has_gpus=any(each.gpu for each in story.curves),
        stacks=list(stacks_of(story.records)),
        decisions=story.decisions,
        config=sorted(story.records[0].report["config"].items()),
        options=list(_options_of(story)),
        paths=[record.path for record in story.records],
    )


@functools.cache
def _template() -> jinja2.Template:
    import jinja2  # 30 ms, and the text needs none

    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.filters |= {
        "iso": as_iso,
        "clock": as_clock,
        "duration": as_duration,
        "size": as_size,
        "percent": as_percent,
        "exit": as_exit,
        "base": os.path.basename,
        "path": path_of,
        "stats": _stats_of,
        "x": _x_of,
        "width": _width_of,
    }
    return environment.from_string(_text_in("page.html"))


def _text_in(name: str) -> str:
    with open(os.path.join(os.path.dirname(__file__), name), encoding="utf-8") as file:
        return file.read()


def _policy_for(css: str, script: str) -> str:
    return (
        f"default-src 'none'; img-src data:; style-src '{_hash_of(css)}'; "
        f"script-src '{_hash_of(script)}'; base-uri 'none'; form-action 'none'"
    )


def _hash_of(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _facts_of(story: Story) -> Iterator[tuple[str, str]]:
    verdict = story.verdict
    begin, end = story.axis
    yield "Began", f"{as_clock(begin)} UTC"
    yield "Took" if verdict["ended_at"] else "Known for", as_duration(end - begin)
    if verdict["exit_code"] is not None:
        yield "Exit code", str(verdict["exit_code"])
    yield "Nodes", f"{len(story.nodes)} in this page"
    yield "Ranks", str(story.world_size)
    yield "Restarts", str(story.restarts)
    if verdict["missing_nodes"]:
        names = ", ".join(map(str, verdict["missing_nodes"]))
        yield "No outcome known of", f"nodes of group rank {names}"


def _ticks_of(story: Story) -> list[str]:
    begin, end = story.axis
    times = [as_clock(begin + (end - begin) * step / (_TICKS - 1)) for step in range(_TICKS)]
    days = {time.partition(" ")[0] for time in times}
    return times if len(days) > 1 else [time.partition(" ")[2] for time in times]


def _tops_of(story: Story) -> dict[str, float]:
    cpu = [max(each.cpu.values, default=0.0) for each in story.curves]
    memory = [max(each.memory.values, default=0.0) for each in story.curves]
    return {"cpu": max([100.0, *cpu]), "memory": max([1.0, *memory])}


def _options_of(story: Story) -> Iterator[Mapping[str, str]]:
    options = story.records[0].report.get("options")
    for name, each in (options if isinstance(options, dict) else {}).items():
        if isinstance(each, dict):
            origin, source = str(each.get("origin", "")), each.get("source")
            value = each.get("value")
            yield {
                "name": name,
                "value": "" if value is None else str(value),
                "origin": f"{origin}, {source}" if source else origin,
            }


def _stats_of(curve: Curve, kind: str) -> str:
    shown = as_size if kind == "size" else as_percent
    values = curve.values
    if not values:
        return "not known"
    mean = sum(values) / len(values)
    return f"{shown(mean)} on average, {shown(max(values))} at most"


def _x_of(at: float, axis: tuple[float, float]) -> str:
    share = (at - axis[0]) / (axis[1] - axis[0])
    return f"{min(max(share, 0.0), 1.0) * _WIDTH:.1f}"


def _width_of(span: Span, axis: tuple[float, float]) -> str:
    """Return how wide a span is; what takes a moment is seen, too."""
    share = (span.ended_at - span.began_at) / (axis[1] - axis[0])
    return f"{max(_LEAST_WIDTH, min(max(share, 0.0), 1.0) * _WIDTH):.1f}"
