"""Writes ``docs/gallery.md``: each kind of death as torchrun and elrun tell it, from real runs.

    PYTHONPATH=tests/integration python -m gallery.page [WORD…]

With words, those kinds are recorded that have one of them in their names; the others stay.
"""

import os
import re
import shutil
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from gallery.judge import faults
from gallery.kind import Kind
from gallery.kinds import KINDS
from gallery.settle import of_elrun, of_torchrun, settled
from gallery.stage import PATIENCE_S, run, why_not

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "gallery.md"
LAUNCHERS = {
    "elrun": (sys.executable, "-m", "elrun"),
    "torchrun": (sys.executable, "-m", "torch.distributed.run"),
}
TORCHRUN_PATIENCE_S = 60
HEAD = """# A gallery of deaths

`make gallery` has written this page: it runs each program with two workers under torchrun and
under elrun, and shows what stands on the screen at the end. What the workers print themselves is
left out, and what differs from run to run has been replaced. `tests/integration/test_gallery.py`
holds what elrun must say of each kind: on a terminal of 80 columns, with `--tee 3`, in a pipe, and
over two nodes.
[Why a worker died](failures.md) explains how elrun knows.

torchrun is the one of torch {torch}, in a pipe. Most programs wait for ever on rank 0: so a person
sees that elrun names the right rank.
"""


def record(name: str) -> dict[str, list[tuple[int, str]]]:
    """Run a kind under both launchers; return exit codes and settled screens by setting."""
    kind = KINDS[name]
    found = {}
    for who, launcher in LAUNCHERS.items():
        settings = [each for each in kind.settings if each != "tee"]
        if who == "torchrun":
            settings = ["pipe" if "pipe" in settings else "nodes"]
        for setting in settings:
            with tempfile.TemporaryDirectory() as place:
                folder = Path(place).resolve() / "work"
                patience_s = TORCHRUN_PATIENCE_S if who == "torchrun" else PATIENCE_S
                screens = run(kind, setting, folder, launcher, patience_s, own_names=who == "elrun")
                if who == "elrun" and (wrong := faults(kind, setting, screens, "node")):
                    print(f"{name}, {setting}: {'; '.join(wrong)}", file=sys.stderr)
                found[f"{who} {setting}"] = [
                    (screen.code, settled(screen.text, folder)) for screen in screens
                ]
    return found


def chapter(kind: Kind, screens: dict[str, list[tuple[int, str]]]) -> str:
    """Return the page's part about one kind."""
    options = " ".join(kind.before + (kind.after or (kind.program,)))
    parts = [f"## {kind.title}", _block(kind.worker.strip("\n"), _language(kind))]
    for title, text in _shown(screens):
        parts += [title.format(options=options), _block(text)]
    return "\n\n".join(parts)


def _shown(screens):
    theirs = next((key for key in screens if key.startswith("torchrun")), "")
    if theirs:
        code, text = screens[theirs][0]
        end = f"exit code {code}" if code >= 0 else "killed by the kernel, or after a minute"
        yield f"`torchrun {{options}}`, {end}:", of_torchrun(text)
    seen = ""
    for setting, place in (("terminal", "on a terminal"), ("pipe", "in a pipe")):
        for code, text in screens.get(f"elrun {setting}", ()):
            shown = of_elrun(text)
            if shown != seen:
                yield f"`elrun {{options}}`, {place}, exit code {code}:", shown
            seen = shown
    for number, (code, text) in enumerate(screens.get("elrun nodes", ())):
        if code < 0:
            yield f"Over two nodes, on node {number + 1}:", "(killed)"
        else:
            yield f"Over two nodes, on node {number + 1}, exit code {code}:", of_elrun(text)


def _language(kind: Kind) -> str:
    if kind.stage == "g++":
        return "cpp"
    return "python" if kind.program.endswith(".py") else "bash"


def _block(text: str, language: str = "text") -> str:
    return f"```{language}\n{text}\n```"


def renewed(text: str, chapters: dict[str, str]) -> str:
    """Return the page with some chapters anew; the others stay as they are.

    Args:
        text: The page.
        chapters: New ones by their titles.
    """
    titles = [kind.title for kind in KINDS.values()]
    heads = re.compile(rf"^## ({'|'.join(map(re.escape, titles))})$", re.MULTILINE)
    found = list(heads.finditer(text))
    ends = [*(head.start() for head in found[1:]), len(text)]
    kept = {head[1]: text[head.start() : end] for head, end in zip(found, ends, strict=True)}
    parts = [HEAD.format(torch=version("torch").partition("+")[0])]
    parts += [(kept | chapters)[title] for title in titles if title in kept | chapters]
    return "\n\n".join(part.strip("\n") for part in parts).rstrip() + "\n"


def main() -> None:
    words = sys.argv[1:] or [""]
    names = [name for name in KINDS if any(word in name for word in words)]
    possible = [name for name in names if not why_not(KINDS[name])]
    chapters = {}
    with ThreadPoolExecutor(os.cpu_count()) as runs:
        for name, screens in zip(possible, runs.map(record, possible), strict=True):
            chapters[KINDS[name].title] = chapter(KINDS[name], screens)
            print(f"recorded: {name}")
    PAGE.write_text(renewed(PAGE.read_text(), chapters))


if __name__ == "__main__":
    if shutil.which("unshare") is None or os.geteuid() != 0:
        sys.exit("make gallery gives each node a host name of its own, which needs root")
    main()
