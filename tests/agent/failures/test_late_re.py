"""What compares texts with patterns loads ``re`` when there is a text."""

import subprocess
import sys

A_KILL_AT_ONCE = """
import sys
sys.modules.pop("re", None)  # an interpreter's own packages may have loaded it
import elrun.agent.elastic.failed_attempt, elrun.agent.processes.own_ends
from elrun.agent.failures import last_words, restart_causes, restart_rules
last_words.last_words_in("")
print("re" in sys.modules)
print(last_words.last_words_in("ValueError: no\\n").words, "re" in sys.modules)
"""


def test_a_worker_that_was_killed_without_a_word_loads_no_regular_expressions():
    """Its import takes longer than all else that tells the other nodes of it."""
    done = subprocess.run(
        [sys.executable, "-c", A_KILL_AT_ONCE], capture_output=True, text=True, check=True
    )

    assert ["False", "ValueError: no True"] == done.stdout.splitlines()
