"""Stores over a real etcd, each test in a part of its own."""

from elrun.rendezvous.api.parameters import RendezvousParameters
from elrun.rendezvous.stores.etcd.settings import etcd_settings
from elrun.rendezvous.stores.etcd.v2 import EtcdV2Store
from elrun.rendezvous.stores.etcd.v2_client import Member
from elrun.rendezvous.stores.etcd.v3 import EtcdV3Store
from elrun.rendezvous.stores.etcd.v3_client import Gateway

KINDS = {"etcd-v2": (EtcdV2Store, Member), "etcd-v3": (EtcdV3Store, Gateway)}
RUN = "run/it"


class EtcdClients:
    """Opens connections, and closes those that a test left open."""

    def __init__(self, backend, endpoint, prefix="/elrun/", **config):
        self.store, self.client = KINDS[backend]
        self.settings = etcd_settings(RendezvousParameters(backend, endpoint, "it", 1, 1, **config))
        self.prefix = prefix
        self.opened = []

    def clients(self):
        return [self.client(self.settings, endpoint) for endpoint in self.settings.endpoints]

    def connect(self, clients=None, **options):
        store = self.store(
            self.settings.name, clients or self.clients(), RUN, prefix=self.prefix, **options
        )
        self.opened.append(store)
        store.open()
        return store

    def close(self):
        for store in self.opened:
            store.close()
