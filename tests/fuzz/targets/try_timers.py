"""What workers write to the timers' pipe: any bytes, in any pieces."""

from elrun.agent.timers.file_client import MAX_REQUEST_BYTES, FileTimerRequest
from elrun.agent.timers.table import RequestReader, TimerTable


def attempt(data: bytes) -> None:
    """Lines are requests or problems; a request is one again when it is written."""
    reader, table = RequestReader(), TimerTable()
    size = 1 + (data[0] if data else 0)
    for start in range(0, len(data), size):
        for request in reader.feed(data[start : start + size]):
            if request.stack.signal:  # without one, how to get the stack is not written
                assert request == FileTimerRequest.from_json(request.to_json())
            table.take(request, 1, 100.0, 1.7e9)
        for problem in reader.problems:
            problem.encode()
    assert len(reader._rest) <= MAX_REQUEST_BYTES
    for stuck in table.take_expired(200.0):
        assert stuck.description
    assert table.next_expiry > 200.0
