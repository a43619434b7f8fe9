"""One node: a worker group kept running through rounds.

The public names are loaded when they are first used.
"""

from importlib import import_module

_HOME_OF = {
    "AffinityMode": ".numa",
    "ChildFailedError": ".failure",
    "ConsoleMetricHandler": ".metrics",
    "DefaultLogsSpecs": ".logs",
    "ElasticAgent": ".agent",
    "ErrorHandler": ".error_file",
    "Event": ".events",
    "EventMetadataValue": ".events",
    "EventSource": ".events",
    "HealthCheckServer": ".health",
    "LocalElasticAgent": ".local",
    "LogsDest": ".logs",
    "LogsSpecs": ".logs",
    "MetricHandler": ".metrics",
    "MetricStream": ".metrics",
    "MetricsConfig": ".metrics",
    "MultiprocessContext": ".functions",
    "NodeState": ".events",
    "NullMetricHandler": ".metrics",
    "NumaOptions": ".numa",
    "PContext": ".processes",
    "ProcessFailure": ".failure",
    "RdzvEvent": ".events",
    "RunProcsResult": ".processes",
    "RunResult": ".worker",
    "SignalException": ".signals",
    "SimpleElasticAgent": ".agent",
    "Std": ".logs",
    "SubprocessContext": ".commands",
    "Worker": ".worker",
    "WorkerGroup": ".worker",
    "WorkerSpec": ".worker",
    "WorkerState": ".worker",
    "_RoleInstanceInfo": ".ranks",
    "construct_and_record_rdzv_event": ".events",
    "create_healthcheck_server": ".health",
    "get_error_handler": ".error_file",
    "get_logging_handler": ".events",
    "prof": ".metrics",
    "publish_metric": ".metrics",
    "put_metric": ".metrics",
    "record": ".error_file",
    "record_rdzv_event": ".events",
    "start_processes": ".processes",
    "to_map": ".logs",
}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605  one list of names, not two


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name], __name__), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
