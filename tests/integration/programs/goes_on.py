"""Says that it runs, and goes on when the test writes its file: rank 0 fails, and all restart."""

import os
import sys
import time

attempt = os.environ["TORCHELASTIC_RESTART_COUNT"]
sys.stdout.write(f"running {attempt}\n")
sys.stdout.flush()
if attempt == "0":
    while not os.path.exists(os.environ["GO"]):
        time.sleep(0.02)
    sys.exit(9 if os.environ["RANK"] == "0" else 0)
