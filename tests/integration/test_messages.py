# ruff: noqa: E501  commands are as a user types them
"""Each message of docs/troubleshooting.md is provoked, and elrun prints it word for word."""

import os
import re
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "troubleshooting.md"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not PAGE.exists(), reason="a wheel is tested, no source tree is near"),
]

C10D = "--nnodes 2 --rdzv-backend c10d --rdzv-endpoint localhost:$PORT --rdzv-id t"
STATIC = "elrun --nnodes 3 --master-addr localhost --master-port $PORT --node-rank"
SOON = "--rdzv-conf join_timeout=2"
# Which of two nodes comes first is settled by chance: the one that is refused ends at once.
EITHER = "wait -n; kill $(jobs -p); wait"
ANSWERS = "until (: < /dev/tcp/localhost/$PORT) 2> /dev/null; do sleep 0.1; done"
HTTP = f"exec 2>&1; python -m http.server $PORT & {ANSWERS}"
KILLED = "elrun --standalone --nproc-per-node 2 --no-python bash -c '[ $RANK = 1 ] && kill -9 $$; sleep 60'"
PEER = """
import os, torch, torch.distributed as dist
dist.init_process_group("gloo")
if dist.get_rank() == 1:
    os._exit(0)
dist.all_reduce(torch.ones(1))
"""

PROVOKED = {
    "there is no such script": "elrun nosuch.py",
    "there is no such program in PATH": "elrun --no-python no-such-program",
    "is not executable; make it so with chmod +x": "elrun --no-python ./x.py",
    "the interpreter … that its first line names is not there": "elrun --no-python ./foreign",
    "this node has no GPU; give a number, or auto to fall back on the CPUs": "CUDA_VISIBLE_DEVICES= elrun --nproc-per-node gpu x.py",
    "this node has no GPU that elrun sees": "CUDA_VISIBLE_DEVICES= elrun --gpus 0 x.py",
    "is no Python script; give --no-python to run it as it is": "elrun /bin/sh",
    "its lines end as on Windows": "elrun --no-python ./windows",
    "runs a job of its own": "WORLD_SIZE=2 RANK=1 MASTER_ADDR=localhost MASTER_PORT=$PORT elrun x.py",
    "and each would be an agent": "SLURM_JOB_ID=7 SLURM_STEP_ID=0 SLURM_NNODES=2 SLURM_NTASKS=4 SLURM_STEP_NUM_NODES=2 SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=0 SLURM_NODEID=0 SLURM_STEP_NODELIST=a,b elrun x.py",
    "an etcd is shared by jobs, which their names tell apart": "elrun --nnodes 2 --rdzv-backend etcd-v3 --rdzv-endpoint localhost:$PORT x.py",
    "say where the nodes meet": "elrun --nnodes 2 x.py",
    "is held by": f"{HTTP}; elrun {C10D} {SOON} x.py; kill $!; wait",
    "there is no such backend; give": "elrun --rdzv-backend nosuch x.py",
    "rendezvous has no such setting": f"elrun {C10D} --rdzv-conf join_timeout=1,nosuch=1 x.py",
    "exclude each other": "PET_NO_PYTHON=1 elrun -m foo",
    "OMP_NUM_THREADS=1 for each of the … workers; set it for another number": "env -u OMP_NUM_THREADS elrun --nproc-per-node 2 x.py",
    "this node gives up in": f"elrun {C10D} --rdzv-conf join_timeout=12 x.py",
    "… of … nodes joined within": f"elrun {C10D} {SOON} x.py",
    "is elrun running on …, and is the port open?": f"elrun {C10D.replace('localhost', 'no-such-host.invalid')} {SOON} x.py",
    "can't be resolved": f"elrun {C10D.replace('localhost', 'no-such-host.invalid')} {SOON} x.py",
    "answers, but not as the rendezvous of an elrun job": f"{HTTP}; elrun {C10D} {SOON} x.py; kill $!; wait",
    "another program answers there, or the workers of an attempt that still runs": f"{HTTP}; elrun --nnodes 2 --node-rank 1 --master-addr localhost --master-port $PORT {SOON} x.py; kill $!; wait",
    "and ends with that run; wait for its end": f"elrun {C10D} x.py & {ANSWERS}; elrun {C10D}2 {SOON} x.py; kill $!; wait",
    "two nodes have --node-rank": f"{STATIC} 0 x.py & {ANSWERS}; {STATIC} 1 x.py & {STATIC} 1 x.py & {EITHER}",
    "unless this is intended": f"elrun {C10D} x.py 1 & elrun {C10D} x.py 2; wait",
    "was refused: it has": f"elrun {C10D} x.py & {ANSWERS}; sleep 1; elrun {C10D} --nnodes 3 x.py; wait",
    "give the same on every node, or another --rdzv-id to another job": f"elrun {C10D} x.py & elrun {C10D} --nnodes 3 x.py; wait",
    "has another secret than this node": f"ELRUN_RDZV_SECRET=aaaaaaaaaaaaaaaaaaaa elrun {C10D} x.py & ELRUN_RDZV_SECRET=bbbbbbbbbbbbbbbbbbbb elrun {C10D} x.py & {EITHER}",
    "--local-addr … is …: can other nodes reach it?": f"elrun {C10D} {SOON} --local-addr 203.0.113.9 x.py",
    "was killed by SIGKILL": KILLED,
    "stopped by elrun (SIGTERM)": KILLED,
    "it lost or missed another rank, and none has told why": "elrun --standalone --nproc-per-node 2 peer.py",
    "this looks hopeless": "elrun --standalone --max-restarts 4 --no-python bash -c 'exit 3'",
    "the script has a syntax error, which no restart changes": "elrun --standalone --max-restarts 2 torn.py",
    "left running, as all workers have succeeded": "elrun --standalone --no-python bash -c 'setsid sleep 60 &> /dev/null & echo $! > pid'; kill -9 $(cat pid); tail --pid $(cat pid) -f /dev/null",
    "no rank goes on": "elrun --standalone --hang-timeout 1 --no-python sleep 60",
    "preloading …: …; workers start without": "elrun --standalone --preload nosuchmodule x.py",
    "stopped by SIGTERM": "elrun --standalone --no-python bash -c 'kill $PPID; sleep 60'",
    "what workers print there is lost while this lasts": "elrun --standalone --tee 1 --no-python seq 1000 > /dev/full",
    "no job of yours runs on this host": "ELRUN_RUN_DIR=$PWD/none elrun status",
}
SHOWN_BY = {
    "opens none at port": "tests/integration/test_causes_of_jobs.py",
    "connections are accepted there and closed without an answer": "tests/rendezvous/stores/server/test_sessions.py",
    "this one waits as a spare": "tests/integration/test_two_jobs_of_one_name.py",
    "has no v2 API": "tests/rendezvous/stores/etcd/test_etcd_stores.py",
    "is gone: its agent's connection has ended": "tests/integration/test_broken_connections.py",
    "not been heard of for": "tests/rendezvous/liveness/test_peers.py",
    "it is waited for up to": "tests/rendezvous/stores/server/test_sessions.py",
    "a record that isn't signed": "tests/rendezvous/stores/test_signed.py",
    "memory ran out: the kernel killed": "tests/agent/failures/test_signal_cause.py",
    "so shells tell that": "tests/agent/failures/test_signal_cause.py",
    "its script had ended before, and the interpreter was shutting down": "tests/integration/test_last_words.py",
    "and no signal can end that": "tests/agent/monitoring/test_kernel_waits.py",
    "have not finished within": "tests/integration/test_exit_barrier.py",
    "is not queued again": "tests/launcher/test_requeue.py",
    "several runs are meant": "tests/integration/test_status_of_jobs.py",
    "nothing that was printed": "tests/launcher/verbs/test_logs_that_say_nothing.py",
    "run the same version of elrun on every node": "tests/rendezvous/stores/server/test_store_server.py",
    "is full (…): enlarge it (docker: --shm-size)": "tests/agent/failures/test_signal_cause.py",
    "takes no output: what workers printed last is lost": "tests/agent/output/test_blocked_outputs.py",
    "this is a fault in elrun itself": "tests/launcher/terminal/test_cli.py",
}
TORCHS = {"Connection closed by peer"}


@pytest.fixture(name="folder")
def _folder(tmp_path):
    """What the commands find where they are typed."""
    (tmp_path / "x.py").write_text("print('ran')")
    (tmp_path / "peer.py").write_text(PEER)
    (tmp_path / "torn.py").write_text("print(")
    for name, first in (("foreign", "/no/such/interpreter\n"), ("windows", "/bin/sh\r\n")):
        (tmp_path / name).write_text(f"#!{first}", newline="")
        (tmp_path / name).chmod(0o755)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("message", "command"), PROVOKED.items(), ids=list(PROVOKED))
def test_a_message_of_the_page_is_what_elrun_prints(elrun, vacant_port, message, command):
    """Somebody who searches for the words of a message finds its row."""
    become_bash = ("-c", "import os, sys; os.execvp('bash', ['bash', '-c', *sys.argv[1:]])")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = ".+".join(map(re.escape, message.split("…"))).removeprefix(".+")

    job = elrun(command, command=become_bash, env={"PATH": path, "PORT": str(vacant_port())})
    _, out, err = job.finish()

    assert re.search(words, out + err), out + err


def test_each_message_of_the_page_is_shown():
    """A new row needs a command that provokes it, or names the test that does."""
    quoted = re.findall(r"^\| `([^`]+)` \|", PAGE.read_text(), re.MULTILINE)

    assert {*PROVOKED, *SHOWN_BY, *TORCHS} == set(quoted)
    assert [] == [
        message
        for message, file in SHOWN_BY.items()
        if message.split("…")[0] not in (REPOSITORY / file).read_text()
    ]
