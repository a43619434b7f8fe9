"""What protects the connections of a store server: a secret, certificates, both, or nothing."""

from __future__ import annotations

from ...api.parameters import SECRET_VARIABLE, RendezvousParameters, tls_files
from ...named_tuple import NamedTuple
from ..signed import Secret, secret_of
from .hello import CROWDED, OTHER_RUN, Refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .tls import Tls

# The kinds of refusal, by the server except for the last one, which either side may find.
NO_SECRET_HERE = "secret-none"
SECRET_WANTED = "secret-wanted"
OTHER_SECRET = "secret-other"
NO_TLS_HERE = "tls-none"
TLS_WANTED = "tls-wanted"
TLS_FAILED = "tls-failed"

HOW_SECRET = f"--rdzv-conf secret_file=..., or {SECRET_VARIABLE}"
_HOW_TLS = "--rdzv-conf cacert=..., cert=..., key=..."

# A server with a secret tells strangers nothing of its run: the client makes the sentence.
_REASONS = {
    NO_SECRET_HERE: (
        "run {run!r} was started without a secret, and this node was given one: give all its nodes "
        f"the same ({HOW_SECRET}) or none, or this job a name of its own (--rdzv-id)"
    ),
    SECRET_WANTED: (
        "run {run!r} takes only nodes that know its secret, and this one was given none "
        f"({HOW_SECRET})"
    ),
    OTHER_SECRET: (
        "run {run!r} has another secret than this node: give all its nodes the same "
        f"({HOW_SECRET}), or this job a name of its own (--rdzv-id)"
    ),
    NO_TLS_HERE: (
        "run {run!r} was started without certificates, and this node was given one: give them to "
        f"all its nodes or to none ({_HOW_TLS})"
    ),
    TLS_WANTED: (
        "run {run!r} takes only nodes with a certificate, and this one was given none "
        f"({_HOW_TLS})"
    ),
    CROWDED: ("so many connections come there that this node's made room before its turn had come"),
    OTHER_RUN: (
        "it is the store of another run, and ends with that run; wait for its end, or give this "
        "job an endpoint of its own (another port in --rdzv-endpoint or --master-port)"
    ),
}


class Guard(NamedTuple):
    """What protects the connections of a job.

    Args:
        secret: Which both sides have to know; None: anybody may come.
        tls: Certificates; None: nothing is encrypted.
    """

    secret: Secret | None = None
    tls: Tls | None = None


def guard_of(params: RendezvousParameters) -> Guard:
    """Return what protects the connections of a job.

    Args:
        params: Settings: those of ``secret_of``, and ``cacert``, ``cert`` and ``key``: all or none.

    Raises:
        ValueError: A setting is not what it should be, or a file.
    """
    files = tls_files(params)
    if not any(files):
        return Guard(secret_of(params))
    missing = [name for name, path in zip(files._fields, files, strict=True) if not path]
    if missing:
        raise ValueError(
            f"--rdzv-conf {', '.join(f'{name}=...' for name in missing)}: give all of cacert, cert "
            "and key, since the nodes of a job check each other's certificates"
        )
    from .tls import Tls  # 20 ms of the start of a job without certificates

    return Guard(secret_of(params), Tls(files))


def explained(refusal: Refusal, run_id: str) -> Refusal:
    """Return a refusal with a sentence for the people of this run."""
    sentence = _REASONS.get(refusal.kind)
    if refusal.reason or sentence is None:  # the other side's words are shown as they came
        return refusal._replace(reason=refusal.reason or refusal.kind)
    return refusal._replace(reason=sentence.format(run=run_id))
