"""Pods of Kubernetes, played by namespaces: elrun is process 1, and nothing of the root is written.

The kubelet signals process 1 from outside, kills what is left after the grace period, and reads the
termination log. A pod of an Indexed Job that comes back has the name and the index that it had.
"""

import os
import select
import signal
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

# A container: its own name, processes, devices and termination log; a root that is read-only.
CONTAINER = """
hostname "$POD"
mkdir -p "$POD/dev" "$POD/scratch"
mount -t tmpfs none "$POD/dev"
for device in null zero full random urandom tty; do
    touch "$POD/dev/$device"; mount --bind "/dev/$device" "$POD/dev/$device"
done
mkdir "$POD/dev/shm"; mount -t tmpfs none "$POD/dev/shm"; ln -s /proc/self/fd "$POD/dev/fd"
mount --bind "$LOG" "$(touch "$POD/dev/termination-log"; echo "$POD/dev/termination-log")"
mount --bind "$POD/scratch" "$POD/scratch"
mount --rbind "$POD/dev" /dev
mount -o remount,bind,ro /
exec "$@"
"""
PREFIX = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "--ipc", "--mount")
SAVES = """
import os, signal, subprocess, sys, time

def save(*_):
    sys.stdout.write(f"saved {os.environ['RANK']}\\n")
    sys.exit(0)

signal.signal(signal.SIGTERM, save)
subprocess.Popen(["sh", "-c", "sleep 0.1 & "]).wait()  # its child is process 1's from now on
restart = os.environ["TORCHELASTIC_RESTART_COUNT"]
node, rank = os.uname().nodename, os.environ["RANK"]
sys.stdout.write(f"ready {node} {rank} of {os.environ['WORLD_SIZE']} {os.getppid()}\\n")
while not os.path.exists("end"):
    time.sleep(0.02)
"""
FAILS = "raise ValueError('no data')"


class Pod:
    """A running one.

    Args:
        job: Its elrun, and ``unshare`` around it.
        log: Its termination log.
    """

    def __init__(self, job, log):
        self.job = job
        self._log = log

    def delete(self):
        """Signal process 1, as the kubelet does."""
        (first,) = children_of(self.job.process.pid)
        os.kill(first, signal.SIGTERM)

    def kill(self):
        """Take it away with all its processes, as when its machine is gone."""
        self.job.process.kill()
        self.job.process.wait()

    def last_sentence(self):
        return self._log.read_text()


def name_of(pid):
    """Return the name of a process; empty: it has gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().rstrip("\n")
    except (FileNotFoundError, ProcessLookupError):
        return ""


def children_of(pid):
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@pytest.fixture(name="start_pod")
def _start_pod(elrun, tmp_path):
    def start(name, *options, **variables):
        log = tmp_path / f"{name}.log"
        log.touch()
        known = {"POD": name, "LOG": str(log), "KUBERNETES_SERVICE_HOST": "10.0.0.1"}
        known |= {"TMPDIR": str(tmp_path / name / "scratch"), **variables}
        prefix = (*PREFIX, "sh", "-ec", CONTAINER, "sh")
        return Pod(elrun(*options, prefix=prefix, env=known), log)

    if os.getuid():
        pytest.skip("only root makes a container's devices")
    return start


def test_a_pod_that_is_deleted_lets_its_workers_save(start_pod, script):
    """SIGTERM reaches process 1, which passes it on, says why it ends, and takes orphans in."""
    pod = start_pod("train-0", "--nproc-per-node", 2, script(SAVES))
    for _ in range(2):
        assert pod.job.wait_for_line("ready").endswith(" 1")  # elrun is process 1
    pod.delete()

    code, out, err = pod.job.finish()

    assert (143, ["saved 0", "saved 1"]) == (code, sorted(out.splitlines())[-2:]), err
    assert "stopped by SIGTERM" == pod.last_sentence()


def test_a_preempted_pod_may_be_tried_again(start_pod, script):
    """Exit code 75 is what a podFailurePolicy looks for."""
    pod = start_pod("train-0", "--preempt-signal", "TERM", "--grace", 20, script(SAVES))
    pod.job.wait_for_line("ready")
    pod.delete()

    code, out, err = pod.job.finish()

    assert (75, True, "preempted by SIGTERM on train-0") == (
        code,
        "saved 0" in out,
        pod.last_sentence(),
    ), err
    assert "the workers have 16 s to leave, until" in err


def test_a_failure_is_the_termination_message(start_pod, script):
    """It is what `kubectl describe pod` shows."""
    pod = start_pod("train-0", script(FAILS))

    code, _, err = pod.job.finish()

    assert 1 == code, err
    assert pod.last_sentence().startswith("script.py failed: ")
    assert "ValueError: no data" in pod.last_sentence()


def test_a_pod_that_comes_back_under_its_name_has_its_rank(
    start_pod, script, vacant_endpoint, tmp_path
):
    """The other pod waits for it; the index of an Indexed Job is the rank."""
    options = {
        "PET_NNODES": "2",
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": vacant_endpoint,
        "PET_RDZV_ID": "uid",
        "LOGLEVEL": "INFO",
    }
    path = script(SAVES)

    def start(index):
        return start_pod(f"train-{index}", path, JOB_COMPLETION_INDEX=str(index), **options)

    first = start(0)
    assert next(line for line in first.job.process.stderr if "hosting" in line)
    second = start(1)
    expected = ["ready train-0 0 of 2 1", "ready train-1 1 of 2 1"]
    assert expected == [pod.job.wait_for_line("ready") for pod in (first, second)]
    second.kill()
    second = start(1)
    assert expected == [pod.job.wait_for_line("ready") for pod in (first, second)]
    (tmp_path / "end").touch()

    ends = [pod.job.finish() for pod in (first, second)]

    assert [0, 0] == [code for code, _, _ in ends], ends


def test_no_zombie_is_left_to_process_1(start_pod, script, tmp_path):
    """A container has nobody else who could take them in."""
    pod = start_pod("train-0", script(SAVES))
    pod.job.wait_for_line("ready")
    (first,) = children_of(pod.job.process.pid)

    def has_zombie():
        states = []
        for pid in children_of(first):
            try:
                states.append(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0])
            except (FileNotFoundError, ProcessLookupError):
                continue
        return "Z" in states

    # The orphan of the script sleeps for a tenth of a second.
    while "sleep" in map(name_of, children_of(first)):
        select.select([], [], [], 0.05)
    while has_zombie():
        select.select([], [], [], 0.05)
    (tmp_path / "end").touch()

    assert 0 == pod.job.finish()[0]
