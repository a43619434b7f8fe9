"""Reports and histories of runs, made up."""

import json
from datetime import datetime, timezone

START = 1_800_000_000.0


def moment(at):
    """Return a time as a report has it."""
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="milliseconds")


def root(rank=1, node="n0", **more):
    """Return a root cause."""
    return {
        "global_rank": rank,
        "local_rank": rank,
        "node": node,
        "pid": 77,
        "exitcode": 1,
        "timestamp": int(START),
        "message": "ValueError: no luck",
        "traceback": "Traceback …",
        "file": "",
        "kernel_words": "",
        "exception": "builtins.ValueError",
        "says_why": True,
        "bases": [],
        "cause": "",
        "is_consequence": False,
        **more,
    }


def attempt(begin, end=None, *, number=0, ranks=(0, 1), verdict="worker failed", **more):
    """Return an attempt that began and ended so many seconds after the start."""
    is_over = end is not None
    return {
        "round": number,
        "group_rank": 0,
        "group_world_size": 1,
        "world_size": len(ranks),
        "restarts_before": number,
        "began_at": moment(START + begin),
        "failures": [],
        "ended_at": moment(START + end) if is_over else None,
        "duration_s": end - begin if is_over else None,
        "workers": [{"rank": rank, "local_rank": rank, "pid": 100 + rank} for rank in ranks],
        "end": {
            "verdict": verdict,
            "by_group_rank": 0,
            "reason": "rank 1 failed",
            "doubt": "",
            "then": "restart",
            "restart_delay_s": 0.0,
            "no_restart": "",
            "root": root(),
        }
        if is_over
        else None,
        **more,
    }


def report(*attempts, **more):
    """Return a report."""
    return {
        "version": 1,
        "elrun": "0.1.0",
        "run_id": "job",
        "name": "train.py",
        "node": "n0",
        "agent_pid": 50,
        "state": "succeeded",
        "exit_code": 0,
        "reason": "",
        "root": None,
        "began_at": moment(START),
        "ended_at": moment(START + 100),
        "duration_s": 100.0,
        "attempts_left_out": 0,
        "attempts": list(attempts),
        "ranks": [],
        "missing_nodes": [],
        "places": None,
        "config": {"max_restarts": 3},
        "options": {},
        **more,
    }


def event(at, name, **more):
    return {"kind": "event", "at": START + at, "event": name, **more}


def sample(at, ranks, **more):
    return {"kind": "sample", "at": START + at, "ranks": ranks, **more}


def written(folder, report, history=()):
    """Write a run's folder; return it."""
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(report))
    if history:
        lines = "".join(json.dumps(line) + "\n" for line in history)
        (folder / "history.jsonl").write_text(lines)
    return folder
