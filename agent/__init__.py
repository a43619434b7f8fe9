"""One node: a worker group kept running through rounds.

The public names are loaded when they are first used.
"""

from ..rendezvous.lazy import names_elsewhere

_HOME_OF = {
    "AffinityMode": ".hardware.numa",
    "ChildFailedError": ".failures.failure",
    "ConsoleMetricHandler": ".metrics",
    "DefaultLogsSpecs": ".output.specs",
    "ElasticAgent": ".elastic.agent",
    "ErrorHandler": ".failures.record",
    "Event": ".events.model",
    "EventMetadataValue": ".events.model",
    "EventSource": ".events.model",
    "HealthCheckServer": ".monitoring.health",
    "LocalElasticAgent": ".elastic.local",
    "LogsDest": ".output.specs",
    "LogsSpecs": ".output.specs",
    "MetricHandler": ".metrics",
    "MetricStream": ".metrics",
    "MetricsConfig": ".metrics",
    "MultiprocessContext": ".processes.function_context",
    "NodeState": ".events.model",
    "NullMetricHandler": ".metrics",
    "NumaOptions": ".hardware.numa",
    "PContext": ".processes.start",
    "ProcessFailure": ".failures.failure",
    "RdzvEvent": ".events.model",
    "RunProcsResult": ".processes.start",
    "RunResult": ".workers.worker",
    "SignalException": ".system.signals",
    "SimpleElasticAgent": ".elastic.agent",
    "Std": ".output.specs",
    "SubprocessContext": ".processes.command_context",
    "Worker": ".workers.worker",
    "WorkerGroup": ".workers.worker",
    "WorkerSpec": ".workers.worker",
    "WorkerState": ".workers.worker",
    "_RoleInstanceInfo": ".workers.ranks",
    "construct_and_record_rdzv_event": ".events.model",
    "create_healthcheck_server": ".monitoring.health",
    "get_error_handler": ".failures.record",
    "get_logging_handler": ".events.handlers",
    "prof": ".metrics",
    "publish_metric": ".metrics",
    "put_metric": ".metrics",
    "record": ".failures.record",
    "record_rdzv_event": ".events.model",
    "start_processes": ".processes.start",
    "to_map": ".output.specs",
}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605  one list of names, not two


__getattr__, __dir__ = names_elsewhere(__name__, __name__, _HOME_OF)
