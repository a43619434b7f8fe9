"""A worker that prints much and fails after some seconds, until a file says that it is enough."""

import os
import random
import sys
import time

import elrun

RANK, ATTEMPT = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"])
dice = random.Random(ATTEMPT)
life_s, who = dice.uniform(0.5, 3.0), dice.randrange(int(os.environ["WORLD_SIZE"]))
started_at = time.monotonic()
while time.monotonic() - started_at < life_s or who != RANK:
    elrun.heartbeat()
    for _ in range(200):
        print(f"attempt {ATTEMPT} rank {RANK} " + "x" * dice.randrange(200))
    print(f"attempt {ATTEMPT} rank {RANK} of its own accord", file=sys.stderr)
    if os.path.exists(os.environ["SOAK_ENOUGH"]):
        raise SystemExit(0)
    time.sleep(0.1)
if ATTEMPT % 3 == 0:
    os.kill(os.getpid(), 9)
raise RuntimeError(f"attempt {ATTEMPT} has lived for {life_s:.1f} s")
