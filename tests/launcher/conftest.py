"""What the tests of the command line share."""

import pytest
from elrun.agent.hardware.devices import Count, Devices
from elrun.agent.hardware.gpus import Gpu
from elrun.launcher.commandline.arguments import Refusal
from elrun.launcher.commandline.environment import Environment
from elrun.launcher.commandline.parse import parse
from elrun.launcher.plan.plan import compose

BACKENDS = ["c10d", "etcd", "etcd-v2", "etcd-v3", "standalone", "static"]


class CommandLine:
    """Composes a launch as ``elrun`` does, in an environment of its own."""

    def __init__(self):
        self.variables = {"PATH": "/usr/bin:/bin"}
        self.devices = Devices(nvidia=[Gpu(f"GPU-{name}") for name in ("aa1", "aa2", "bb3", "cc4")])
        self.count = lambda kind, _variables: Count({"gpu": 8, "auto": 8, "cpu": 4, "xpu": 2}[kind])

    def given(self, *args, **variables):
        return parse(list(args), self._environment(variables))[0]

    def notices(self, *args, **variables):
        return parse(list(args), self._environment(variables))[1]

    def plan(self, *args, **variables):
        return compose(
            self.given(*args, **variables),
            self._environment(variables),
            count=self.count,
            devices=lambda _kind: self.devices,
            backends=lambda: BACKENDS,
        )

    def refusal(self, *args, **variables):
        with pytest.raises(Refusal) as caught:
            self.plan(*args, **variables)
        return str(caught.value)

    def _environment(self, variables):
        return Environment({**self.variables, **variables})


@pytest.fixture(name="elrun")
def _elrun(tmp_path, monkeypatch):
    """A command line in a folder with a script ``x.py``."""
    (tmp_path / "x.py").write_text("")
    monkeypatch.chdir(tmp_path)
    return CommandLine()
