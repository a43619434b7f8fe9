"""Fail on purpose, to see elrun's failure report.

    elrun --standalone --nproc-per-node 3 examples/broken.py

Rank 1 looks for a file that isn't there. The other ranks wait, as they would in a collective.
"""

import os
import time


def load(rank: int) -> bytes:
    with open(f"/data/shard-{rank}.bin", "rb") as file:
        return file.read()


def main() -> None:
    if os.environ["RANK"] == "1":
        load(rank=1)
    time.sleep(60)


if __name__ == "__main__":
    main()
