"""The end of a worker's standard error, stacks of faulthandler's, and the kernel's log."""

from elrun.agent.failures import last_words, stack_places
from elrun.agent.failures.kernel_log import gpu_faults, lines_about, parse

_MOST_LINES = 1000


def attempt(data: bytes) -> None:
    """Some of its lines are found, or none; nothing else is told."""
    text = data.decode("utf-8", "replace")
    for is_whole in (True, False):
        found = last_words.last_words_in(text, is_whole=is_whole)
        assert "\n" not in found.words
        assert found.text.count("\n") < _MOST_LINES
        last_words.words_before_traceback(text, "ValueError: x", is_whole=is_whole)
        last_words.tells_of_another_process(found.words)
    for exitcode in (-11, -6, 1):
        last_words.crash_in(text, exitcode)
    last_words.abort_reason_in(text)
    for find in (stack_places.place_in, stack_places.own_place_in):
        stack_places.waits_for_child(find(text))
    records = [record for record in map(parse, data.split(b"\n")) if record is not None]
    for record in records:
        assert record.at_s >= 0
    list(lines_about(7, records))
    list(gpu_faults(records))
