"""Which rendezvous the options ask for: backend, endpoint, run id and settings, or a refusal."""

from __future__ import annotations

from ...rendezvous.named_tuple import NamedTuple
from ..commandline.arguments import Given, Refusal
from ..commandline.converters import NodeRange
from ..commandline.options import STANDALONE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ...rendezvous.network.addresses import Endpoint

DEFAULT_MASTER_PORT = 29500

OWN_BACKENDS = (STANDALONE, "static", "c10d")

_ADDRESSES = ("master_addr", "master_port")


class Meeting(NamedTuple):
    """How the nodes of a job meet.

    Args:
        endpoint: Where; empty for one node.
        run_id: Name of the job; empty for one of its own.
        settings: The backend's own settings.
        notices: What the user should know, a sentence each.
    """

    backend: str
    endpoint: str
    run_id: str
    settings: Mapping[str, Any]
    notices: tuple[str, ...] = ()


def choose_meeting(given: Given) -> Meeting:
    """Return how the nodes meet.

    One node that was given no place to meet at needs none, whatever the backend's default.

    Raises:
        Refusal: The options contradict each other, or leave open where several nodes meet.
    """
    backend = given["rdzv_backend"]
    endpoints = _endpoints(given)
    if given["standalone"]:
        _check_standalone(given)
        return _alone(given)
    if backend == "static":
        return _static(given, endpoints)
    if backend == STANDALONE:
        _check_standalone(given)
        return _alone(given)
    if backend == "c10d" and given["nnodes"].maximum == 1:
        return _alone(given, _ignored(given, "node_rank", *_ADDRESSES))
    return _by_store(given, endpoints)


def is_own(backend: str) -> bool:
    """Return whether a backend is elrun's; plug-ins are sought elsewhere, which takes 20 ms."""
    return backend in OWN_BACKENDS or backend.startswith("etcd")


def _endpoints(given: Given) -> tuple[Endpoint, ...]:
    """Return where the nodes meet; a plug-in's endpoint is a text that only the plug-in reads."""
    text: str = given["rdzv_endpoint"] or ""
    if not text or not is_own(given["rdzv_backend"]):
        return ()
    from ...rendezvous.network.addresses import (
        EndpointError,
        parse_endpoints,
    )  # few jobs on one node have an endpoint

    try:
        return parse_endpoints(text)
    except EndpointError as error:
        raise Refusal(f"{given.said('rdzv_endpoint')}: {error.reason}") from error


def _alone(given: Given, notices: tuple[str, ...] = ()) -> Meeting:
    # A job that meets nobody gets a name of its own, as the default one is everybody's.
    run_id = given["rdzv_id"] if given.is_given("rdzv_id") else ""
    return Meeting(STANDALONE, "", run_id, given["rdzv_conf"], notices)


def _check_standalone(given: Given) -> None:
    if given["nnodes"].maximum > 1:
        raise Refusal(
            f"{given.said('nnodes')}: {_standalone_said(given)} is for one node; "
            "leave one of the two out"
        )


def _standalone_said(given: Given) -> str:
    return given.said("standalone" if given["standalone"] else "rdzv_backend")


def _static(given: Given, endpoints: tuple[Endpoint, ...]) -> Meeting:
    nodes: NodeRange = given["nnodes"]
    if nodes.minimum != nodes.maximum:
        raise Refusal(
            f"{given.said('nnodes')}: static rendezvous takes a fixed number of nodes; "
            "give --rdzv-backend c10d and --rdzv-endpoint HOST:PORT for a range"
        )
    if given["node_rank"] >= nodes.maximum:
        raise Refusal(
            f"{given.said('node_rank')}: with {given.said('nnodes')} give a rank from 0 to "
            f"{nodes.maximum - 1}"
        )
    host, port = _static_place(given, endpoints)
    if nodes.maximum == 1 and not port:
        return _alone(given)
    if not port:
        raise Refusal(f"{_place_said(given)}: port 0 is known to no other node; give a port")
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    settings = {**given["rdzv_conf"], "rank": given["node_rank"]}
    notices: tuple[str, ...] = ()
    if nodes.maximum > 1 and not given.is_given("node_rank"):
        # Two nodes that both take rank 0 would wait for each other's workers without a word.
        sentence = (
            f"this node takes rank 0 of {nodes.maximum}, as it was given no --node-rank; "
            "with static rendezvous give each node its own"
        )
        notices = (sentence,)
    return Meeting("static", place, given["rdzv_id"], settings, notices)


def _static_place(given: Given, endpoints: tuple[Endpoint, ...]) -> tuple[str, int | None]:
    nodes = given["nnodes"].maximum
    if len(endpoints) > 1:
        raise Refusal(f"{given.said('rdzv_endpoint')}: static rendezvous has one; give HOST:PORT")
    if endpoints:
        if not endpoints[0].has_port:
            raise Refusal(f"{given.said('rdzv_endpoint')}: the port is missing; give HOST:PORT")
        return endpoints[0]
    if nodes > 1 and not given.is_given("master_addr"):
        raise Refusal(
            f"{given.said('nnodes')}: say where the nodes meet; give --rdzv-backend c10d and "
            "--rdzv-endpoint HOST:PORT, or --master-addr HOST and --node-rank for static rendezvous"
        )
    port = given["master_port"]
    if port is None and nodes > 1:
        port = DEFAULT_MASTER_PORT
    return given["master_addr"], port


def _place_said(given: Given) -> str:
    return given.said("rdzv_endpoint" if given["rdzv_endpoint"] else "master_port")


def _by_store(given: Given, endpoints: tuple[Endpoint, ...]) -> Meeting:
    backend = given["rdzv_backend"]
    several = given["nnodes"].maximum > 1
    if several and not endpoints and is_own(backend):
        raise Refusal(
            f"{given.said('rdzv_backend')}: {given['nnodes']} nodes need a place to meet; "
            "give --rdzv-endpoint HOST:PORT"
        )
    if several and any(endpoint.port == 0 for endpoint in endpoints):
        raise Refusal(
            f"{given.said('rdzv_endpoint')}: port 0 is known to no other node; give a port"
        )
    settings = given["rdzv_conf"]
    if given.is_given("node_rank"):  # a wish, where the nodes agree on their ranks
        settings = {"rank": given["node_rank"], **settings}
    run_id = _name_in_store(given, shared=backend.startswith("etcd"), several=several)
    endpoint = ",".join(map(str, endpoints)) if is_own(backend) else given["rdzv_endpoint"] or ""
    return Meeting(backend, endpoint, run_id, settings, _ignored(given, *_ADDRESSES))


def _name_in_store(given: Given, *, shared: bool, several: bool) -> str:
    """Return the job's name in a store that it may share with jobs of other people."""
    if not shared or given.is_given("rdzv_id"):
        return str(given["rdzv_id"])
    if several:
        raise Refusal(
            f"{given.said('rdzv_backend')}: an etcd is shared by jobs, which their names tell "
            "apart; give --rdzv-id NAME, the same on all nodes of this job and on no others"
        )
    return ""


def _ignored(given: Given, *names: str) -> tuple[str, ...]:
    """Name what has no effect; variables may be set for all jobs of a site and are not named."""
    typed = [given.said(name) for name in names if given.is_typed(name)]
    if not typed:
        return ()
    return (f"{', '.join(typed)}: without effect, as the rendezvous is not static",)
