"""When a job is worth a record of its own, and what is kept until then."""

from types import SimpleNamespace

from elrun.agent.elastic.observer import LateObserver, Observer
from elrun.agent.elastic.policy import Step


class Calls(Observer):
    def __init__(self, heard):
        self.heard = [call for _, _, call in heard]
        self.joins = 0

    def joined(self, info):
        self.joins += 1


def observer_that_makes(records):
    def make(began_at, heard):
        records.append(Calls(heard))
        return records[-1]

    return LateObserver(make, SimpleNamespace(workers=[]))


def test_a_job_of_few_attempts_makes_no_record():
    """Most jobs are short, and load nothing for it."""
    records = []
    observer = observer_that_makes(records)

    for _ in range(20):
        observer.joined(None)

    assert [] == records


def test_a_job_of_many_attempts_makes_its_record():
    """A worker that dies at its start for a whole night would else let the agent grow for ever."""
    records = []
    observer = observer_that_makes(records)

    for _ in range(1000):
        observer.joined(None)
        observer.round_ended(None, Step.REJOIN)

    (record,) = records
    assert (40, 980) == (len(record.heard), record.joins)
    assert [] == observer._heard
    assert observer.has_record
