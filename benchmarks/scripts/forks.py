"""The least that many forked workers can cost: a loop that forks an interpreter, and waits for it.

forks.py N: each of them has json, as the preloaded ones have, and ends as Python ends.
"""

import json  # noqa: F401
import os
import sys

children = []
for _ in range(int(sys.argv[1])):
    child = os.fork()
    if child == 0:
        sys.exit()
    children.append(child)
for child in children:
    os.waitpid(child, 0)
