"""What `make constraints` writes."""

from renew import kept, renewed, versions_in

BEFORE = "# Every package.\n# torch is measured.\nGitPython==3.2.1\nold==1\ntorch==2.13.0\n"


def installs(*pairs):
    return [{"metadata": {"name": name, "version": version}} for name, version in pairs]


def test_pins_are_what_pip_would_install():
    """Without elrun itself, and without a build's own suffix, which no index has."""
    found = versions_in(installs(("elrun", "1"), ("torch", "2.13.0+cpu"), ("A_b.c", "1.0.post1")))

    assert {"torch": "2.13.0", "a-b-c": "1.0.post1"} == found


def test_remarks_and_spellings_stay():
    """So that a difference shows versions only; what nothing needs any more is left out."""
    after = renewed(BEFORE, {"torch": "2.13.0", "gitpython": "3.3.0", "new": "2"})

    assert (
        "# Every package.\n# torch is measured.\nGitPython==3.3.0\nnew==2\ntorch==2.13.0\n" == after
    )


def test_torch_stays():
    """At the version that elrun is measured against."""
    assert "torch==2.13.0" == kept(BEFORE, "torch")
