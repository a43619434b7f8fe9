"""``elrun doctor`` on one node: what it looks at, what it says, and its exit code."""

import json
import os
import socket
import sys
import threading
from pathlib import Path

import pytest
from certificate_kit import Authority, needs_openssl
from elrun.agent.hardware.devices import Devices
from elrun.agent.hardware.gpus import Gpu
from elrun.launcher import cli
from elrun.launcher.verbs import machine_checks as machine
from elrun.launcher.verbs import network_checks as network
from elrun.launcher.verbs.check import Verdict, failed, ok, outcome_of, warning
from elrun.launcher.verbs.check_table import as_json, as_lines, verdict_on
from elrun.rendezvous.network.addresses import Endpoint
from elrun.rendezvous.stores.etcd.server import EtcdServer
from elrun.rendezvous.stores.etcd.settings import EtcdSettings

_TORCH_S_NAMES = ("ca_cert", "ssl_cert", "ssl_cert_key")

BUILD = """from typing import Optional

__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip']
__version__ = '{version}'
debug = False
cuda: Optional[str] = {cuda}
git_version = 'abc'
hip: Optional[str] = {hip}
"""


@pytest.fixture(name="doctor")
def _doctor(tmp_path, monkeypatch, capfd):
    """Run the command in an empty folder; return the exit code and both streams."""
    monkeypatch.chdir(tmp_path)
    for name in [each for each in os.environ if each.startswith(("PET_", "SLURM_", "OMPI_"))]:
        monkeypatch.delenv(name)

    def run(*args):
        code = cli.run(["doctor", *args])
        out, err = capfd.readouterr()
        return code, out, err

    return run


def torch_in(folder, version="2.5.1", cuda="None", hip="None"):
    """Return an interpreter whose torch has such a build."""
    (folder / "version.py").write_text(BUILD.format(version=version, cuda=cuda, hip=hip))
    interpreter = machine.Interpreter(os.sys.executable)
    interpreter.torch_folder = str(folder)
    return interpreter


def test_a_healthy_node_has_no_failed_check_and_the_exit_code_0(doctor):
    """A line for each thing that was looked at."""
    code, out, err = doctor()

    assert (0, "") == (code, err)
    names = [line[8:].partition(":")[0] for line in out.splitlines() if line[:8].strip()]
    assert {"elrun", "torch", "GPUs", "memory", "limits", "host name", "options"} <= {*names}


def test_json_has_all_of_it(doctor):
    """One object, for programs."""
    code, out, _ = doctor("--format=json", "--nproc-per-node", "3")

    found = json.loads(out)
    checks = {check["name"]: check for check in found["checks"]}
    assert (0, 1) == (code, found["version"])
    assert ("ok", "3 workers", "") == tuple(
        checks["workers"][field] for field in ("verdict", "found", "advice")
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--nnodes", "2"), "failed  options: --nnodes 2: say where the nodes meet"),
        (("missing.py",), "failed  options: missing.py: there is no such script; give its path"),
        (("--rdzv-backend", "zoo", "--nnodes", "2"), "there is no such backend"),
        (("--log-dir", "/proc/self/logs"), "failed  log folder: /proc/self: "),
        (("--report", "no/r.json"), "failed  options: --report no/r.json: it can't be kept: there"),
    ],
)
def test_what_would_be_refused_is_a_failed_check(doctor, options, sentence):
    """The rest is looked at all the same, and the exit code is 1."""
    code, out, err = doctor(*options)

    assert (1, "") == (code, err)
    assert sentence in out
    assert "GPUs: " in out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--nnods", "2"), "--nnods is no option of elrun; did you mean --nnodes?"),
        (("--format", "xml"), "--format xml: give text or json"),
        (("--nnodes", "x"), "--nnodes x: give a number of nodes"),
    ],
)
def test_an_option_that_can_t_be_read_is_refused(doctor, options, sentence):
    """As without the verb."""
    code, out, err = doctor(*options)

    assert (2, "") == (code, out)
    assert sentence in err


def test_help_is_the_verb_s_own(doctor):
    """It names the options of elrun, and what it does."""
    code, out, _ = doctor("--help")

    assert (0, "Usage: elrun doctor") == (code, out[:19])


def test_a_file_of_the_verb_s_name_is_what_is_run(doctor, tmp_path):
    """It was one before there were verbs; a notice says how to get the verb."""
    (tmp_path / "doctor").write_text("print('hello from a script')\n")

    code, out, err = doctor()

    assert (0, "hello from a script\n") == (code, out)
    assert "doctor is a file here, so it is what is run" in err


def test_a_folder_of_the_verb_s_name_is_no_script(doctor, tmp_path):
    """Unless Python could run it."""
    (tmp_path / "doctor").mkdir()
    first, out, _ = doctor()
    (tmp_path / "doctor" / "__main__.py").write_text("print('hello from a folder')\n")
    second, said, _ = doctor()

    assert (0, True, 0) == (first, "ok      elrun" in out, second)
    assert "hello from a folder\n" == said


def test_run_is_the_long_form_of_the_command(tmp_path, monkeypatch, capfd):
    """A script may be named like a verb."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "doctor").write_text("print('hello')\n")

    assert 0 == cli.run(["run", "doctor"])
    assert "hello\n" == capfd.readouterr().out


@pytest.mark.parametrize(
    ("version", "cuda", "hip", "gpus", "verdict", "found"),
    [
        ("2.5.1+cu124", "'12.4'", "None", (Gpu(),), Verdict.OK, "2.5.1+cu124 for CUDA 12.4"),
        ("2.5.1", "None", "'6.2'", (Gpu(),), Verdict.OK, "2.5.1 for hip 6.2"),
        ("2.5.1+cpu", "None", "None", (), Verdict.OK, "2.5.1+cpu for CPU"),
        ("2.5.1+cpu", "None", "None", (Gpu(),), Verdict.WARNING, "on a node with GPUs"),
        ("2.3.0", "None", "None", (), Verdict.FAILED, "2.3.0 for CPU"),
        ("10.0.0", "None", "None", (), Verdict.OK, "10.0.0 for CPU"),
    ],
)
def test_torch_is_judged_by_its_files(tmp_path, version, cuda, hip, gpus, verdict, found):
    """It is not imported."""
    interpreter = torch_in(tmp_path, version, cuda, hip)

    (check,) = machine.check_torch(interpreter, Devices(nvidia=gpus))

    assert verdict is check.verdict
    assert found in check.found


class Refusing:
    """An import hook of somebody else, which fails."""

    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError(name)


def test_an_import_hook_that_fails_is_a_finding(monkeypatch):
    """Whatever it raises."""
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Refusing(), *sys.meta_path])

    (check,) = machine.check_torch(machine.Interpreter(sys.executable), Devices())

    assert Verdict.WARNING is check.verdict
    assert "an import hook fails: ModuleNotFoundError('torch')" == check.found


def test_a_version_file_of_nonsense_is_an_unknown_version(tmp_path):
    """It may be cut, or of another encoding."""
    interpreter = torch_in(tmp_path, "2.5.1", "None", "None")
    (Path(interpreter.torch_folder) / "version.py").write_bytes(bytes(range(256)) * 9)

    (check,) = machine.check_torch(interpreter, Devices())

    assert "of an unknown version for CPU" == check.found


def test_an_interpreter_that_does_not_start_is_named():
    """With what to change."""
    (_, check) = machine.check_python(machine.Interpreter("/no/such/python"))

    assert (Verdict.FAILED, "give PYTHON_EXEC an interpreter that starts") == (
        check.verdict,
        check.advice,
    )


@pytest.mark.parametrize(
    ("workers", "variables", "verdict", "found"),
    [
        (4, {}, Verdict.OK, "4 workers"),
        (1, {}, Verdict.WARNING, "1 worker, 4 visible GPUs"),
        (5, {}, Verdict.WARNING, "5 workers on 4 visible GPUs"),
        (1, {"CUDA_VISIBLE_DEVICES": "2"}, Verdict.OK, "1 worker"),
    ],
)
def test_workers_are_compared_with_the_visible_gpus(workers, variables, verdict, found):
    """Too many share one; too few leave some idle."""
    devices = Devices(nvidia=(Gpu(),) * 4)

    (check,) = machine.check_workers(workers, devices, variables)

    assert (verdict, found) == (check.verdict, check.found)


def test_a_variable_that_hides_all_gpus_is_named():
    """It is the commonest reason for a job on the CPU."""
    devices = Devices(nvidia=(Gpu(),) * 4)

    (check,) = machine.check_devices(devices, {"CUDA_VISIBLE_DEVICES": "-1"})

    assert Verdict.WARNING is check.verdict
    assert "CUDA_VISIBLE_DEVICES='-1' hides the 4 GPUs of this node" in check.found


def test_a_port_that_is_taken_is_named_with_its_holder():
    """An agent of the same job may be it, so it is no failure."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = Endpoint("127.0.0.1", server.getsockname()[1])
        (check,) = network.check_endpoint(endpoint)

    assert Verdict.WARNING is check.verdict
    assert f"(pid {os.getpid()})" in check.found


@pytest.mark.parametrize(
    ("host", "found"), [("no-such-host.invalid", "can't be resolved"), ("", "can't be")]
)
def test_an_endpoint_without_an_address_fails(host, found):
    """Nobody could meet there."""
    (check,) = network.check_endpoint(Endpoint(host or "no host", 29400))

    assert Verdict.FAILED is check.verdict
    assert found in check.found


def test_what_answers_is_not_always_an_etcd():
    """A port that is closed, or another server, is said in a line."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        endpoint = Endpoint("127.0.0.1", server.getsockname()[1])
    (check,) = network.check_etcd(endpoint, {})

    assert Verdict.FAILED is check.verdict
    assert "does not answer" in check.found


@needs_openssl
@pytest.mark.integration
@pytest.mark.parametrize("names", [("cacert", "cert", "key"), _TORCH_S_NAMES])
def test_an_etcd_with_certificates_is_looked_at_as_the_job_would(tmp_path, names):
    """By elrun's own names of the settings and by torch's."""
    authority = Authority(tmp_path / "authority")
    mine = authority.certify("node")
    files = dict(zip(names, (authority.path, mine["cert"], mine["key"]), strict=True))
    server_settings = EtcdSettings((), "https", authority.path, **authority.certify("server"))
    with EtcdServer(v2=True, settings=server_settings) as server:
        endpoint = Endpoint("127.0.0.1", server.get_port())
        (check,) = network.check_etcd(endpoint, files)

    assert Verdict.OK is check.verdict, check.found


@needs_openssl
@pytest.mark.integration
def test_a_key_with_a_password_is_refused_without_a_question(tmp_path):
    """The terminal is not asked: the job could not ask there either."""
    authority = Authority(tmp_path / "authority")
    settings = {"cacert": authority.path, **authority.certify("node", password="a word")}
    (check,) = network.check_etcd(Endpoint("127.0.0.1", 1), settings)

    assert Verdict.FAILED is check.verdict
    assert "no certificate and key that fit" in check.found


def test_a_look_that_fails_or_hangs_is_a_finding():
    """Never a traceback, and never the end of the other looks."""

    def broken():
        yield ok("a", "b")
        raise RuntimeError("oh\nno")

    go_on = threading.Event()
    (one,) = outcome_of("broken", broken)
    (two,) = outcome_of("slow", lambda: iter([go_on.wait()]), timeout_s=0.05)
    go_on.set()

    assert [Verdict.WARNING] * 2 == [one.verdict, two.verdict]
    assert ("it can't be looked at: RuntimeError('oh\\nno')", "there was no answer for 0.05 s") == (
        one.found,
        two.found,
    )


def test_the_worst_verdict_counts():
    """A warning is none that fails."""
    rows = [ok("a", "x"), warning("b", "y", "do z")]

    assert [Verdict.OK, Verdict.WARNING, Verdict.FAILED] == [
        verdict_on([]),
        verdict_on(rows),
        verdict_on([*rows, failed("c", "d", "e"), ok("f", "g")]),
    ]
    assert "warning" == json.loads(as_json(rows))["verdict"]


def test_a_line_has_no_control_characters():
    """A host may be named as it likes."""
    assert "ok      a: \\x1b[2J\n" == as_lines(ok("a", "\x1b[2J"))


def test_no_folder_is_made(doctor, tmp_path):
    """Nothing was launched that would fill it."""
    code, out, _ = doctor("--log-dir=logs/deep")

    assert (0, []) == (code, os.listdir(tmp_path))
    assert "ok      log folder: " in out


def test_a_temporary_folder_that_is_not_used_is_named(tmp_path):
    """Python's tempfile goes elsewhere without a word."""
    first, *_ = machine.check_folders(None, {"TMPDIR": f"{tmp_path}/none"})

    assert Verdict.WARNING is first.verdict
    assert f"TMPDIR={tmp_path}/none takes no files" in first.found


@pytest.mark.parametrize(
    ("command", "verdict", "found"),
    [
        ("true", Verdict.OK, "'true' succeeded"),
        ("echo no GPU; false", Verdict.FAILED, "ended with exit code 1: no GPU"),
        ("sleep 100", Verdict.FAILED, "did not end within 0.1 s"),
    ],
)
def test_the_health_check_is_run(command, verdict, found):
    """As the job would run it."""
    (check,) = machine.check_health(command, 0.1 if "sleep" in command else 30.0, os.environ)

    assert verdict is check.verdict
    assert found in check.found
