"""Says that a worker looked for its store at a port where no rank opens one.

A script that sets ``MASTER_PORT`` itself, or gives ``init_process_group`` an address, means a
store that rank 0 opens there. torch opens none in a worker whose TORCHELASTIC_USE_AGENT_STORE is
True: all ranks are clients, and wait until their time is up. They have lost nobody.
"""

from __future__ import annotations

from collections.abc import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
else:
    from .late_re import re

_ADDRESS = r"connect to (?:any network address of )?\([^(),]+, (\d{1,5})\)"
_BY_RENDEZVOUS = "in _create_c10d_store"
"""The function of torch's that opens the store, or doesn't; a script's own store isn't meant."""


def about_other_store(traceback: str, environment: Mapping[str, str]) -> str:
    """Return what is wrong about the port that a worker could not connect to; empty: nothing.

    Args:
        traceback: Of the exception that ended the worker.
        environment: What elrun has added to the worker's environment.
    """
    ports = re.findall(_ADDRESS, traceback) if _BY_RENDEZVOUS in traceback else ()
    host, own = environment.get("MASTER_ADDR", ""), environment.get("MASTER_PORT", "")
    has_store = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if not ports or own in ports or not has_store:
        return ""
    return (
        f"the workers' store is at {host}:{own} (MASTER_ADDR, MASTER_PORT); init_process_group "
        f"opens none at port {ports[-1]}, as TORCHELASTIC_USE_AGENT_STORE is True"
    )
