"""Environments of workers, and the log files that they get."""

import os

NOTHING = {0: "", 1: ""}


def envs_for(nprocs=2, run_id="job", restarts=0):
    common = {"TORCHELASTIC_RUN_ID": run_id, "TORCHELASTIC_RESTART_COUNT": str(restarts)}
    return {rank: dict(common) for rank in range(nprocs)}


def attempt_of(dest):
    return os.path.dirname(os.path.dirname(dest.error_files[0]))
