"""Uses of the public API as a user's code has them: mypy reads this file, and nothing runs it.

``assert_type`` states what a type checker sees. A ``type: ignore`` with a code states that a wrong
use is an error: mypy complains about an ignore that hides none.
"""

import signal
from collections.abc import Mapping
from typing import Any

import elrun.rendezvous
from elrun.agent import (
    AffinityMode,
    Causes,
    ChildFailedError,
    ConsoleMetricHandler,
    DefaultLogsSpecs,
    ElasticAgent,
    ErrorHandler,
    HealthCheckServer,
    LocalElasticAgent,
    LogsDest,
    LogsSpecs,
    MetricHandler,
    MetricsConfig,
    MetricStream,
    MultiprocessContext,
    NullMetricHandler,
    NumaOptions,
    PContext,
    Preempted,
    ProcessFailure,
    RestartRules,
    RunProcsResult,
    RunResult,
    SignalException,
    SimpleElasticAgent,
    Std,
    SubprocessContext,
    Worker,
    WorkerGroup,
    WorkerSpec,
    WorkerState,
    construct_and_record_rdzv_event,
    create_healthcheck_server,
    events,
    get_error_handler,
    get_logging_handler,
    metrics,
    prof,
    publish_metric,
    put_metric,
    record_rdzv_event,
    start_processes,
    timers,
    to_map,
)
from elrun.agent import record as agent_record
from elrun.agent.events import Event, EventMetadataValue, EventSource, NodeState, RdzvEvent
from elrun.agent.timers import (
    FileTimerClient,
    FileTimerRequest,
    FileTimerServer,
    LocalTimerClient,
    LocalTimerServer,
    MultiprocessingRequestQueue,
    RequestQueue,
    TimerClient,
    TimerRequest,
    TimerServer,
)
from elrun.launcher import (
    config_from_args,
    determine_local_world_size,
    get_args_parser,
    main,
    parse_args,
    parse_min_max_nnodes,
    run,
)
from elrun.rendezvous import (
    EtcdServer,
    NodeProfile,
    Placement,
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousError,
    RendezvousGracefulExitError,
    RendezvousHandler,
    RendezvousHandlerCreator,
    RendezvousHandlerRegistry,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStateError,
    RendezvousStoreInfo,
    RendezvousTimeoutError,
    RoundHandler,
    Verdict,
    VerdictKind,
    get_rendezvous_handler,
    rendezvous_handler_registry,
)
from typing_extensions import assert_type

import elrun
from elrun import (
    ElrunError,
    LaunchConfig,
    UsageError,
    elastic_launch,
    heartbeat,
    launch_agent,
    notebook_launch,
    preemption,
    record,
)

# Launching.


def estimate(samples: int, *, seed: int = 0) -> float:
    return samples / (seed + 1)


def launch() -> None:
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=2,
        nproc_per_node=2,
        rdzv_backend="c10d",
        rdzv_endpoint="node1:29400",
        rdzv_configs={"join_timeout": 60},
        logs_specs=DefaultLogsSpecs(log_dir="logs", redirects=Std.ALL, tee={0: Std.OUT}),
        numa_options=NumaOptions(AffinityMode.NODE, should_fall_back_if_binding_fails=True),
        restart_rules=RestartRules(never_on=Causes.parse("2,SIGSEGV"), delay_s=1.5),
        shutdown_timeout=30,
        hang_timeout=600,
        preempt_signal="USR1",
        grace=60,
        hang_log_pattern="step",
    )
    heartbeat()
    assert_type(preemption().pending, bool)
    assert_type(preemption().seconds_left, float | None)
    assert_type(elastic_launch(config, estimate)(1000), dict[int, Any])
    assert_type(notebook_launch(estimate, (1000,), nproc=2), dict[int, Any])
    assert_type(launch_agent(config, "train.py", ["--steps", "10"]), dict[int, Any])
    LaunchConfig(min_nodes="1", max_nodes=1, nproc_per_node=1)  # type: ignore[arg-type]
    LaunchConfig(1, 1, 1, max_restart=3)  # type: ignore[call-arg]
    elastic_launch(config, 7)  # type: ignore[arg-type]


@record
def train(steps: int) -> str:
    return "done" * steps


@agent_record
def train_too() -> None: ...


def call_recorded() -> None:
    assert_type(train(3), str | None)
    train("3")  # type: ignore[arg-type]


def errors() -> str:
    try:
        launch()
    except UsageError as refused:
        return str(refused)
    except ChildFailedError as failed:
        rank, first = failed.get_first_failure()
        assert_type(rank, int)
        assert_type(first, ProcessFailure)
        assert_type(failed.failures, dict[int, ProcessFailure])
        return failed.format_msg()
    except Preempted as preempted:
        assert_type(preempted.node, str)
        assert_type(preempted.failures, tuple[str, ...])
    except SignalException as stopped:
        assert_type(stopped.sigval, signal.Signals)
    except ElrunError as error:
        return str(error)
    return elrun.__version__


def as_torchrun_s_library() -> None:
    args = parse_args(["--nnodes", "2", "train.py"])
    config, entrypoint, arguments = config_from_args(args)
    assert_type(config, LaunchConfig)
    elastic_launch(config, entrypoint)(*arguments)
    get_args_parser().print_help()
    assert_type(parse_min_max_nnodes("2:4"), tuple[int, int])
    assert_type(determine_local_world_size("auto"), int)
    run(args)
    main(["--standalone", "train.py"])


# A rendezvous of a user's own.


class FixedRendezvous(RendezvousHandler):
    def __init__(self, params: RendezvousParameters) -> None:
        self.run_id = params.run_id
        assert_type(params.get_as_int("port", 29400), int | None)
        assert_type(params.get_as_bool("verbose"), bool | None)

    def get_backend(self) -> str:
        return "fixed"

    def next_rendezvous(self) -> RendezvousInfo:
        where = RendezvousStoreInfo.build(0, {}, None)
        assert_type(where.master_addr, str)
        assert_type(where.master_port, int)
        return RendezvousInfo({}, 0, 1, where)

    def is_closed(self) -> bool:
        return False

    def set_closed(self) -> None: ...

    def num_nodes_waiting(self) -> int:
        return 0

    def get_run_id(self) -> str:
        return self.run_id

    def shutdown(self) -> bool:
        return True


class Incomplete(RendezvousHandler):
    def get_backend(self) -> str:
        return "incomplete"


def rendezvous() -> Placement | None:
    Incomplete()  # type: ignore[abstract]
    creator: RendezvousHandlerCreator = FixedRendezvous
    rendezvous_handler_registry.register("fixed", creator)
    registry = RendezvousHandlerRegistry()
    registry.register("fixed", FixedRendezvous)
    params = RendezvousParameters("fixed", "", "job", 1, 1, local_addr="node1", port=1)
    handler = get_rendezvous_handler(params)
    assert_type(handler, RendezvousHandler)
    try:
        info = handler.next_rendezvous()
    except (RendezvousTimeoutError, RendezvousConnectionError, RendezvousStateError):
        raise
    except (RendezvousClosedError, RendezvousGracefulExitError):
        return None
    except RendezvousError as error:
        raise ElrunError(str(error)) from error
    assert_type(info.rank, int)
    assert_type(info.bootstrap_store_info, RendezvousStoreInfo | None)
    if isinstance(handler, RoundHandler):
        handler.describe(NodeProfile(local_world_size=8, max_restarts=3))
        verdict = handler.conclude(Verdict(VerdictKind.WORKER_FAILED, by=info.rank))
        assert_type(verdict.lost, tuple[int, ...])
    with EtcdServer() as etcd:
        assert_type(etcd.get_endpoint(), str)
    print(elrun.rendezvous.get_rendezvous_handlers)  # type: ignore[attr-defined]
    return info.placement


# An agent of a user's own.


class RemoteAgent(SimpleElasticAgent):
    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        return {worker.local_rank: worker.global_rank for worker in worker_group.workers}

    def _stop_workers(self, worker_group: WorkerGroup) -> None: ...

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        failure = ProcessFailure(local_rank=0, pid=1, exitcode=1, error_file="")
        return RunResult(state=WorkerState.FAILED, failures={0: failure})

    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, timeout: float = 30) -> None:
        assert_type(self._remaining_restarts, int)
        assert_type(self._worker_group, WorkerGroup)


def agents(handler: RendezvousHandler) -> ElasticAgent:
    spec = WorkerSpec("trainer", 8, handler, entrypoint=estimate, args=(1000,), max_restarts=3)
    agent: ElasticAgent = RemoteAgent(spec)
    result = agent.run()
    assert_type(result.is_failed(), bool)
    assert_type(result.return_values, dict[int, Any])
    assert_type(agent.get_worker_group().state, WorkerState)
    assert_type(WorkerState.is_running(WorkerState.HEALTHY), bool)
    assert_type(Worker(local_rank=0).role_rank, int)
    return LocalElasticAgent(spec, DefaultLogsSpecs())


class PlainLogs(LogsSpecs):
    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        return LogsDest(stdouts={rank: f"{rank}.log" for rank in envs})

    @property
    def root_log_dir(self) -> str:
        return "logs"


def processes() -> None:
    context = start_processes("trainer", estimate, {0: (1,)}, {0: {}}, PlainLogs())
    assert_type(context, PContext)
    if isinstance(context, SubprocessContext | MultiprocessContext):
        assert_type(context.pids(), dict[int, int])
    result = context.wait(timeout=10)
    assert_type(result, RunProcsResult | None)
    context.close(signal.SIGTERM, 30)
    assert_type(to_map(Std.from_str("0:1,1:3"), 2), dict[int, Std])
    handler = get_error_handler()
    assert_type(handler, ErrorHandler)
    handler.record_exception(ValueError("no"))


# Events, metrics, timers, health.


def observe() -> None:
    metadata: Mapping[str, EventMetadataValue] = {"rank": 1}
    event = Event("restart", EventSource.AGENT, metadata=dict(metadata))
    assert_type(event.serialize(), str)
    events.record(event, "console")
    event_of_round = RdzvEvent("node1", "run", "joined", "node1", 4711, NodeState.RUNNING)
    record_rdzv_event(event_of_round, "console")
    construct_and_record_rdzv_event("run", "joined", NodeState.SUCCEEDED)
    get_logging_handler("console")
    events.close("console", 5)
    print(events.recrod)  # type: ignore[attr-defined]


class Counter(MetricHandler):
    def emit(self, metric_data: metrics.MetricData) -> None:
        assert_type(metric_data.value, int)


@prof
def step(batch: int) -> int:
    return batch


@prof(group="trainer")
def epoch() -> None: ...


def measure() -> None:
    metrics.configure(Counter(), group="trainer")
    metrics.configure(ConsoleMetricHandler())
    metrics.initialize_metrics(MetricsConfig({"trainer": "console"}))
    MetricStream("trainer", NullMetricHandler()).add_value("steps", 1)
    put_metric("steps", 1, "trainer")
    publish_metric("trainer", "steps", 1)
    assert_type(step(3), int)
    put_metric("steps", "1")  # type: ignore[arg-type]


class Recorder(TimerClient):
    def acquire(self, scope_id: str, expiration_time: float) -> None: ...

    def release(self, scope_id: str) -> None: ...


def guard(queue: Any) -> None:
    timers.configure(FileTimerClient("pipe", signal.SIGKILL))
    with timers.expires(after=60, scope="all-reduce", client=Recorder()):
        step(1)
    servers: list[TimerServer] = [LocalTimerServer(queue, max_interval=1)]
    requests: RequestQueue = MultiprocessingRequestQueue(queue)
    assert_type(requests.get(1, 0.5), list[TimerRequest])
    assert_type(FileTimerRequest(4711, "all-reduce", 1.0).to_json(), str)
    LocalTimerClient(queue).release("all-reduce")
    FileTimerServer("pipe", "run").start()
    servers[0].stop()
    timers.expires(after="60")  # type: ignore[arg-type]


def health() -> HealthCheckServer:
    return create_healthcheck_server(lambda: 0.0, 8080, 60)
