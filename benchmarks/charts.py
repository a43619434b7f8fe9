"""Draws charts as SVG, as text: pure functions from numbers to pictures.

Each picture stands on a ground of its own and follows the reader's light or dark scheme, ground and
ink together, so it can be read on any page. Colours go by the name of what is drawn.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple
from xml.sax.saxutils import escape

WIDTH = 760
MARGIN = 24
LINE = 20  # from one line of text to the next
BAR = 18
NAMES = 110  # width of the column in which bars have their names
VALUES = 190  # room for what stands behind a bar
_LEGENDS = 3  # in a line

LIGHT = {
    "ground": "#ffffff",
    "ink": "#1f2328",
    "pale": "#59636e",
    "grid": "#d1d9e0",
    "elrun": "#0969da",
    "torchrun": "#bc4c00",
    "preloaded": "#1a7f37",
    "floor": "#818b98",
    "memory": "#1a7f37",
    "etcd-v3": "#8250df",
    "agent": "#54aeff",
    "torch": "#d4a72c",
    "group": "#8250df",
}
DARK = {
    "ground": "#0d1117",
    "ink": "#f0f6fc",
    "pale": "#9198a1",
    "grid": "#3d444d",
    "elrun": "#4493f8",
    "torchrun": "#f0883e",
    "preloaded": "#3fb950",
    "floor": "#9198a1",
    "memory": "#3fb950",
    "etcd-v3": "#ab7df8",
    "agent": "#79c0ff",
    "torch": "#d29922",
    "group": "#ab7df8",
}


class Bar(NamedTuple):
    """A horizontal bar.

    Args:
        name: What stands before it.
        parts: Colour and length of its parts, from the left.
        note: What stands behind it.
    """

    name: str
    parts: Sequence[tuple[str, float]]
    note: str

    @property
    def length(self) -> float:
        return sum(length for _, length in self.parts)


class Series(NamedTuple):
    """A line through points.

    Args:
        name: What stands at its end.
        colour: Its colour.
        points: Its points, from left to right.
        beyond: A point that was not reached, and the words for it.
    """

    name: str
    colour: str
    points: Sequence[tuple[float, float]]
    beyond: Sequence[tuple[float, float, str]] = ()


def bars(
    title: str,
    groups: Sequence[tuple[str, Sequence[Bar]]],
    legend: Sequence[tuple[str, str]] = (),
) -> str:
    """Return bars, group by group, all on one scale.

    Args:
        title: Of the picture.
        groups: Titles and bars.
        legend: Colours and what they mean, where the bars' names don't tell.
    """
    longest = max((bar.length for _, group in groups for bar in group), default=1.0)
    scale = (WIDTH - 2 * MARGIN - NAMES - VALUES) / (longest or 1.0)
    drawn: list[str] = []
    y = 2.0 * MARGIN + LINE
    for number, (colour, meaning) in enumerate(legend):
        x = MARGIN + number % _LEGENDS * (WIDTH - 2 * MARGIN) / _LEGENDS
        drawn += [_box(x, y - 11, 12, 12, colour), _text(x + 18, y, meaning, "pale")]
        if number % _LEGENDS == _LEGENDS - 1 or number == len(legend) - 1:
            y += LINE
    y += LINE / 2 if legend else 0
    for name, group in groups:
        drawn.append(_text(MARGIN, y, name, "strong"))
        y += LINE / 2
        for bar in group:
            drawn.append(_bar(bar, y, scale))
            y += BAR + 6
        y += 1.5 * LINE
    return _picture(title, y - LINE / 2, drawn)


def lines(title: str, across: str, up: str, series: Sequence[Series]) -> str:
    """Return lines over two logarithmic axes.

    Args:
        title: Of the picture.
        across: What the horizontal axis shows; it is marked where points are.
        up: What the vertical axis shows; it is marked at powers of ten.
        series: The lines.
    """
    places = [
        *(p for one in series for p in one.points),
        *(b[:2] for s in series for b in s.beyond),
    ]
    if not places:
        return _picture(title, 4 * MARGIN, [_text(MARGIN, 3 * MARGIN, "not measured", "pale")])
    left, right, top, bottom = MARGIN + 56, WIDTH - VALUES, 3.5 * MARGIN, 400
    xs = sorted({x for x, _ in places})
    low = math.floor(math.log10(min(y for _, y in places)))
    high = max(low + 1, math.ceil(math.log10(max(y for _, y in places))))
    to_x = _scale(math.log10(xs[0]), math.log10(xs[-1]), left, right)
    to_y = _scale(low, high, bottom, top)
    drawn = [_text(MARGIN, top - LINE, up, "pale")]
    for power in range(low, high + 1):
        y = to_y(power)
        drawn.append(_rule(left, y, right, y))
        drawn.append(_text(left - 8, y + 4, f"{10.0**power:g}", "pale", anchor="end"))
    for x in xs:
        drawn.append(_rule(to_x(math.log10(x)), top, to_x(math.log10(x)), bottom))
        drawn.append(_text(to_x(math.log10(x)), bottom + LINE, f"{x:,g}", "pale", anchor="middle"))
    drawn.append(_text((left + right) / 2, bottom + 2 * LINE, across, "pale", anchor="middle"))
    for one, height in zip(series, _apart([_end(one, to_y) for one in series]), strict=True):
        drawn += _line(one, to_x, to_y, height, right)
    return _picture(title, bottom + 3 * LINE, drawn)


def _bar(bar: Bar, y: float, scale: float) -> str:
    x = float(MARGIN + NAMES)
    middle = y + BAR - 4
    drawn = [_text(x - 10, middle, bar.name, "", anchor="end")]
    for colour, length in bar.parts:
        drawn.append(_box(x, y, max(1.0, length * scale), BAR, colour))
        x += length * scale
    return "".join([*drawn, _text(x + 8, middle, bar.note, "")])


def _line(
    series: Series, to_x: "_Scale", to_y: "_Scale", name_at: float, right: float
) -> list[str]:
    points = [(to_x(math.log10(x)), to_y(math.log10(y))) for x, y in series.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    drawn = [f'<polyline class="line {series.colour}" points="{path}"/>'] if points else []
    drawn += [
        f'<circle class="{series.colour}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>' for x, y in points
    ]
    for x, y, words in series.beyond:
        at_x, at_y = to_x(math.log10(x)), to_y(math.log10(y))
        arrow = f"{at_x - 6:.1f},{at_y + 8:.1f} {at_x + 6:.1f},{at_y + 8:.1f} {at_x:.1f},{at_y:.1f}"
        drawn.append(f'<polygon class="{series.colour}" points="{arrow}"/>')
        drawn.append(_text(at_x, at_y - 6, words, series.colour, anchor="middle"))
    last = points[-1][0] if points else right
    drawn.append(_text(max(last, right) + 10, name_at, series.name, f"{series.colour} strong"))
    return drawn


def _end(series: Series, to_y: "_Scale") -> float:
    ends = [y for _, y in series.points] or [y for _, y, _ in series.beyond] or [1.0]
    return to_y(math.log10(ends[-1])) + 4


def _apart(heights: Sequence[float]) -> list[float]:
    """Return heights of texts that don't cover each other, in the order given."""
    placed = list(heights)
    below = -math.inf
    for number in sorted(range(len(placed)), key=placed.__getitem__):
        below = placed[number] = max(placed[number], below + LINE)
    return placed


class _Scale(NamedTuple):
    from_: float
    factor: float
    start: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.from_) * self.factor


def _scale(from_: float, to: float, start: float, end: float) -> _Scale:
    return _Scale(from_, (end - start) / ((to - from_) or 1.0), start)


def _text(x: float, y: float, text: str, kind: str, anchor: str = "start") -> str:
    return (
        f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
    )


def _box(x: float, y: float, width: float, height: float, colour: str) -> str:
    size = f'width="{width:.1f}" height="{height:.1f}"'
    return f'<rect class="{colour}" x="{x:.1f}" y="{y:.1f}" {size}/>'


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="grid rule" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _picture(title: str, height: float, drawn: Iterable[str]) -> str:
    size = f'width="{WIDTH}" height="{height:.0f}" viewBox="0 0 {WIDTH} {height:.0f}"'
    body = "\n".join(drawn)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">\n'
        f"<title>{escape(title)}</title>\n<style>\n{_style()}</style>\n"
        f'<rect class="ground" width="{WIDTH}" height="{height:.0f}" rx="8"/>\n'
        f"{_text(MARGIN, MARGIN + 14, title, 'title')}\n{body}\n</svg>\n"
    )


def _style() -> str:
    # No variables: some programs that show SVG know classes only.
    return (
        "text { font: 13px system-ui, sans-serif }\n"
        ".title { font-size: 16px; font-weight: 600 }\n"
        ".strong { font-weight: 600 }\n"
        f"{_colours(LIGHT)}@media (prefers-color-scheme: dark) {{\n{_colours(DARK)}}}\n"
        ".line { fill: none; stroke-width: 2.5 }\n"
    )


def _colours(colours: Mapping[str, str]) -> str:
    return f"text {{ fill: {colours['ink']} }}\n" + "".join(
        f".{name} {{ fill: {colour} }}\n.line.{name}, .{name}.rule {{ stroke: {colour} }}\n"
        for name, colour in colours.items()
    )
