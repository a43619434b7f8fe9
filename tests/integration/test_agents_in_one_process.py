"""Two agents in one process, as pipelines and notebooks have them: neither takes from the other."""

import os

import pytest

pytestmark = pytest.mark.integration

# The first ends while the second runs; then the second's worker leaves a daemon behind, and fails.
ONE_AFTER_THE_OTHER = """
import contextlib, sys, threading
from elrun import LaunchConfig, elastic_launch
from elrun.agent import ChildFailedError

def launch(script):
    with contextlib.suppress(ChildFailedError):
        elastic_launch(LaunchConfig(1, 1, 1, max_restarts=0), "bash")("-c", script)

def tell(path):
    with open(path, "w") as pipe:
        pipe.write("go on\\n")

if __name__ == "__main__":
    running, goes_on, daemon, ends = sys.argv[1:]
    first = threading.Thread(target=launch, args=(f"read x < {running}",))
    second = f"echo > {running}; read x < {goes_on}; "
    second += f"(setsid sh -c 'echo $$ > {daemon}; exec sleep 1000' &); read x < {ends}; exit 1"
    first.start()
    second = threading.Thread(target=launch, args=(second,))
    second.start()
    first.join()
    tell(goes_on)
    with open(daemon) as pipe:
        print(pipe.read(), end="", flush=True)
    tell(ends)
    second.join()
"""

SAME_CONFIG = """
import sys, threading
from elrun import LaunchConfig, elastic_launch
from elrun.agent import DefaultLogsSpecs, Std

if __name__ == "__main__":
    logs = DefaultLogsSpecs(sys.argv[1], redirects=Std.ALL)
    config = LaunchConfig(1, 1, 1, logs_specs=logs, run_id="job", max_restarts=0)

    def launch(word):
        elastic_launch(config, "echo")(word)

    threads = [threading.Thread(target=launch, args=(word,)) for word in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    launch("three")
"""


def test_an_agent_adopts_orphans_after_another_has_ended(elrun, script, tmp_path):
    """What its workers leave behind ends with a job that fails: its parent is here."""
    pipes = [tmp_path / name for name in ("running", "goes_on", "daemon", "ends")]
    for pipe in pipes:
        os.mkfifo(pipe)

    code, out, err = elrun(script(ONE_AFTER_THE_OTHER), *pipes, command=()).finish()

    assert 0 == code, err
    assert not os.path.exists(f"/proc/{int(out)}")


def test_one_config_gives_each_launch_folders_of_its_own(elrun, script, tmp_path):
    """At once or one after the other, each job has a run folder with a first attempt in it."""
    code, _, err = elrun(script(SAME_CONFIG), tmp_path / "logs", command=()).finish()

    logs = list(tmp_path.glob("logs/job_*/attempt_0/0/stdout.log"))
    assert (0, ["one\n", "three\n", "two\n"]) == (
        code,
        sorted(log.read_text() for log in logs),
    ), err
    assert 3 == len({log.parts[-4] for log in logs})
