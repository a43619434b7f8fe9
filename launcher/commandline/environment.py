"""The launcher's environment as a value; no other module of the launcher reads it."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager

from ...rendezvous.api.parameters import SECRET_VARIABLE
from ...rendezvous.named_tuple import NamedTuple
from .arguments import variable_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

DEFAULT_SHUTDOWN_TIMEOUT_S = 30.0

_SIGNALS_TO_HANDLE = "TORCHELASTIC_SIGNALS_TO_HANDLE"

COLLECTOR_VARIABLES = (
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT",
)
"""Each names a collector of OpenTelemetry's."""


class Environment(NamedTuple):
    """The launcher's environment, read once.

    Args:
        variables: All of it, by name.
    """

    variables: Mapping[str, str]

    def __repr__(self) -> str:
        return "Environment()"  # it may hold secrets

    @staticmethod
    def current() -> Environment:
        """Return this process's environment as it is now."""
        return Environment(dict(os.environ))

    def default_of(self, option: str) -> str | None:
        """Return what ``PET_…`` says for an option; a variable that is empty says nothing."""
        return self.variables.get(variable_of(option)) or None

    @property
    def python(self) -> str:
        """The interpreter that runs Python scripts: ``PYTHON_EXEC``, else the launcher's own."""
        return self.variables.get("PYTHON_EXEC") or sys.executable

    @property
    def search_path(self) -> str:
        """The folders in which a command is looked for."""
        return self.variables.get("PATH", os.defpath)

    @property
    def log_level(self) -> str:
        """``LOGLEVEL``: the least level of elrun's own log lines that is shown."""
        return self.variables.get("LOGLEVEL") or "WARNING"

    @property
    def has_collector(self) -> bool:
        """Whether ``OTEL_…`` says where spans and events go."""
        is_off = self.variables.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
        return not is_off and any(map(self.variables.get, COLLECTOR_VARIABLES))

    @property
    def rendezvous_secret(self) -> bytes:
        """``ELRUN_RDZV_SECRET``: what the nodes of a job know and nobody else; may be empty."""
        return self.variables.get(SECRET_VARIABLE, "").strip().encode("utf-8", "surrogateescape")

    def secret_setting(self) -> dict[str, Any]:
        """Return that secret as a setting of the rendezvous; nothing, where there is none."""
        value = self.rendezvous_secret
        if not value:
            return {}
        from ...rendezvous.stores.signed import Secret  # few jobs have one

        return {"secret": Secret(value)}

    @property
    def log_line_prefix_template(self) -> str | None:
        """``TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE``."""
        return self.variables.get("TORCHELASTIC_LOG_LINE_PREFIX_TEMPLATE") or None

    @property
    def has_shutdown_timeout(self) -> bool:
        """Whether ``TORCH_ELASTIC_SHUTDOWN_TIMEOUT`` is set."""
        return bool(self.variables.get("TORCH_ELASTIC_SHUTDOWN_TIMEOUT"))

    @property
    def shutdown_timeout_s(self) -> float:
        """``TORCH_ELASTIC_SHUTDOWN_TIMEOUT``, else 30.

        Raises:
            ValueError: It is no number of seconds.
        """
        from ...agent.system.environ import seconds_of  # only what launches needs it

        name = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
        return seconds_of(name, self.variables, DEFAULT_SHUTDOWN_TIMEOUT_S)

    @property
    def signals_to_handle(self) -> str:
        """``TORCHELASTIC_SIGNALS_TO_HANDLE``, else the signals that end a job by default."""
        from ...agent.system.signals import DEFAULT_SIGNALS  # only a config that names none

        return self.variables.get(_SIGNALS_TO_HANDLE) or DEFAULT_SIGNALS

    @property
    def exit_barrier_timeout_s(self) -> float:
        """``TORCH_ELASTIC_EXIT_BARRIER_TIMEOUT``, else 300.

        Raises:
            ValueError: It is no number of seconds.
        """
        from ...agent.system.environ import exit_barrier_timeout_of  # only what launches needs it

        return exit_barrier_timeout_of(self.variables)


def tell_later_agents(signals: str) -> None:
    """Say which signals end a job, to agents that this program or a worker makes by itself.

    Args:
        signals: Their names, separated by commas.
    """
    os.environ[_SIGNALS_TO_HANDLE] = signals


@contextmanager
def variables_set(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables of this process, which workers inherit, while the body runs."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
