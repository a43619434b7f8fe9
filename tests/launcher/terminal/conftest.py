"""A terminal's surroundings that are the same on every machine."""

import pytest


@pytest.fixture(name="utc")
def _utc(monkeypatch):
    """Moments are local; colours are asked for by nobody."""
    monkeypatch.setenv("TZ", "UTC")
    for name in ("FORCE_COLOR", "NO_COLOR", "COLUMNS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
