"""Let tests import what `make fuzz` runs, as `make fuzz` does."""

import sys
from pathlib import Path

for folder in (Path(__file__).parent / "targets", Path(__file__).parents[1] / "rendezvous"):
    sys.path.insert(0, str(folder))
