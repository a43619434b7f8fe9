"""Files are replaced whole, and a failure leaves nothing beside them."""

import errno
import os
import stat

import pytest
from elrun.agent.system.whole_writes import replace_file


def test_a_file_is_replaced_with_the_permissions_that_are_asked_for(tmp_path):
    """A reader that has the old version open keeps it."""
    path = tmp_path / "f"
    path.write_bytes(b"old")

    with path.open("rb") as old:
        replace_file(str(path), b"new", 0o600)
        versions = old.read(), path.read_bytes()

    assert (b"old", b"new") == versions
    assert ([path], 0o600) == ([*tmp_path.iterdir()], stat.S_IMODE(path.stat().st_mode))


def test_a_full_disk_leaves_the_old_version_and_nothing_else(tmp_path, monkeypatch):
    """Some bytes of the new one were written already."""
    path, write = tmp_path / "f", os.write
    path.write_bytes(b"old")

    def write_until_full(fd, data):
        if len(data) < 3:
            raise OSError(errno.ENOSPC, "full")
        return write(fd, data[:1])

    monkeypatch.setattr(os, "write", write_until_full)
    with pytest.raises(OSError, match="full"):
        replace_file(str(path), b"newer")
    monkeypatch.undo()

    assert ([path], b"old") == ([*tmp_path.iterdir()], path.read_bytes())
