"""``--metrics-port`` and ``--metrics-file``: numbers of real jobs, read by Prometheus's parser."""

import contextlib
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from job_kit import until

pytest.importorskip("prometheus_client")

from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as classic_families

HANG = "import os, signal; os.write(1, b'ready\\n'); signal.pause()"
FAILS_ONCE = """
import os
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1":
    raise ValueError("no luck")
"""


def by_name(families):
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def asked(url):
    """Return the answer's type and text."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


@pytest.mark.parametrize(
    ("options", "variables", "path"),
    [
        (["--metrics-port", "0"], {}, "metrics"),
        (["--metrics-port", "[::1]:0"], {}, "metrics"),
        ([], {"TORCHELASTIC_HEALTH_CHECK_PORT": "0"}, "healthz"),
    ],
)
def test_a_port_that_was_chosen_for_the_user_is_named(elrun, script, options, variables, path):
    """Nobody could ask there otherwise."""
    job = elrun(*options, script(HANG), env=variables)
    job.wait_for_line("ready")
    line = job.process.stderr.readline()

    kind, _ = asked(line.split()[-1])
    job.signal(signal.SIGTERM)

    host = "[::1]" if "[::1]:0" in options else "127.0.0.1"
    assert re.fullmatch(rf"elrun: \w+: http://{re.escape(host)}:[1-9]\d*/{path}\n", line)
    assert (143, True) == (job.finish()[0], "text" in kind)


def test_prometheus_is_answered_while_a_job_runs(elrun, script, vacant_endpoint):
    """In the format that it asks for; nothing else is at that port."""
    _, _, port = vacant_endpoint.rpartition(":")
    options = ("--standalone", "--nproc-per-node", 2, "--rdzv-id", "job", "--metrics-port", port)
    job = elrun(*options, script(HANG))
    for _ in range(2):
        job.wait_for_line("ready")
    url = f"http://127.0.0.1:{port}/metrics"

    until(lambda: by_name(text_string_to_metric_families(asked(url)[1]))["elrun_nodes",] == 1)
    kind, text = asked(url)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        asked(f"http://127.0.0.1:{port}/")
    job.signal(signal.SIGTERM)

    code, _, err = job.finish()
    found = by_name(text_string_to_metric_families(text))
    assert 143 == code, err
    assert kind.startswith("application/openmetrics-text; version=1")
    assert (2, 2, 0) == (
        found["elrun_workers", "running"],
        found["elrun_ranks",],
        found["elrun_run_ended",],
    )
    assert found["elrun_worker_resident_memory_bytes", "1", "1"] > 1 << 20


def test_a_file_has_the_numbers_of_a_job_that_restarted(elrun, script, tmp_path):
    """Whole at every moment, and named for the node."""
    options = ("--standalone", "--nproc-per-node", 2, "--max-restarts", 1)
    job = elrun(*options, "--metrics-file", "${hostname}.prom", script(FAILS_ONCE))

    code, _, err = job.finish()

    (path,) = tmp_path.glob("*.prom")
    found = by_name(classic_families(path.read_text()))
    assert 0 == code, err
    assert (1, 2, 1, 1) == (
        found["elrun_restarts_total", "ValueError"],
        found["elrun_rounds_total",],
        found["elrun_restart_gap_seconds_count",],
        found["elrun_run_ended",],
    )
    assert [path] == [each for each in tmp_path.iterdir() if each.name != "script.py"]


def test_nodes_tell_of_waits_and_beats(elrun, script, tmp_path, vacant_endpoint):
    """The first one waits for the second."""
    meeting = ("--nnodes", 2, "--rdzv-backend", "c10d", "--rdzv-endpoint", vacant_endpoint)
    path = script("")
    jobs = [
        elrun(*meeting, "--rdzv-id", "job", "--metrics-file", f"{number}.prom", path)
        for number in range(2)
    ]

    codes = [job.finish()[0] for job in jobs]

    texts = [(tmp_path / f"{number}.prom").read_text() for number in range(2)]
    found = [by_name(classic_families(text)) for text in texts]
    waits = [each["elrun_waiting_seconds_total", "nodes"] for each in found]
    assert [0, 0] == codes
    assert all(0 < each < 300 for each in waits)


def test_a_port_in_use_costs_a_line(elrun, script):
    """A host may have several agents; the job goes on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, out, err = elrun("--standalone", "--metrics-port", port, script("print(1)")).finish()

    sentence = f"nobody can ask for this job's metrics: {port} can't be listened at"
    assert (0, "1\n", 1) == (code, out, err.count(sentence)), err


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/dev/null", "no metrics can be kept in /dev/null: this is no regular file"),
        ("none/m.prom", "no metrics can be kept in none/m.prom: No such file or directory"),
        ("script.py", "no metrics can be kept in script.py: there is another file"),
    ],
)
def test_a_file_that_can_not_be_kept_is_refused(elrun, script, path, words):
    """Before any worker is started."""
    job = elrun("--standalone", "--metrics-file", path, script("print('started')"))

    code, out, err = job.finish()

    assert (2, "", True) == (code, out, words in err), err


def test_without_the_library_the_option_is_refused(tmp_path):
    """A sentence says what to install; a job that asks for nothing needs nothing."""
    (tmp_path / "x.py").write_text("print('started')")
    text = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from elrun.launcher.cli import run\nsys.exit(run(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", text, "--standalone"]

    def run(*words):
        return subprocess.run(
            [*command, *words, "x.py"], cwd=tmp_path, capture_output=True, text=True, check=False
        )

    refused, plain = run("--metrics-port", "0"), run()

    assert (2, "") == (refused.returncode, refused.stdout)
    assert refused.stderr == (
        "elrun: --metrics-port needs the package prometheus-client: pip install 'elrun[metrics]'\n"
    )
    assert (0, "started\n") == (plain.returncode, plain.stdout)


def test_a_thousand_questions_do_the_agent_no_harm(elrun, script, vacant_endpoint):
    """Nor do clients that say nothing, or nonsense."""
    _, _, port = vacant_endpoint.rpartition(":")
    job = elrun("--standalone", "--metrics-port", port, script(HANG))
    job.wait_for_line("ready")
    url = f"http://127.0.0.1:{port}/metrics"
    with contextlib.ExitStack() as silent:
        for number in range(200):
            client = silent.enter_context(socket.create_connection(("127.0.0.1", int(port))))
            if number % 2:
                with contextlib.suppress(OSError):
                    client.sendall(b"\0" * 100)
        sizes = {len(asked(url)[1]) // 1_000 for _ in range(200)}
    job.signal(signal.SIGTERM)

    code, _, err = job.finish()
    assert (143, True) == (code, max(sizes) < 20), err
    assert "Traceback" not in err
