"""A rendezvous for torchrun: nodes meet in a folder that all of them can see."""

import os

from torch.distributed import FileStore, TCPStore
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousStoreInfo,
)


class SharedFolder(RendezvousHandler):
    """A fixed number of nodes; the first to come hosts the store of the round.

    ``--rdzv-endpoint`` is the folder, ``--rdzv-conf greeting=…`` a line that the host prints.
    """

    def __init__(self, params):
        self._params = params
        self._rounds = 0
        self._store = None

    def get_backend(self):
        return "shared-folder"

    def get_run_id(self):
        return self._params.run_id

    def next_rendezvous(self):
        path = os.path.join(self._params.endpoint, f"{self.get_run_id()}.{self._rounds}")
        self._rounds += 1
        nodes = self._params.max_nodes
        board = FileStore(path, nodes)
        rank = board.add("seats", 1) - 1
        if rank == 0:
            self._store = TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
            board.set("port", str(self._store.port))
            os.write(2, f"{self._params.get('greeting', 'hello')}\n".encode())
        else:
            self._store = TCPStore("localhost", int(board.get("port")), wait_for_workers=False)
        info = RendezvousStoreInfo.build(rank, self._store, self._params.local_addr)
        return RendezvousInfo(self._store, rank, nodes, info)

    def is_closed(self):
        return False

    def set_closed(self):
        pass

    def num_nodes_waiting(self):
        return 0

    def shutdown(self):
        return True


def get_creator():
    return SharedFolder
