"""The tree of errors: one root, and one for what the user gave."""

import pickle

import pytest
from elrun.agent import ChildFailedError, ProcessFailure, SignalException
from elrun.launcher.commandline.arguments import Refusal
from elrun.launcher.terminal.exits import FailureExit, UsageExit
from elrun.rendezvous import RendezvousClosedError, RendezvousError

import elrun


@pytest.mark.parametrize(
    ("error", "also"),
    [
        (elrun.UsageError, ValueError),
        (Refusal, elrun.UsageError),
        (UsageExit, elrun.UsageError),
        (RendezvousError, Exception),
        (RendezvousClosedError, RendezvousError),
        (ChildFailedError, Exception),
        (FailureExit, ChildFailedError),
        (SignalException, Exception),
    ],
)
def test_every_error_of_elrun_has_one_root(error, also):
    """And what torch's users catch catches it, too."""
    assert issubclass(error, elrun.ElrunError)
    assert issubclass(error, also)


def test_the_root_catches_what_a_job_ends_with():
    """One clause for a program that launches jobs."""
    with pytest.raises(elrun.ElrunError):
        raise ChildFailedError("train.py", {0: ProcessFailure(0, 1, 3, "")})


def test_the_root_and_the_usage_error_are_known_by_their_public_names():
    """In a traceback, and where one is sent to another process."""
    assert "elrun.UsageError" == f"{elrun.UsageError.__module__}.{elrun.UsageError.__qualname__}"
    assert elrun.UsageError is type(pickle.loads(pickle.dumps(elrun.UsageError("no"))))
