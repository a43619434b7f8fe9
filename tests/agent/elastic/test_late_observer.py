"""When a job is worth a record of its own, and what is kept until then."""

from types import SimpleNamespace

from elrun.agent.elastic.observer import LateObserver, Moment, Observer
from elrun.agent.elastic.observers import Observers
from elrun.agent.elastic.policy import Step


class Calls(Observer):
    def __init__(self, heard):
        self.heard = [call for _, _, call in heard]
        self.joins = 0
        self.ends = []

    def joined(self, info):
        self.joins += 1

    def round_ended(self, verdict, step, at=None):
        self.ends.append(at)


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


def test_the_end_of_a_round_keeps_its_time():
    """Before there is a record, after it, and where several listen."""
    records, at = [], Moment(1.0, 2.0)
    observer = observer_that_makes(records)
    both = Observers(Observer(), observer)

    both.round_ended(None, Step.REJOIN, at)
    observer.record()
    both.round_ended(None, Step.REJOIN, at)

    (record,) = records
    record.heard[0](record)
    assert [at, at] == record.ends
