"""The parameters of a rendezvous backend, and the address that the workers get from it."""

from __future__ import annotations

from collections.abc import Iterable

from ..named_tuple import NamedTuple
from ..network.addresses import Endpoint, may_be_host, parse_endpoints

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, ClassVar

_MAX_RANK = (1 << 31) - 1
_MOST_FILE_BYTES = 1 << 20

SECRET_VARIABLE = "ELRUN_RDZV_SECRET"
"""The variable with the job's secret; elrun reads it and removes it for workers."""

_TRUE = frozenset({"1", "true", "t", "yes", "y", "on"})
_FALSE = frozenset({"0", "false", "f", "no", "n", "off"})


def truth_of(text: str) -> bool | None:
    """Return the truth value of a word; None if it is neither a yes nor a no.

    The same words count for the settings of a backend, for ``PET_*`` and for other variables.
    """
    word = text.strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None


def quoted(text: str) -> str:
    """Return text as it is, or in quotes where its ends would not be seen otherwise."""
    is_plain = text.isprintable() and text and not any(each in text for each in " '\"\\")
    return text if is_plain else repr(text)


class Kind(NamedTuple):
    """What a value from a user's program has to be, by what it can do: NumPy's numbers count.

    Args:
        attributes: It has one of them.
        wanted: What to give instead, for people.
    """

    attributes: tuple[str, ...]
    wanted: str


WHOLE_NUMBER = Kind(("__index__",), "a whole number")
SECONDS = Kind(("__index__", "__float__"), "a number of seconds")
TEXT = Kind(("isprintable",), "a text")
DICT = Kind(("keys",), "a dict")
ENTRYPOINT = Kind(("__call__", "isprintable"), "a command or a function")


def require(kind: Kind, *, or_none: bool = False, **values: object) -> None:
    """Make sure of what a user's program gave.

    Args:
        kind: What each has to be.
        or_none: Whether it may be None.
        **values: The values by the names that the user knows.

    Raises:
        ValueError: One is something else; the sentence names it, and what would be right.
    """
    for name, value in values.items():
        if or_none and value is None:
            continue
        owner = type(value) if isinstance(value, type) else value
        if not any(hasattr(owner, each) for each in kind.attributes):
            raise ValueError(f"{name}={value!r}: give {kind.wanted}")


def require_texts(wanted: str, **values: object) -> None:
    """Make sure that values are None, or several texts: nobody means the letters of one.

    Args:
        wanted: What to give instead, for people.
        **values: The values by the names that the user knows.

    Raises:
        ValueError: One is something else; the sentence names it, and what would be right.
    """
    for name, value in values.items():
        texts = value if isinstance(value, Iterable) and not isinstance(value, str) else (None,)
        if value is not None and not all(isinstance(each, str) for each in texts):
            raise ValueError(f"{name}={value!r}: give {wanted}")


class RendezvousParameters:
    """The parameters from which a backend makes its handler.

    Where a setting is something else than what it is read as, the methods ``get_as_…`` raise a
    ``ValueError`` that says what to give.

    Args:
        backend: Name of the backend.
        endpoint: ``host:port``, or several separated by commas; some backends need none.
        run_id: Name of the job.
        min_nodes: Fewest nodes of a round.
        max_nodes: Most nodes of a round.
        local_addr: Address of this node for the others; by default the backend finds it.
        **config: The settings of ``--rdzv-conf``.

    Raises:
        ValueError: The backend has no name, the numbers of nodes are no range, or a value is none
            of these.
    """

    def __init__(
        self,
        /,
        backend: str,
        endpoint: str,
        run_id: str,
        min_nodes: int,
        max_nodes: int,
        local_addr: str | None = None,
        **config: Any,
    ) -> None:
        require(TEXT, backend=backend)
        require(TEXT, or_none=True, endpoint=endpoint, local_addr=local_addr)
        require(WHOLE_NUMBER, min_nodes=min_nodes, max_nodes=max_nodes)
        if not backend:
            raise ValueError("the name of the rendezvous backend must not be empty")
        if min_nodes < 1:
            raise ValueError(f"min_nodes={min_nodes}: a job needs at least 1 node")
        if max_nodes < min_nodes:
            raise ValueError(f"max_nodes={max_nodes} is less than min_nodes={min_nodes}")
        if local_addr and not may_be_host(local_addr):
            raise ValueError(f"local_addr={local_addr!r}: give a host's name or address")
        self.backend = backend
        self.endpoint = endpoint
        self.run_id = run_id
        self.min_nodes = min_nodes
        self.max_nodes = max_nodes
        self.local_addr = local_addr
        self.config = config
        self._asked: set[str] = set()
        self._parsed: tuple[str, tuple[Endpoint, ...]] = "", ()

    def endpoints(self, default: Endpoint) -> tuple[Endpoint, ...]:
        """Return the endpoints as values, for a backend whose endpoints are hosts and ports.

        Args:
            default: The only one if none was given; its port is that of endpoints without one.

        Raises:
            ValueError: The text names none.
        """
        text = self.endpoint
        if not text:
            return (default,)
        if self._parsed[0] != text:
            self._parsed = text, parse_endpoints(text)
        return tuple(each.or_port(default.port) for each in self._parsed[1])

    def get(self, key: str, default: Any = None) -> Any:
        """Return the setting as it was given, or the default."""
        self._asked.add(key)
        return self.config.get(key, default)

    @property
    def asked(self) -> frozenset[str]:
        """The settings that were read so far; any other one in ``config`` is unknown."""
        return frozenset(self._asked)

    def get_as_bool(self, key: str, default: bool | None = None) -> bool | None:
        """Return the setting as a truth value."""
        value = self.get(key, default)
        if value is None or isinstance(value, bool):
            return value
        truth = truth_of(str(value))
        if truth is None:
            raise ValueError(f"--rdzv-conf {key}={value}: give true or false")
        return truth

    def get_as_int(self, key: str, default: int | None = None) -> int | None:
        """Return the setting as a whole number."""
        value = self.get(key, default)
        if value is None:
            return None
        try:
            return int(value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"--rdzv-conf {key}={value}: give a whole number") from error

    def get_as_rank(self, key: str) -> int | None:
        """Return the setting as a rank; None if it isn't given."""
        value = self.get_as_int(key)
        if value is not None and not 0 <= value <= _MAX_RANK:
            raise ValueError(f"--rdzv-conf {key}={value}: give a rank from 0 on")
        return value

    def get_as_seconds(self, key: str, default: float) -> float:
        """Return the setting as a duration in seconds."""
        value = self.get(key, default)
        try:
            seconds = float(value)
        except (TypeError, ValueError):
            seconds = -1.0
        if not seconds >= 0:
            raise ValueError(f"--rdzv-conf {key}={value}: give a number of seconds, 0 or more")
        return seconds


def read_file(setting: str, path: str) -> bytes:
    """Return what stands in a file that a setting names.

    Raises:
        ValueError: It can't be read.
    """
    try:
        with open(path, "rb") as file:
            return file.read(_MOST_FILE_BYTES)
    except OSError as error:
        raise ValueError(
            f"--rdzv-conf {setting}={path}: it can't be read: {error.strerror}"
        ) from error


_TLS_NAMES = ("cacert", "ca_cert"), ("cert", "ssl_cert"), ("key", "ssl_cert_key")
"""What each file of ``TlsFiles`` may be called: by elrun, and by torch's rendezvous over etcd."""


class TlsFiles(NamedTuple):
    """The files of a node's certificates, as PEM; empty where one isn't given.

    Args:
        cacert: Certificates of the authorities that vouch for the other side.
        cert: This node's certificate, with those between it and an authority.
        key: Its key, without a password.
    """

    cacert: str
    cert: str
    key: str


def tls_files(params: RendezvousParameters) -> TlsFiles:
    """Return the files that the settings ``cacert``, ``cert`` and ``key`` name.

    Raises:
        ValueError: One of them can't be read; the sentence has the name that the user gave.
    """
    paths = []
    for names in _TLS_NAMES:
        given = {name: str(value) for name in names if (value := params.get(name))}
        name, path = next(iter(given.items()), ("", ""))
        if path:
            read_file(name, path)
        paths.append(path)
    return TlsFiles(*paths)


class _Address(NamedTuple):
    master_addr: str
    master_port: int


class RendezvousStoreInfo(_Address):
    """Where the workers of one attempt find their torch store.

    Args:
        master_addr: Host name or address of the node of rank 0.
        master_port: TCP port there.
    """

    MASTER_ADDR_KEY: ClassVar[str] = "MASTER_ADDR"
    MASTER_PORT_KEY: ClassVar[str] = "MASTER_PORT"
    __slots__ = ()

    @staticmethod
    def build(
        rank: int, store: Any, local_addr: str | None, server_port: int | None = None
    ) -> RendezvousStoreInfo:
        """Return the address and port that group rank 0 chooses and writes to a store.

        Args:
            rank: Group rank of this node.
            store: A torch ``Store``, or anything with its ``set`` and blocking ``get``.
            local_addr: Address of this node; by default the address that its name resolves to.
            server_port: Port of a store that serves already; by default a free port.
        """
        from ..network.hosts import default_address  # rank 0's work only
        from ..network.ports import free_port

        if rank == 0:
            address = local_addr or default_address()
            port = server_port or free_port()
            store.set(RendezvousStoreInfo.MASTER_ADDR_KEY, address.encode())
            store.set(RendezvousStoreInfo.MASTER_PORT_KEY, str(port).encode())
        return RendezvousStoreInfo(
            store.get(RendezvousStoreInfo.MASTER_ADDR_KEY).decode(),
            int(store.get(RendezvousStoreInfo.MASTER_PORT_KEY).decode()),
        )
