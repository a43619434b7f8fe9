"""The page of ``elrun report``, in a real browser."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from browser_kit import Browser, needs_browser
from job_kit import until

pytestmark = [pytest.mark.integration, needs_browser]

START = 1_800_000_000.0
HOSTILE = (
    "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    "</pre></style>'\"&amp;<!-- ]]> {{ 7 * 7 }} {% raw %}\x1b[31m\0\x07\u202e"
)
FAILS_ONCE = """
import os, sys
print("a last word of rank", os.environ["RANK"], file=sys.stderr, flush=True)
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1":
    raise ValueError("no luck")
"""


@pytest.fixture(name="browser", scope="module")
def _browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def report(*words, **variables):
    """Run ``elrun report``."""
    command = [sys.executable, "-m", "elrun", "report", *map(str, words)]
    environ = {**os.environ, **variables}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    return done.stdout


def shown(browser, page):
    """Open a page, forget what was before, and return the browser."""
    browser.events.clear()
    browser.open(page)
    return browser


def made_up(folder, *, ranks=2, hours=0.1, log="", message="no luck", nodes=1):
    """Write what a run of one failure would leave, and return its folders."""
    folders = []
    for node in range(nodes):
        run = folder / f"job_n{node}_{node}.run"
        run.mkdir(parents=True)
        logs = folder / "logs" / "attempt_0" / "1"
        logs.mkdir(parents=True, exist_ok=True)
        (logs / "stderr.log").write_text(log, errors="surrogateescape")
        own = range(node * ranks // nodes, (node + 1) * ranks // nodes)
        end = START + hours * 3_600
        (run / "report.json").write_text(
            json.dumps(_report(node, own, end, str(logs / "stderr.log"), message))
        )
        with open(run / "history.jsonl", "w", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in _history(own, end))
        folders.append(run)
    return folders


def _moment(at):
    text = subprocess.run(
        ["date", "-u", "-d", f"@{at:.3f}", "+%Y-%m-%dT%H:%M:%S.000+00:00"],
        capture_output=True,
        text=True,
        check=True,
    )
    return text.stdout.strip()


def _report(node, own, end, file, message):
    root = {
        "global_rank": 1,
        "local_rank": 1,
        "node": "n0",
        "pid": 77,
        "exitcode": 1,
        "timestamp": int(START),
        "message": message,
        "traceback": f"Traceback (most recent call last):\n{message}",
        "file": file,
        "kernel_words": message,
        "exception": message,
        "says_why": True,
        "bases": [],
        "cause": "",
        "is_consequence": False,
    }
    failure = {
        "rank": 1,
        "local_rank": 1,
        "pid": 77,
        "exitcode": 1,
        "message": message,
        "exception": message,
        "error_file": file,
    }
    attempt = {
        "round": 0,
        "group_rank": node,
        "group_world_size": 1,
        "world_size": len(own),
        "restarts_before": 0,
        "began_at": _moment(START),
        "ended_at": _moment(end),
        "duration_s": 1.0,
        "workers": [{"rank": rank, "local_rank": rank - own[0], "pid": 9} for rank in own],
        "end": {
            "verdict": "worker failed",
            "by_group_rank": 0,
            "reason": message,
            "then": "fail",
            "restart_delay_s": None,
            "doubt": message,
            "no_restart": message,
            "root": root,
        },
        "failures": [failure] if node == 0 else [],
    }
    rank_ends = [
        {
            "global_rank": rank,
            "local_rank": rank,
            "node": "n0",
            "pid": 9,
            "exitcode": -15,
            "state": "failed" if rank == 1 else "stopped by elrun",
            "after_s": 0.5,
            "file": file,
            "words": message,
        }
        for rank in own
    ]
    stacks = [
        {"rank": rank, "pid": 9, "place": message, "silence": "", "stack": message} for rank in own
    ]
    return {
        "version": 1,
        "elrun": "0.1.0",
        "run_id": message,
        "name": message,
        "config": {"role": message},
        "options": {"role": {"value": message, "origin": "environment", "source": message}},
        "node": f"n{node}",
        "agent_pid": 5 + node,
        "state": "failed",
        "exit_code": 1,
        "reason": message,
        "began_at": _moment(START),
        "ended_at": _moment(end),
        "duration_s": 1.0,
        "attempts_left_out": 0,
        "attempts": [attempt],
        "root": root,
        "ranks": rank_ends,
        "missing_nodes": [],
        "places": {"at": _moment(end), "why": message, "ranks": stacks},
    }


def _history(own, end):
    yield {"kind": "event", "at": START, "event": "running", "ranks": list(own)}
    at, number = START, 0
    step = 60.0 if end - START > 3_600 else 10.0  # a day is thinned by then
    while (at := at + step) < end:
        number += 1
        uses = {str(rank): [9.7 * number, (rank + 1) << 28, 100 * number] for rank in own}
        yield {"kind": "sample", "at": at, "ranks": uses, "gpus": [[50, 1 << 30]] * len(own)}
    yield {"kind": "event", "at": end, "event": "ended", "then": "fail", "reason": "x"}


def test_a_real_run_with_a_restart_is_shown(elrun, script, tmp_path, browser):
    """Without a complaint in the console, without a request; a link leads to the log."""
    env = {"ELRUN_RUN_DIR": str(tmp_path / "runs")}
    options = ("--standalone", "--nproc-per-node", 2, "--max-restarts", 1, "--rdzv-id", "mine")
    code, _, err = elrun(
        *options, "--redirects", 3, "--log-dir", tmp_path / "logs", script(FAILS_ONCE), env=env
    ).finish()
    assert 0 == code, err
    report("mine", "-o", tmp_path / "r.html", **env)

    shown(browser, tmp_path / "r.html")

    assert "script.py (run mine): succeeded" == browser.ask("document.title")
    assert "ValueError: no luck" in browser.ask("document.querySelector('article h3').textContent")
    browser.ask("document.querySelector('a.to-log').click()")
    assert browser.ask("new Promise(done => setTimeout(done, 0)) && true")
    seen = "document.querySelector('article details pre')"
    assert browser.ask(f"{seen}.checkVisibility()")
    assert "a last word of rank 1" in browser.ask(f"{seen}.textContent")
    assert browser.ask(f"document.activeElement === {seen}")
    assert [] == browser.complaints
    assert [(tmp_path / "r.html").as_uri()] == [url.partition("#")[0] for url in browser.requests][
        :1
    ]
    assert 1 == len({url.partition("#")[0] for url in browser.requests})


@pytest.mark.parametrize("where", ["report", "log"])
def test_hostile_text_stays_text(tmp_path, browser, where):
    """Whatever a worker prints or raises; whatever another node sends."""
    text = HOSTILE if where == "report" else "no luck"
    log = f"{HOSTILE}\n{'<b>x' * (10 << 18)}\n{HOSTILE}\n" if where == "log" else ""
    (folder,) = made_up(tmp_path, message=text, log=log)
    report(folder, "-o", tmp_path / "r.html")

    shown(browser, tmp_path / "r.html")

    assert "taken" != browser.ask("document.title")
    counts = "['script', 'img', 'b', 'style'].map(n => document.querySelectorAll(n).length)"
    assert [1, 0, 0, 1] == browser.ask(counts)
    found = browser.ask(
        "document.querySelector('article')."
        + ("textContent" if where == "report" else "querySelector('details pre').textContent")
    )
    assert "</script><script>document.title='taken'</script>" in found
    assert "{{ 7 * 7 }} {% raw %}\\x1b[31m\\x00\\x07\\u202e" in found
    assert [] == browser.complaints
    assert 1 == len(browser.requests)


def test_ranks_are_filtered(tmp_path, browser):
    """By their numbers and ranges; a link to what is hidden shows it again."""
    (folder,) = made_up(tmp_path, ranks=12)
    report(folder, "-o", tmp_path / "r.html")
    shown(browser, tmp_path / "r.html")
    rows = (
        "[...document.querySelectorAll('#ends ~ div tr[data-rank]')]"
        ".filter(e => e.checkVisibility()).map(e => Number(e.dataset.rank))"
    )

    def typed(text):
        browser.ask(f"document.getElementById('ranks').value = {json.dumps(text)}")
        browser.ask("document.getElementById('ranks').dispatchEvent(new Event('input'))")
        told = browser.ask("document.getElementById('shown').textContent")
        return browser.ask(rows), told

    assert (list(range(12)), "12 of 12 ranks") == typed("")
    assert ([0, 2, 3, 11], "4 of 12 ranks") == typed("0, 2-3,11")
    assert ([0, 2, 3, 11], "Give ranks such as 0-3,7") == typed("zero")
    assert "true" == browser.ask("document.getElementById('ranks').getAttribute('aria-invalid')")
    assert ([5], "1 of 12 ranks") == typed("5")
    assert not browser.ask("document.querySelector('article').checkVisibility()")
    failure = browser.ask("document.querySelector('article').id")
    browser.ask(f"location.hash = '#{failure}'")
    browser.ask("new Promise(done => setTimeout(done, 0)) && true")
    assert browser.ask("document.querySelector('article').checkVisibility()")
    assert [] == browser.complaints


def test_it_is_read_on_a_phone_and_in_the_dark(tmp_path):
    """Nothing is wider than the screen, and the paper is dark."""
    (folder,) = made_up(tmp_path, ranks=3, log="x" * 5_000, message="x" * 900)
    report(folder, "-o", tmp_path / "r.html")
    browser = Browser(tmp_path / "profile", (360, 640), is_dark=True)
    try:
        browser.open(tmp_path / "r.html")
        width = browser.ask("document.documentElement.scrollWidth")
        paper = browser.ask("getComputedStyle(document.body).backgroundColor")
        ink = browser.ask("getComputedStyle(document.body).color")
        complaints = browser.complaints
    finally:
        browser.close()

    assert 360 >= width
    assert ("rgb(13, 17, 23)", "rgb(230, 237, 243)") == (paper, ink)
    assert [] == complaints


def test_it_is_used_by_keyboard_and_by_screen_readers(tmp_path, browser):
    """Everything has a name, headings have an order, and Tab leads everywhere."""
    folders = made_up(tmp_path, ranks=4, nodes=2, log="a log")
    report(*folders, "-o", tmp_path / "r.html")
    shown(browser, tmp_path / "r.html")

    for what in (
        "svg[role=img]:not([aria-label])",
        "svg:not([role=img]):not([aria-hidden])",
        "table:not(:has(> caption))",
        "th:not([scope])",
        "section:not([aria-labelledby])",
        "pre:not([aria-label])",
        "pre:not([tabindex])",
        "pre:not([role])",
        ".wide:not([tabindex])",  # on a phone it scrolls
        "th:has(> [aria-hidden]:only-child)",
        "input:not([id])",
    ):
        assert 0 == browser.ask(f"document.querySelectorAll({json.dumps(what)}).length"), what
    ids = browser.ask("[...document.querySelectorAll('[id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))
    targets = browser.ask(
        "[...document.querySelectorAll('a[href^=\"#\"]')].map(e => e.getAttribute('href').slice(1))"
        ".concat([...document.querySelectorAll('[aria-labelledby]')]"
        ".map(e => e.getAttribute('aria-labelledby')))"
    )
    assert set(targets) <= set(ids)
    levels = browser.ask("[...document.querySelectorAll('h1,h2,h3,h4')].map(e => +e.tagName[1])")
    assert 1 == levels[0]
    assert all(level - before <= 1 for before, level in itertools.pairwise(levels))
    browser.press("Tab")
    assert "Skip to the content" == browser.ask("document.activeElement.textContent")
    browser.press("Enter", "\r")
    browser.press("Tab")
    assert browser.ask("document.getElementById('main').contains(document.activeElement)")


def test_a_day_of_64_ranks_is_a_small_page(tmp_path, browser):
    """Its samples are thinned once more."""
    folders = made_up(tmp_path, ranks=64, hours=24, nodes=8)
    report(*folders, "-o", tmp_path / "r.html")

    shown(browser, tmp_path / "r.html")

    assert (tmp_path / "r.html").stat().st_size < 5_000_000
    assert 64 == browser.ask("document.querySelectorAll('#usage ~ div tr[data-rank]').length")
    assert [] == browser.complaints


def test_what_is_off_the_screen_is_laid_out_when_it_is_scrolled_to(tmp_path, browser):
    """A phone takes half of the time to open a page of 64 ranks."""
    report(*made_up(tmp_path, ranks=64), "-o", tmp_path / "r.html")
    table = "document.querySelector('#configuration ~ div table')"
    is_laid_out = f"{table}.checkVisibility({{contentVisibilityAuto: true}})"

    shown(browser, tmp_path / "r.html")
    at_the_top = browser.ask(is_laid_out)
    browser.ask("location.hash = '#configuration'")
    until(lambda: browser.ask(is_laid_out))

    assert not at_the_top
    assert [] == browser.complaints


def test_without_scripts_all_is_there(tmp_path, browser):
    """Only the filter needs one."""
    (folder,) = made_up(tmp_path)
    report(folder, "-o", tmp_path / "r.html")
    browser.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        shown(browser, tmp_path / "r.html")
        seen = browser.ask("document.querySelector('article').checkVisibility()")
        has_filter = browser.ask("document.getElementById('ranks').checkVisibility()")
    finally:
        browser.call("Emulation.setScriptExecutionDisabled", value=False)

    assert (True, False) == (seen, has_filter)


def test_both_schemes_have_enough_contrast():
    """WCAG 2.2 asks for 4.5 between text and paper."""
    css = (Path(__file__).parents[2] / "launcher" / "report" / "page.css").read_text()
    light, dark = css.split("@media (prefers-color-scheme: dark)")[0], css.split("dark)")[1]
    for part in (light, dark.split("* {")[0]):
        colours = {
            name.strip(): value.strip()
            for name, _, value in (
                each.partition(":") for each in part.partition("{")[2].replace("{", ";").split(";")
            )
            if name.strip().startswith("--")
        }
        for paper in ("--paper", "--card"):
            for ink in ("--ink", "--soft", "--link", "--bad"):
                assert _contrast(colours[ink], colours[paper]) >= 4.5, (ink, paper)


def _contrast(one, other):
    def light(colour):
        digits = colour.lstrip("#")
        digits = "".join(2 * each for each in digits) if len(digits) == 3 else digits
        parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
        red, green, blue = (
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        )
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)
