"""Let tests import what `make soak` runs, as `make soak` does."""

import sys
from pathlib import Path

for folder in ("matrix", "rendezvous"):
    sys.path.insert(0, str(Path(__file__).parents[1] / folder))
