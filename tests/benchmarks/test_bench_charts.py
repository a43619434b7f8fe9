"""From figures to pictures: SVG that programs can read and people, too."""

import re
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from charts import DARK, LIGHT, WIDTH, Bar, Series, bars, lines
from pictures import LAUNCHERS, STAGES, STARTS, all_of
from rows import Row

SVG = "{http://www.w3.org/2000/svg}"
TWO_BARS = [("P1", [Bar("elrun", [("elrun", 1.0)], "1 s"), Bar("it", [("torchrun", 4.0)], "4 s")])]


def shapes(picture, tag, colour=None):
    """Return the elements of a kind, of one colour."""
    found = ET.fromstring(picture).iter(SVG + tag)
    return [it for it in found if colour is None or colour in it.get("class", "").split()]


def words(picture):
    return [it.text for it in shapes(picture, "text")]


def test_bars_are_as_long_as_their_figures():
    """Four times the figure, four times the bar."""
    picture = bars("starts", TWO_BARS)

    (short,) = shapes(picture, "rect", "elrun")
    (long,) = shapes(picture, "rect", "torchrun")
    assert 4.0 == pytest.approx(float(long.get("width")) / float(short.get("width")), rel=0.01)
    assert ["starts", "P1", "elrun", "1 s", "it", "4 s"] == words(picture)


def test_parts_of_a_bar_follow_each_other():
    """Where one stage ends the next one begins."""
    picture = bars("stages", [("", [Bar("elrun", [("agent", 1.0), ("torch", 2.0)], "3 s")])])

    (agent,), (torch,) = shapes(picture, "rect", "agent"), shapes(picture, "rect", "torch")
    end = float(agent.get("x")) + float(agent.get("width"))
    assert float(torch.get("x")) == pytest.approx(end, abs=0.2)


def test_a_tenfold_is_one_step_on_both_axes():
    """Sixteen nodes and a thousand, milliseconds and minutes go into one picture."""
    picture = lines(
        "rounds", "nodes", "seconds", [Series("a", "elrun", [(1, 1), (10, 10), (100, 100)])]
    )

    points = [(float(it.get("cx")), float(it.get("cy"))) for it in shapes(picture, "circle")]
    steps = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(points)]
    assert steps[0] == pytest.approx(steps[1], abs=0.2)
    assert steps[0][0] > 0 > steps[0][1]


def test_names_of_lines_do_not_cover_each_other():
    """Also where the lines end in the same place."""
    same = [Series(name, "elrun", [(16, 0.1), (64, 0.2)]) for name in ("one", "two", "three")]

    picture = lines("rounds", "nodes", "seconds", same)

    heights = [float(it.get("y")) for it in shapes(picture, "text", "elrun")]
    assert all(abs(a - b) >= 13 for a, b in pairwise(sorted(heights)))


def test_what_was_not_reached_is_drawn_as_such():
    """A point at the limit would look like a figure."""
    picture = lines(
        "rounds", "nodes", "s", [Series("it", "torchrun", [(64, 2)], [(256, 60, "not in 60 s")])]
    )

    assert 1 == len(shapes(picture, "circle"))
    assert 1 == len(shapes(picture, "polygon", "torchrun"))
    assert "not in 60 s" in words(picture)


def test_nothing_measured_is_a_picture_all_the_same():
    """No scale can be made of no figures."""
    assert "not measured" in words(lines("rounds", "nodes", "seconds", []))
    assert ["starts"] == words(bars("starts", []))


def test_words_with_signs_of_markup_stay_words():
    """A name is never read as part of the picture."""
    assert "a < b & c" in words(bars("a < b & c", TWO_BARS))


@pytest.mark.parametrize("scheme", [LIGHT, DARK])
@pytest.mark.parametrize("ink", ["ink", "pale", "elrun", "torchrun", "preloaded", "etcd-v3"])
def test_text_stands_out_from_its_ground(scheme, ink):
    """A contrast of 4.5, which is what the web's rules for readable text ask for."""
    lighter, darker = sorted((luminance(scheme[ink]), luminance(scheme["ground"])), reverse=True)

    assert (lighter + 0.05) / (darker + 0.05) >= 4.5


def luminance(colour):
    """Return how bright a colour is, from 0 to 1, as WCAG 2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return sum(c * share for c, share in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def samples_of(keys, launchers):
    rows = {key: Row(key, "") for key in keys}
    return rows, {key: {name: [0.5, 0.5] for name in launchers} for key in keys}


def test_a_run_of_all_rows_gives_three_charts_that_fit():
    """No bar leaves the picture, and each colour that is drawn is one that both schemes know."""
    keys = [*STARTS, *STAGES, "P6 64", "P6 1024"]
    pictures = all_of(*samples_of(keys, LAUNCHERS))

    assert {"starts.svg", "stages.svg", "rounds.svg"} == pictures.keys()
    for picture in pictures.values():
        for box in shapes(picture, "rect"):
            assert float(box.get("x", 0)) + float(box.get("width")) <= WIDTH
        used = set(re.findall(r'<(?:rect|circle|polygon) class="([\w-]+)"', picture))
        assert used <= LIGHT.keys() == DARK.keys()


def test_a_run_of_some_rows_gives_the_charts_that_it_is_enough_for():
    """`--only P6` draws one."""
    assert ["rounds.svg"] == list(all_of(*samples_of(["P6 64"], ["elrun"])))


def test_a_launcher_that_failed_is_left_out_of_the_bars():
    """Its failure stands in the table; a bar would need a length."""
    rows, samples = samples_of([*STARTS], LAUNCHERS)
    samples["P3"]["torchrun"] = ["not in 15 s"]

    picture = all_of(rows, samples)["starts.svg"]

    assert 3 == len(shapes(picture, "rect", "torchrun"))
    compared = [text for text in words(picture) if text.endswith(" times faster")]
    assert 2 + 2 + 0 + 2 == len(compared)  # P3 has nothing to be compared with
