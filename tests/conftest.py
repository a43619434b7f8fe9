"""What tests of every room share."""

import os
import subprocess

import pytest


@pytest.fixture(name="small_disk")
def _small_disk(tmp_path):
    """A real file system that is full after 64 KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "elrun-test", path]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a file system can't be mounted here")
    yield path
    subprocess.run(["umount", path], check=True)
