"""OpenTelemetry: spans and events of real jobs, as a collector gets them over OTLP/HTTP."""

import gzip
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import UserDict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from elrun.agent.events.telemetry import Occurrence, TelemetrySender
from job_kit import until

pytest.importorskip("opentelemetry.sdk", reason="there is no opentelemetry-sdk")
pytest.importorskip(
    "opentelemetry.exporter.otlp.proto.http", reason="there is no exporter of OpenTelemetry's"
)

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

FAILS_ONCE = """
import os, signal
os.write(1, os.environ["TRACEPARENT"].encode() + b"\\n")
if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0" and os.environ["RANK"] == "1":
    raise ValueError("no luck \\udcff")
"""
SAYS_SO = "import os; os.write(1, b'ready\\n')"
HANGS = f"{SAYS_SO}; import signal; signal.pause()"
PARENT = f"00-{'ab' * 16}-{'cd' * 8}-01"


def value_of(value):
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [value_of(each) for each in value.array_value.values]
    return getattr(value, kind)


def attributes_of(owner):
    return {each.key: value_of(each.value) for each in owner.attributes}


class Collector(ThreadingHTTPServer):
    """Takes what is sent over OTLP/HTTP, and decodes it.

    Args:
        status: What it answers.
        holds: Whether it lets its clients wait for an answer until it is closed.
    """

    def __init__(self, status=200, *, holds=False):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = status
        self.holds = holds
        self.is_closing = threading.Event()
        self.spans, self.logs, self.resources, self.asked = [], [], [], []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def named(self, name):
        return [each for each in self.spans if each.name == name]

    def take(self, path, data):
        if path == "/v1/traces":
            for group in ExportTraceServiceRequest.FromString(data).resource_spans:
                self.resources.append(attributes_of(group.resource))
                self.spans += [span for scope in group.scope_spans for span in scope.spans]
        if path == "/v1/logs":
            for group in ExportLogsServiceRequest.FromString(data).resource_logs:
                self.logs += [log for scope in group.scope_logs for log in scope.log_records]

    def close(self):
        self.is_closing.set()
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(self.path)
        if self.server.holds:
            self.server.is_closing.wait()
            return
        if self.headers.get("Content-Encoding") == "gzip":
            data = gzip.decompress(data)
        if self.server.status == 200:
            self.server.take(self.path, data)
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(name="collector")
def _collector():
    collector = Collector()
    yield collector
    collector.close()


def test_a_job_with_a_restart_is_a_trace(elrun, script, collector):
    """The job, each way into a round, each attempt, each worker; decisions are events."""
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    options = ("--standalone", "--nproc-per-node", 2, "--max-restarts", 1, "--rdzv-id", "traced")

    code, out, err = elrun(*options, script(FAILS_ONCE), env=env).finish()

    assert (0, False) == (code, "OpenTelemetry" in err), err
    (job,) = collector.named("job")
    attempts, workers = collector.named("attempt"), collector.named("worker")
    assert (2, 2, 4) == (len(collector.named("rendezvous")), len(attempts), len(workers))
    assert {job.trace_id} == {span.trace_id for span in collector.spans}
    assert {job.span_id} == {span.parent_span_id for span in attempts}
    assert {span.span_id for span in attempts} == {span.parent_span_id for span in workers}
    assert b"" == job.parent_span_id
    assert all(0 < span.start_time_unix_nano <= span.end_time_unix_nano for span in collector.spans)
    seen = {line for line in out.splitlines() if line.startswith("00-")}
    assert {f"00-{job.trace_id.hex()}-{each.span_id.hex()}-01" for each in attempts} == seen
    about = attributes_of(job)
    assert ("traced", "script.py", "succeeded", 0) == (
        about["elrun.run_id"],
        about["elrun.name"],
        about["elrun.state"],
        about["process.exit.code"],
    )
    assert Status.STATUS_CODE_UNSET == job.status.code


def test_a_failure_and_a_decision_are_told_by_the_conventions(elrun, script, collector):
    """With ``exception.…`` and ``process.…``, in the span and as log records of it."""
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    options = ("--standalone", "--nproc-per-node", 2, "--max-restarts", 1)

    elrun(*options, script(FAILS_ONCE), env=env).finish()

    first = min(collector.named("attempt"), key=lambda each: each.start_time_unix_nano)
    assert Status.STATUS_CODE_ERROR == first.status.code
    assert "ValueError: no luck" in first.status.message
    decision, exception = first.events
    assert ("elrun.decision", "exception") == (decision.name, exception.name)
    assert "restart" == attributes_of(decision)["elrun.decision"]
    about = attributes_of(exception)
    assert ("builtins.ValueError", 1) == (about["exception.type"], about["elrun.rank"])
    assert about["exception.stacktrace"].startswith("Traceback (most recent call last)")
    (failed,) = [each for each in collector.named("worker") if each.status.code]
    assert (1, 1, "builtins.ValueError") == tuple(
        attributes_of(failed)[name] for name in ("elrun.rank", "process.exit.code", "error.type")
    )
    names = [each.event_name for each in sorted(collector.logs, key=lambda e: e.time_unix_nano)]
    begin = ["elrun.joining", "elrun.joined", "elrun.running"]
    assert [*begin, "elrun.decision", "elrun.worker.failed", *begin] == names[:8]
    assert "elrun.end" == names[-1]
    (log,) = [each for each in collector.logs if each.event_name == "elrun.worker.failed"]
    assert ("ERROR", failed.trace_id) == (log.severity_text, log.trace_id)
    assert log.span_id == first.span_id


def test_names_of_the_user_go_before_elrun_s(elrun, script, collector):
    """For the service, the span in which elrun runs, and what is to be sent."""
    env = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.url}/v1/traces",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_SERVICE_NAME": "training",
        "OTEL_RESOURCE_ATTRIBUTES": "team=vision",
        "TRACEPARENT": PARENT,
    }

    code = elrun("--standalone", script(SAYS_SO), env=env).finish()[0]

    (job,) = collector.named("job")
    assert (0, []) == (code, collector.logs)
    assert ("ab" * 16, "cd" * 8) == (job.trace_id.hex(), job.parent_span_id.hex())
    (about, *_) = collector.resources
    assert ("training", "vision") == (about["service.name"], about["team"])
    assert about["host.name"] == os.uname().nodename


def test_a_job_that_is_stopped_has_its_spans_sent(elrun, script, collector):
    """Also those of workers that were still running."""
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
    job = elrun("--standalone", script(HANGS), env=env)
    until(lambda: "elrun.running" in [each.event_name for each in collector.logs])
    job.signal(signal.SIGTERM)

    assert 143 == job.finish()[0]
    (span,) = collector.named("job")
    assert (1, "stopped") == (len(collector.named("worker")), attributes_of(span)["elrun.state"])
    assert Status.STATUS_CODE_ERROR == span.status.code


def dead_endpoint():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["dead", "refusing", "overloaded", "silent"])
def test_a_collector_in_trouble_neither_holds_nor_ends_a_job(elrun, script, kind):
    """One line says that spans are lost; the end waits for the time that is set, at most."""
    status = {"refusing": 400, "overloaded": 503}.get(kind, 200)
    collector = Collector(status, holds=kind == "silent")
    url = dead_endpoint() if kind == "dead" else collector.url
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": url, "ELRUN_OTEL_FLUSH_TIMEOUT": "3"}
    options = ("--standalone", "--nproc-per-node", 2, "--max-restarts", 1)
    try:
        code, out, err = elrun(*options, script(FAILS_ONCE), env=env).finish()
    finally:
        collector.close()

    lines = [line for line in err.splitlines() if "OpenTelemetry" in line]
    assert (0, 4, 1) == (code, out.count("00-"), len(lines)), err
    assert "spans and events are lost" in lines[0]
    assert not [word for word in ("urllib3", "Failed to export", "Transient") if word in err]


@pytest.mark.parametrize(
    ("status", "url", "words"),
    [
        (500, None, "/v1/traces answered 500 Internal Server Error"),
        (301, None, "/v1/traces answered 301 Moved Permanently"),
        (200, "http://user:secret@127.0.0.1:1", "http://127.0.0.1:1/v1/traces: Connection refused"),
        (200, "https", "/v1/traces: [SSL"),
        (200, "http://collector.invalid:4318", "http://collector.invalid:4318/v1/traces: "),
    ],
)
def test_the_line_about_a_collector_says_where_and_why(elrun, script, status, url, words):
    """Each kind of trouble has words of its own: the answer's status, or what the system said."""
    collector = Collector(status)
    if url == "https":
        url = collector.url.replace("http:", "https:")
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": url or collector.url, "OTEL_LOGS_EXPORTER": "none"}
    try:
        code, _, err = elrun("--standalone", script(SAYS_SO), env=env).finish()
    finally:
        collector.close()

    assert (0, True) == (code, words in err), err
    assert "elrun: OpenTelemetry's collector does not take what is sent: http" in err
    assert "secret" not in err


def test_a_silent_collector_is_waited_for_as_long_as_is_set(elrun, script):
    """Not at all, if that is 0: the job ends while the first request has no answer."""
    collector = Collector(holds=True)
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "ELRUN_OTEL_FLUSH_TIMEOUT": "0"}
    try:
        code = elrun("--standalone", script(SAYS_SO), env=env).finish()[0]
        is_held = not collector.is_closing.is_set()
    finally:
        collector.close()

    assert (0, True) == (code, is_held)


@pytest.mark.parametrize(
    ("env", "words"),
    [
        ({"OTEL_SDK_DISABLED": "true"}, None),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "elrun speaks http/protobuf alone, not grpc"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:4318"}, "_ENDPOINT is no URL: give one such"),
        ({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "collector"}, "_LOGS_ENDPOINT is no URL: give one"),
        ({"TRACEPARENT": f"{PARENT[:-2]}00"}, None),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, None),
    ],
)
def test_nothing_is_sent_that_is_not_wanted(elrun, script, collector, env, words):
    """The job runs as ever."""
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, **env}

    code, _, err = elrun("--standalone", script(SAYS_SO), env=env).finish()

    assert (0, []) == (code, collector.asked)
    assert words in err if words else err == "", err


def run_python(*words, env):
    """Run a program of Python's to its end."""
    command = [sys.executable, *map(str, words)]
    environ = {**os.environ, **env}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environ)


WITHOUT_PACKAGES = """
import sys
sys.modules["opentelemetry"] = None
from elrun.launcher.cli import run
sys.exit(run(sys.argv[1:]))
"""


def test_without_the_packages_a_job_runs_as_ever(script, collector, tmp_path):
    """The variables may be meant for the workers alone."""
    program = tmp_path / "without.py"
    program.write_text(WITHOUT_PACKAGES)

    done = run_python(
        program,
        "--standalone",
        script(SAYS_SO),
        env={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url},
    )

    assert (0, "", []) == (done.returncode, done.stderr, collector.asked)


def test_a_job_without_a_collector_loads_nothing_of_it(script, tmp_path):
    """Neither the packages nor elrun's own modules for them."""
    program = tmp_path / "lists.py"
    program.write_text(
        "import sys\nfrom elrun.launcher.cli import run\ncode = run(sys.argv[1:])\n"
        "print([name for name in sys.modules if 'telemetry' in name or 'job_spans' in name])\n"
    )

    done = run_python(program, "--standalone", script("pass"), env={})

    assert "[]\n" == done.stdout, done


class _Counted(UserDict):
    tries = 0

    def keys(self):
        self.tries += 1
        return super().keys()


def test_an_exporter_that_can_t_be_made_is_tried_once(monkeypatch):
    """Not anew with each event; one line says so."""
    monkeypatch.setenv("OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER", "odd")
    resource = _Counted(a="b")
    sender = TelemetrySender(os.environ, resource, 1, 60.0)

    for _ in range(5):
        sender.send([], [Occurrence("a", 1, {}, "a", is_problem=False, span_id=1)])
    sender.close()

    assert 1 == resource.tries
