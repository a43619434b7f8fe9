"""The rows of the table, in its order, and what fills each.

Their names are those of the goals: P1 starts an empty script, P3 restarts one with torch.
"""

import sys
from functools import partial

import alone
import many
import nodes
import restarts
import rounds
import simulations
import starts
from jobs import AUTO, ELRUN, FLOOR, PRELOADED, TORCHRUN, TORCHRUN_OWN_STORE
from rows import Case, Launcher, Limit, Row

BOTH = (ELRUN, TORCHRUN)
NAMED = Launcher("preloaded", (*ELRUN.program, "--preload", "torch,torch._dynamo"))
RARELY = Limit(3, 1)
ONCE = Limit(1, 1)
FULL_ONLY = Limit(1, 0)
NEVER = Limit(0, 0)


def _importing(name: str, module: str) -> Launcher:
    return Launcher(name, (sys.executable, "-c", f"import {module}"))


IMPORTS = (
    _importing("elrun", "elrun.__main__, elrun.launcher.cli"),
    _importing("torchrun", "torch.distributed.run"),
    _importing("floor", "click"),
)


def _meeting(size: int) -> Case:
    """Make the case of one size; what takes a minute or more, or never ends, is run once."""
    usual = RARELY if size in {64, 1024} else Limit(3, 0)
    today = {64: RARELY, 256: FULL_ONLY, 1024: NEVER}.get(size, Limit(3, 0))
    key = f"P6 {size}"
    return Case(
        (Row(key, f"a round of {size:,} nodes, c10d, s"), *_details_of_meeting(key)),
        partial(rounds.meet, key, size),
        (rounds.C10D, rounds.MEMORY, rounds.TODAY),
        usual,
        {"torchrun": today},
    )


def _meeting_over_etcd(size: int) -> Case:
    """Make the same over a real etcd; the first table has the sizes that have a goal."""
    key, goal = f"P6 etcd-v3 {size}", {256: "1 s", 1024: "5 s"}.get(size, "")
    row = Row(key, f"a round of {size:,} nodes, etcd-v3, s", goal, is_detail=not goal)
    limit = {64: RARELY, 1024: FULL_ONLY}.get(size, Limit(3, 0))
    return Case(
        (row, *_details_of_meeting(key)), partial(rounds.meet, key, size), (rounds.ETCD,), limit
    )


def _details_of_meeting(key: str) -> tuple[Row, ...]:
    return (
        Row(f"{key} operations", "calls a node", digits=1, is_detail=True),
        Row(f"{key} bytes", "bytes a node", digits=0, is_detail=True),
    )


def _crowd(size: int) -> Case:
    """Make the case of one real server and light clients, which compute nothing."""
    what = f"a round of {size:,} light clients"
    goals = {1024: "0.3 s", 10_000: "3 s"}
    return Case(
        (
            Row(f"P6-light {size}", f"{what} in one process, s", goals[size], 2),
            Row(f"P6-light {size} CPU", "the same: the server's CPU, s", "", 2),
            Row(f"P6-light {size} MB", "the same: the server's memory, MB", "100 MB", 0),
        ),
        partial(rounds.crowd, size),
        (rounds.CROWD,),
        RARELY,
    )


def _crowd_over_etcd(size: int) -> Case:
    """Make the same over a real etcd, which does all the work."""
    key, goal = f"P6-light etcd-v3 {size}", {256: "1 s", 1024: "5 s"}[size]
    return Case(
        (
            Row(key, f"a round of {size:,} light clients in one process, etcd-v3, s", goal, 2),
            Row(f"{key} CPU", "the same: etcd's CPU, s", "", 2),
        ),
        partial(rounds.crowd_over_etcd, key, size),
        (rounds.ETCD_CROWD,),
        RARELY,
    )


def _many(workers: int, limit: Limit) -> Case:
    """Make the case of one size; the floor is a loop in C, and preloaded is json."""
    goals = {64: "1.15 times the floor", 256: "1.15 times the floor; preloaded 1.3 s"}
    return Case(
        (
            Row(f"P14 {workers}", f"{workers} workers of an empty script, s", goals[workers], 2),
            Row(f"P14 {workers} MB", "the same: the agent's memory at its peak, MB", digits=1),
        ),
        partial(many.start_many, workers),
        (ELRUN, many.PRELOADED, TORCHRUN, FLOOR),
        limit,
    )


def _forks(workers: int, limit: Limit) -> Case:
    """Make the case of the floor of preloaded workers: a loop that forks."""
    work = f"{workers} processes that a bare loop forks, with json loaded, s"
    row = Row(f"P14 {workers} forks", work, digits=2)
    return Case((row,), partial(many.fork_many, workers), (FLOOR,), limit)


CASES = (
    Case(
        (Row("P1", "start and end of an empty script, 2 workers, s", "27 times faster"),),
        alone.start_empty,
        (ELRUN, TORCHRUN, FLOOR),
    ),
    Case(
        (
            Row("P1 instructions", "the agent's imports, million instructions", "130", 1),
            Row("P1 nothing", "an interpreter that does nothing, million instructions", "", 1),
        ),
        starts.count_instructions,
        (ELRUN,),
        ONCE,
    ),
    Case(
        (Row("P16", "what the hook adds to a Python worker's start, ms", "2 ms", 1),),
        starts.start_hooked,
        (ELRUN,),
        RARELY,
    ),
    Case(
        (Row("P16 instructions", "the same: million instructions", "15", 1),),
        starts.count_hooked,
        (ELRUN,),
        ONCE,
    ),
    Case(
        (
            Row(
                "P2",
                "the same with torch, gloo, one all-reduce, s",
                "2.2 times faster; preloaded 2.6",
                2,
            ),
            Row("P2 line", "until both workers run their first line, s", is_detail=True),
            Row("P2 torch", "until both have imported torch, s", is_detail=True),
            Row("P2 group", "until both have all-reduced, s", is_detail=True),
        ),
        alone.start_torch,
        (ELRUN, PRELOADED, TORCHRUN, FLOOR),
    ),
    Case(
        (Row("P2 imports", "what the command itself imports, s", is_detail=True),),
        alone.import_alone,
        IMPORTS,
    ),
    Case(
        (
            Row(
                "P3",
                "restart gap of a torch script, s (torchrun: own store)",
                "preloaded 35 times faster",
                2,
            ),
        ),
        restarts.restart_torch,
        (ELRUN, PRELOADED, AUTO, TORCHRUN_OWN_STORE),
        Limit(5, 1),
    ),
    Case(
        (
            Row(
                "P3 early",
                "`examples/train.py` dies at step 20, s (preloaded: torch, torch._dynamo)",
                "auto: 0.5 s",
                2,
            ),
        ),
        restarts.restart_early,
        (ELRUN, NAMED, AUTO, TORCHRUN_OWN_STORE),
        RARELY,
    ),
    Case(
        (Row("P4", "restart gap of a script without torch, s", "10 times faster"),),
        restarts.restart_plain,
        (*BOTH, FLOOR),
    ),
    Case(
        (
            Row("P5 RSS", "agent of four idle workers: memory, MB", "20 MB", 1),
            Row("P5 PSS", "the same with its helper processes, shared pages divided, MB", "", 1),
            Row("P5 CPU", "the same: CPU, ms each second", "0.2: a sample each 5 s", 2),
            Row("P5 switches", "the same: context switches each second", "0.2", 1),
            Row("P9", "SIGTERM to the end of four idle workers, s", "0.02 s"),
        ),
        alone.watch_and_stop,
        BOTH,
        RARELY,
    ),
    *map(_meeting, rounds.SIZES),
    *map(_meeting_over_etcd, rounds.SIZES),
    *map(_crowd, rounds.CROWDS),
    *map(_crowd_over_etcd, rounds.ETCD_CROWDS),
    Case(
        (Row("P15", "two agents that meet over c10d, an empty script, s", "40 times faster", 2),),
        nodes.start_two,
        BOTH,
    ),
    Case(
        (
            Row("P5 nodes RSS", "one of two agents over c10d: memory, MB", "20 MB", 1),
            Row("P5 nodes CPU", "the same: CPU, ms each second", "1.5 ms", 1),
            Row("P5 nodes switches", "the same: context switches each second", "", 1),
        ),
        nodes.watch_two,
        BOTH,
        RARELY,
    ),
    Case(
        (
            Row("P7", "one node where two could be: until its worker runs, s", "3.5 s", 2),
            Row("P7 restart", "the same: its worker dies, until the next one runs, s", "at once"),
        ),
        nodes.wait_for_nobody,
        BOTH,
        RARELY,
        {"torchrun": ONCE},
    ),
    Case(
        (
            Row(
                "P8", "one of three agents dies: until the others' workers run again, s", "0.3 s", 2
            ),
        ),
        nodes.lose_a_node,
        BOTH,
        RARELY,
        {"torchrun": FULL_ONLY},
    ),
    Case(
        (
            Row(
                "P11",
                "one of three nodes fails at once: until the others' workers are stopped, s",
                "0.02 s",
            ),
        ),
        partial(nodes.tell_the_others, "P11", 0.0),
        BOTH,
        RARELY,
        {"torchrun": FULL_ONLY},
    ),
    Case(
        (Row("P11 later", "the same after a second, when agents are ready for it, s", "0.02 s"),),
        partial(nodes.tell_the_others, "P11 later", 1.0),
        (ELRUN,),
        RARELY,
    ),
    Case(
        (
            Row("P10", "two workers print 500,000 lines each, `--tee 3`, s", "not slower", 2),
            Row("P10 CPU", "the same: the agent's CPU for a million lines, s", "", 2),
        ),
        alone.carry_output,
        BOTH,
        RARELY,
    ),
    Case(
        (
            Row(
                "P10 kept CPU",
                "a million lines of standard error, kept: what that adds to the agent's CPU, s",
                "0.05 s",
                2,
            ),
        ),
        alone.carry_errors,
        (ELRUN,),
        RARELY,
    ),
    Case(
        (
            Row("P10 line", "a line, from print to console, ms: median", "", 2),
            Row("P10 slowest", "the slowest line, ms", "5 ms", 1),
        ),
        alone.carry_lines,
        BOTH,
        RARELY,
    ),
    Case(
        (Row("P12", "workers alive 1 s after the agent's SIGKILL, of 4", "0", 0, is_share=True),),
        alone.kill_agent,
        BOTH,
        RARELY,
    ),
    Case(
        (Row("P13", "restarts of a gloo job that succeed, %", "100", 0, is_share=True),),
        restarts.restart_again_and_again,
        BOTH,
        limits={"elrun": ONCE, "torchrun": Limit(5, 0)},
    ),
    Case(
        (
            Row("P13 waiting", "the same with waiting workers, %", "100", 0, is_share=True),
            Row("P13 waited", "the same: workers that had waited, %", "100", 0, is_share=True),
        ),
        restarts.restart_waiting,
        (PRELOADED,),
        ONCE,
    ),
    Case(
        (Row("P17", f"`elrun status` of {many.WATCHED} workers, s", "0.15 s"),),
        many.ask_status,
        (ELRUN,),
        RARELY,
    ),
    Case(
        (Row("P18", "simulated histories a minute, all cores", "100,000", 0),),
        simulations.make_histories,
        (ELRUN,),
        RARELY,
    ),
    Case(
        (Row("P18 nodes", "10,000 nodes in one history, s of CPU", "10 s", 1),),
        simulations.make_one_large,
        (ELRUN,),
        ONCE,
    ),
    _many(64, RARELY),
    _forks(64, RARELY),
    _many(256, FULL_ONLY),
    _forks(256, FULL_ONLY),
)

ROWS = {row.key: row for case in CASES for row in case.rows}
