"""One node: a worker group kept running through rounds.

The public names are loaded when they are first used.
"""

from ..rendezvous.lazy import names_elsewhere

TYPE_CHECKING = False  # for type checkers, which can't see names that are loaded late
if TYPE_CHECKING:
    from .elastic.agent import ElasticAgent as ElasticAgent
    from .elastic.agent import SimpleElasticAgent as SimpleElasticAgent
    from .elastic.local import LocalElasticAgent as LocalElasticAgent
    from .events.handlers import get_logging_handler as get_logging_handler
    from .events.model import Event as Event
    from .events.model import EventMetadataValue as EventMetadataValue
    from .events.model import EventSource as EventSource
    from .events.model import NodeState as NodeState
    from .events.model import RdzvEvent as RdzvEvent
    from .events.model import construct_and_record_rdzv_event as construct_and_record_rdzv_event
    from .events.model import record_rdzv_event as record_rdzv_event
    from .failures.failure import ChildFailedError as ChildFailedError
    from .failures.failure import ProcessFailure as ProcessFailure
    from .failures.record import ErrorHandler as ErrorHandler
    from .failures.record import get_error_handler as get_error_handler
    from .failures.record import record as record
    from .failures.restart_causes import Causes as Causes
    from .failures.restart_rules import RestartRules as RestartRules
    from .hardware.numa import AffinityMode as AffinityMode
    from .hardware.numa import NumaOptions as NumaOptions
    from .metrics import ConsoleMetricHandler as ConsoleMetricHandler
    from .metrics import MetricHandler as MetricHandler
    from .metrics import MetricsConfig as MetricsConfig
    from .metrics import MetricStream as MetricStream
    from .metrics import NullMetricHandler as NullMetricHandler
    from .metrics import prof as prof
    from .metrics import publish_metric as publish_metric
    from .metrics import put_metric as put_metric
    from .monitoring.health import HealthCheckServer as HealthCheckServer
    from .monitoring.health import create_healthcheck_server as create_healthcheck_server
    from .output.specs import DefaultLogsSpecs as DefaultLogsSpecs
    from .output.specs import LogsDest as LogsDest
    from .output.specs import LogsSpecs as LogsSpecs
    from .output.specs import Std as Std
    from .output.specs import to_map as to_map
    from .processes.command_context import SubprocessContext as SubprocessContext
    from .processes.function_context import MultiprocessContext as MultiprocessContext
    from .processes.start import PContext as PContext
    from .processes.start import RunProcsResult as RunProcsResult
    from .processes.start import start_processes as start_processes
    from .system.signals import Preempted as Preempted
    from .system.signals import SignalException as SignalException
    from .workers.ranks import _RoleInstanceInfo as _RoleInstanceInfo
    from .workers.worker import RunResult as RunResult
    from .workers.worker import Worker as Worker
    from .workers.worker import WorkerGroup as WorkerGroup
    from .workers.worker import WorkerSpec as WorkerSpec
    from .workers.worker import WorkerState as WorkerState

_HOME_OF = {
    "AffinityMode": ".hardware.numa",
    "Causes": ".failures.restart_causes",
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
    "RestartRules": ".failures.restart_rules",
    "RunProcsResult": ".processes.start",
    "RunResult": ".workers.worker",
    "Preempted": ".system.signals",
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

__all__ = list(_HOME_OF)  # one list of names, not two


if not TYPE_CHECKING:  # or a type checker takes every name for one that is there
    __getattr__, __dir__ = names_elsewhere(__name__, __name__, _HOME_OF)
