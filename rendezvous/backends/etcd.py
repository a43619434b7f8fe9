"""The backends over etcd: ``etcd-v3``, ``etcd-v2``, and the latter's old name ``etcd``."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from ..api.handler import RoundHandler
from ..api.parameters import RendezvousParameters
from ..errors import RendezvousError
from ..logs import Log
from ..network.addresses import Endpoint
from ..network.hosts import address_now, published_address
from ..node.rendezvous import RoundRendezvous
from ..protocol.keys import RunKeys
from ..protocol.timing import timing_of
from ..stores.etcd.etcd_store import Client, EtcdStore, lease_for
from ..stores.etcd.settings import EtcdSettings, etcd_settings
from ..stores.store import Connection

log = Log(__name__)

_C = TypeVar("_C", bound=Client)


def rounds_over(
    params: RendezvousParameters,
    make_client: Callable[[EtcdSettings, Endpoint], _C],
    make_store: Callable[[str, Sequence[_C], str, float, int], EtcdStore[_C]],
) -> RoundRendezvous:
    """Return the rendezvous over etcd; nothing is connected before the first round is joined.

    Args:
        params: What the backend is constructed from; see ``etcd_settings`` and ``timing_of``.
        make_store: Makes the store of etcd's name, its members' clients, the run's first key, and
            for how many seconds a call is tried and the run's keys outlast its nodes.

    Raises:
        ValueError: The endpoint is none, or a setting is not what it should be.
    """
    settings = etcd_settings(params)
    timing = timing_of(params)
    lease_s = lease_for(timing.store_patience_s)
    timing = timing._replace(afterlife_s=lease_s)
    run = RunKeys(params.run_id).prefix

    def connect(stop: threading.Event) -> Connection:
        clients = [make_client(settings, endpoint) for endpoint in settings.endpoints]
        store = make_store(settings.name, clients, run, timing.store_patience_s, lease_s)
        try:
            store.open(stop, timing.join_timeout_s)
        except RendezvousError:
            store.close()
            raise

        return Connection(
            store,
            published_address(settings.endpoints[store.member], params.local_addr),
            address_now=lambda: address_now(store.member_address, params.local_addr),
        )

    return RoundRendezvous(params, connect, timing)


def create_etcd_v2(params: RendezvousParameters) -> RoundHandler:
    """Return the rendezvous over etcd's v2 API; see ``rounds_over``."""
    from ..stores.etcd.v2 import EtcdV2Store  # a job needs one of the two
    from ..stores.etcd.v2_client import Member

    return rounds_over(params, Member, EtcdV2Store)


def create_etcd(params: RendezvousParameters) -> RoundHandler:
    """Return the same under its old name, with a notice that it is old."""
    log.warning("--rdzv-backend etcd is deprecated: give etcd-v2, or etcd-v3 if your etcd is 3.4+")
    return create_etcd_v2(params)


def create_etcd_v3(params: RendezvousParameters) -> RoundHandler:
    """Return the rendezvous over etcd's v3 API; see ``rounds_over``."""
    from ..stores.etcd.v3 import EtcdV3Store  # a job needs one of the two
    from ..stores.etcd.v3_client import Gateway

    return rounds_over(params, Gateway, EtcdV3Store)
