"""One node: a worker group kept running through rounds.

The public names are loaded when they are first used.
"""

from ..rendezvous.lazily import names_elsewhere

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


__getattr__, __dir__ = names_elsewhere(__name__, __name__, _HOME_OF)
