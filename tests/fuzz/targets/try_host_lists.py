"""What schedulers and launchers of tasks say: a variable of the environment on each line."""

import os
import tempfile

from elrun.launcher.commandline.arguments import Refusal
from elrun.launcher.commandline.environment import Environment
from elrun.launcher.commandline.parse import parse
from elrun.launcher.plan.host_lists import first_host, host_in_file, hosts_of_open_mpi
from elrun.launcher.plan.scheduler import ask_scheduler, read_step
from elrun.launcher.plan.task_launchers import PORTS, read_tasks
from fuzz_sentences import require_sentence

_FOLDER = tempfile.TemporaryDirectory(prefix="elrun-fuzz-")
_FILE = os.path.join(_FOLDER.name, "hosts")
_FILES = ("PBS_NODEFILE", "LSB_DJOB_HOSTFILE")
_MOST_HOSTS = 100_000


def attempt(data: bytes) -> None:
    """Whatever is no list of hosts names none; a job is started, or refused with a sentence."""
    text = data.decode("utf-8", "surrogateescape").replace("\0", "")
    lines = text.split("\n")
    for line in lines:
        first_host(line)
        assert len(hosts_of_open_mpi(line)) < _MOST_HOSTS
    with open(_FILE, "wb") as file:
        file.write(data)
    host_in_file(_FILE, 0)
    variables = dict(line.split("=", 1) for line in lines if "=" in line)
    variables |= {name: _FILE for name in _FILES if name in variables}
    for names in (variables, {k: v for k, v in variables.items() if not k.startswith("FLUX")}):
        if "FLUX_TASK_RANK" in names:  # it would ask Flux
            continue
        step, tasks = read_step(names), read_tasks(names)
        assert step is None or step.endpoint
        if tasks is not None and tasks.host:
            assert 0 <= int(tasks.endpoint.rpartition(":")[2]) - 20000 < PORTS
        given, _ = parse(["train.py"], Environment({}))
        try:
            ask_scheduler(given, names)
        except Refusal as refusal:
            require_sentence(refusal)
