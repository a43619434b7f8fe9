"""Shows the recovery times as a table, and writes ``docs/reliability.md``."""

from collections import defaultdict
from statistics import median

from rig.schedule import FAULTS

HEAD = """# Reliability

`make chaos` has written this page. It runs a job of four nodes, each in a network namespace of its
own, and lets one thing after the other go wrong, by a schedule that a seed settles. Then it judges
the job by what the workers have written.

```bash no-run: takes minutes, as root; tests/chaos has its tests
make chaos                     # ten minutes: half with c10d, half with an etcd of three members
make chaos MINUTES=2 SEED=7    # the schedule of this seed
```

It needs root. The agents are real (`--nnodes 3:4`, and three endpoints with `c10d`); with an odd
seed they have a secret. One fault in five is mended only together with the next one. A new agent
takes the place of one that was killed or stopped.

## What must hold

- No two rounds train at once.
- No step is lost but those since the last checkpoint, and none is left out.
- No agent ends but those that the schedule kills or stops. At the end all others succeed.
- No process is left, no file in the temporary folder, and no agent has shown a traceback.

"""

TAIL = """
*No step for* is the longest time without a finished step, from the fault until all nodes are in
step again. It includes the 0.05 s that a step takes. *All back after* is the time from the end of
the fault (the cable is mended, the new agent is started) until all four nodes have made a step
together.

Packets that are lost at random, doubled or out of order are not tried: the machine that wrote this
page has no `netem`. A slow cable with a short queue takes its place. It delays packets, and loses
those that find no room.

[Soak](soak.md) says what an hour of restarts leaves: memory, descriptors, threads, files, and keys
in the store.
"""


def table(recoveries):
    """Return the figures of all backends as a table of Markdown."""
    rows = [
        "| fault | backend | timed | no step for: median | most | all back after: median | most |",
        "|---|---|---|---|---|---|---|",
    ]
    for backend, found in recoveries.items():
        by_kind = defaultdict(list)
        for kind, gap_s, back_s in found:
            by_kind[kind].append((gap_s, back_s))
        for kind in FAULTS[backend]:
            if kind in by_kind:
                gaps, backs = zip(*by_kind[kind], strict=True)
                figures = (median(gaps), max(gaps), median(backs), max(backs))
                cells = " | ".join(f"{seconds:.1f} s" for seconds in figures)
                rows.append(f"| {kind} | {backend} | {len(gaps)} | {cells} |")
    return "\n".join(rows)


def write_page(path, recoveries, count, seed, lasted_s):
    """Write the page.

    Args:
        path: Where.
        recoveries: By backend: the kind of each fault that was timed, and its two times.
        count: How many faults there were.
        seed: The run's.
        lasted_s: How long the run was.
    """
    last_run = (
        f"## The last run\n\nSeed {seed}, {lasted_s / 60:.0f} minutes, on two cores that "
        f"did other work too: the job recovered from all of {count} faults, and no promise was "
        "broken.\n\n"
    )
    path.write_text(HEAD + last_run + table(recoveries) + "\n" + TAIL)
