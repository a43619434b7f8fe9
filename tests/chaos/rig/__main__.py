"""Chaos with real agents: a seeded schedule of faults, and a judge after it.

    PYTHONPATH=tests/chaos:tests/integration python -m rig [--minutes M] [--seed N] [--backend B]

Needs root and network namespaces.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from network_kit import why_no_namespaces
from rig import faults
from rig.judge import verdicts
from rig.page import table, write_page
from rig.schedule import FAULTS, NODES, schedule
from rig.stage import HistoryError, Stage, longest_gap

UNAVAILABLE = 69
"""The exit code where there can be no network namespaces."""
RECOVERS_WITHIN_S = 90
"""A job that has not recovered by then never will; the rest is for a busy machine."""


class History:
    """One job that goes through what the seed has for it.

    Args:
        stage: Where it takes place.
        seed: Settles the schedule.
    """

    def __init__(self, stage, seed):
        self._stage = stage
        self._seed = seed
        # What is wrong now: when it began, and for each host what mends it.
        self._began_at = None
        self._mends = {}
        self.faults = 0
        self.recoveries = []
        self.broken = []

    def run(self, seconds):
        """Let things happen for so long, end the job, and judge it."""
        stage = self._stage
        try:
            for node in range(NODES):
                stage.start_agent(node)
            stage.await_all(stage.now(), RECOVERS_WITHIN_S)
            until = stage.now() + seconds
            for fault in schedule(self._seed, stage.backend):
                if stage.now() >= until:
                    break
                self._suffer(fault)
        except HistoryError as error:
            self.broken.append(str(error))
        try:
            self._mend()
            stage.await_all(stage.now(), RECOVERS_WITHIN_S)
        except HistoryError as error:
            self.broken.append(str(error))
        endings = stage.finish()
        self.broken += verdicts(stage.lines, endings, stage.left())

    def _suffer(self, fault):
        stage = self._stage
        stage.let_pass(fault.peace_s)
        began_at = stage.now()
        done = faults.do(stage, fault, self._mends)
        if done is None:  # it concerns what is broken already
            self._recover()
            return
        host, mend = done
        self._tell(f"{host.name}: {fault.kind} ({fault.lasts_s:g} s)")
        self.faults += 1
        self._mends[host] = mend
        self._began_at = self._began_at or began_at
        stage.let_pass(fault.lasts_s)
        if fault.overlaps and len(self._mends) == 1:
            return
        self._recover(fault.kind)

    def _recover(self, kind=""):
        stage = self._stage
        is_alone = len(self._mends) == 1  # else it is not known which fault took how long
        self._mend()
        mended_at = stage.now()
        back_at = stage.await_all(mended_at, RECOVERS_WITHIN_S)
        gap_s = longest_gap(stage.lines, self._began_at, back_at)
        back_s = back_at - mended_at
        self._tell(f"    no step for {gap_s:.2f} s at most; all are in step after {back_s:.2f} s")
        self._began_at = None
        if is_alone and kind:
            self.recoveries.append((kind, gap_s, back_s))

    def _mend(self):
        while self._mends:
            self._mends.popitem()[1]()

    def _tell(self, what):
        say(f"{self._stage.now() - self._stage.began_at:7.2f} s  {what}")


def say(line):
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def try_backend(backend, seed, seconds, program_options):
    """Run a history over a backend; return it."""
    folder = Path(tempfile.mkdtemp(prefix="elrun-chaos-"))
    say(f"{backend}, seed {seed}:")
    stage = Stage(folder, backend, program_options, secret="open sesame" * (seed % 2))
    history = History(stage, seed)
    try:
        history.run(seconds)
    finally:
        stage.close()
    if history.broken:
        (folder / "broken.json").write_text(json.dumps(history.broken, indent=1))
        say(f"What the agents said, and the journal, are in {folder}")
    else:
        shutil.rmtree(folder)
    for sentence in history.broken:
        say(f"BROKEN: {sentence}")
    return history


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--backend", choices=list(FAULTS), action="append")
    parser.add_argument("--gloo", action="store_true", help="the workers meet by gloo")
    parser.add_argument("--page", type=Path, help="write the figures there")
    options = parser.parse_args()
    if reason := why_no_namespaces():
        sys.stderr.write(f"{reason}\n")
        sys.exit(UNAVAILABLE)
    seed = random.SystemRandom().randrange(1 << 16) if options.seed is None else options.seed
    backends = options.backend or list(FAULTS)
    began_at = time.monotonic()
    histories = {
        backend: try_backend(
            backend, seed, options.minutes * 60 / len(backends), ["--gloo"] * options.gloo
        )
        for backend in backends
    }
    recoveries = {backend: history.recoveries for backend, history in histories.items()}
    say(table(recoveries))
    broken = [sentence for history in histories.values() for sentence in history.broken]
    count = sum(history.faults for history in histories.values())
    if options.page and not broken:
        write_page(options.page, recoveries, count, seed, time.monotonic() - began_at)
    sys.exit(f"seed {seed}: {len(broken)} promises broken" if broken else 0)


main()
