"""What stands around a page's block while a test runs it."""

import contextlib
import os
import re
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from certificate_kit import Authority
from elrun.rendezvous.stores.etcd.server import EtcdServer
from page_kit import BLOCKS, REPOSITORY

TRAIN = Path(__file__).with_name("programs") / "page_train.py"
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
TREE = ("agent", "benchmarks", "launcher", "rendezvous", "src", "tests")

# What a page says, and what stands for that here.
PLACES = {
    "a:2379,b:2379,c:2379": "localhost:2379",
    "node1:29400": "localhost:29400",
    "node1 ": "localhost:29400 ",
    "collector:4318": "localhost:4318",
    "/tmp/etcd-data": "etcd-data",
    "/var/lib/node_exporter/": "",
    "train.sbatch --checkpoint /shared/folder": "train.sbatch --checkpoint shared --steps 20",
    "resume.sbatch /shared/folder": "resume.sbatch shared/resumed --steps 20 --pause 0",
    "RUN-ID": "job7",
    "pip install": "pip install --dry-run --quiet",
    "srun --nodes 4": "srun --nodes 2",
    "--gpus-per-node 8": "--ntasks-per-node 1",  # the cluster of the tests has no GPUs
    "ppr:1:node": "ppr:4:node",  # the four nodes are tasks of this host
}
# They may be in use here.
PORTS = re.compile(r"\b(2379|4318|8080|9400|29400|29411)\b")
SMALLER = re.compile(r"\b(?:128|1024|10000)\b")

# What is run before the block.
BEFORE = {
    "secret": "[ -e secret ] || { head -c 32 /dev/urandom > secret; chmod 600 secret; }\n",
    "kept": """
for node in n0 n1; do
    ELRUN_RUN_DIR=$node elrun --nnodes 2 --rdzv-backend c10d --rdzv-endpoint localhost:29400 \\
        --rdzv-id job7 --no-python bash -c 'exit 3' 2> $node.log &
done
wait
for node in n0 n1; do mv $node/*.run $node/job.run; done
export ELRUN_RUN_DIR=n0
""",
    "long": "export LONG=1\n",
}
# These follow a job until its end: a user types what comes next in another terminal.
FOLLOWING = re.compile(r"^elrun \w+ (?:--watch|--follow)", re.MULTILINE)
# What a block has left in the background ends with it.
SHELL = """
trap 'code=$?; set +e; left=$(jobs -p); [ -z "$left" ] || kill $left; wait; exit $code' EXIT
followers=()
# What follows in the page comes once this has found its job: `elrun stop` would be first, else.
follow() {{
    local out=follower${{#followers[@]}}
    "$@" > $out &
    followers+=($!)
    until [ -s $out ] || ! kill -0 $! 2>&-; do sleep 0.1; done
}}
{before}{block}
for each in "${{followers[@]}}"; do wait $each; done
"""


class _Collector(BaseHTTPRequestHandler):
    """Takes what OpenTelemetry's exporter sends."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.set()
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_args):
        pass


@contextlib.contextmanager
def collector(port):
    """Listen there as a collector does; something must come."""
    with ThreadingHTTPServer(("127.0.0.1", port), _Collector) as server:
        server.got = threading.Event()
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield
            assert server.got.is_set(), "the collector got nothing"
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def stage(block, folder, vacant_port):
    """Lay down what a block needs.

    Args:
        block: The block.
        folder: The folder in which it will run.
        vacant_port: Returns a port at which nobody listens.

    Yields:
        The script to run, and variables of its environment.
    """
    ports = {}

    def port(named):
        return ports.setdefault(named, vacant_port())

    lay_down(block, folder)
    with contextlib.ExitStack() as ends:
        if "etcd" in block.words:
            ends.enter_context(EtcdServer(v2=False, port=port("2379")))
        if "collector" in block.words:
            ends.enter_context(collector(port("4318")))
        if "certificates" in block.words:
            files = Authority(folder / "authority").certify("node", names="DNS:localhost")
            for name, path in {"ca": folder / "authority/ca.pem", **files}.items():
                shutil.copy(path, folder / {"ca": "ca.pem"}.get(name, Path(path).name))
        yield script_of(block, port), environment_of(block, folder, port)


def lay_down(block, folder):
    """Copy the repository's examples, and the programs that the page shows."""
    shutil.copytree(REPOSITORY / "examples", folder / "examples")
    shutil.copy(TRAIN, folder / "train.py")
    for name in TREE:
        (folder / name).symlink_to(REPOSITORY / name)
    for other in BLOCKS:
        if other.page == block.page and other.value("file"):
            (folder / other.value("file")).write_text(other.body)
    (folder / "check_gpus.sh").write_text("#!/bin/sh\n")
    (folder / "check_gpus.sh").chmod(0o755)


def script_of(block, port):
    """Return the block with this machine's places and ports."""
    text = block.body
    for word, here in PLACES.items():
        text = text.replace(word, here)
    if "small" in block.words:
        text = SMALLER.sub("16", text)
    if block.language == "python":
        return text
    text = FOLLOWING.sub(r"follow \g<0>", text)
    before = "".join(BEFORE.get(word, "") for word in block.words)
    return PORTS.sub(lambda found: str(port(found[1])), SHELL.format(before=before, block=text))


def environment_of(block, folder, port):
    """Return the variables of a user of this machine."""
    variables = {
        "PATH": PATH,
        "ELRUN_RUN_DIR": str(folder / "runs"),
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
    }
    if re.search(r"^etcd ", block.body, re.MULTILINE):
        client, peer = (f"http://localhost:{port(name)}" for name in ("2379", "etcd's peers"))
        variables |= {
            "ETCD_LISTEN_CLIENT_URLS": client,
            "ETCD_ADVERTISE_CLIENT_URLS": client,
            "ETCD_LISTEN_PEER_URLS": peer,
            "ETCD_INITIAL_ADVERTISE_PEER_URLS": peer,
            "ETCD_INITIAL_CLUSTER": f"default={peer}",
        }
    return variables
