"""Which standard errors can be carried, and which lead to one file."""

import os
import socket

from elrun.agent.output.outlets import can_be_carried, is_one_file


def test_a_terminal_and_a_device_are_left_alone(tmp_path):
    """So is what is closed, and a socket that takes messages."""
    ours, theirs = os.openpty()
    reading, writing = os.pipe()
    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    null = os.open(os.devnull, os.O_WRONLY)
    streams, messages = socket.socketpair(), socket.socketpair(type=socket.SOCK_DGRAM)
    fds = (theirs, null, messages[0].fileno(), streams[0].fileno(), writing, file)
    found = [can_be_carried(fd) for fd in fds]
    for fd in (ours, theirs, reading, writing, file, null):
        os.close(fd)
    for each in (*streams, *messages):
        each.close()

    assert [False, False, False, True, True, True] == found
    assert not can_be_carried(writing)


def test_one_file_is_known_by_whatever_leads_there(tmp_path):
    """``> log 2>&1``, and not ``> out 2> err``."""
    reading, writing = os.pipe()
    first = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    second = os.open(tmp_path / "log", os.O_WRONLY)
    other = os.open(tmp_path / "other", os.O_WRONLY | os.O_CREAT)
    found = [is_one_file(writing, reading), is_one_file(first, second), is_one_file(first, other)]
    for fd in (reading, writing, first, second, other):
        os.close(fd)

    assert [True, True, False] == found
    assert not is_one_file(first, first)
