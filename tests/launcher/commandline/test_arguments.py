"""Guesses at what was meant."""

import pytest
from elrun.launcher.commandline import arguments
from elrun.launcher.commandline.arguments import nearest_option, nearest_word


@pytest.mark.parametrize(
    ("typed", "known", "meant"),
    [
        ("spwan", ["spawn", "fork", "forkserver"], "spawn"),
        ("forks", ["spawn", "fork", "forkserver"], "fork"),
        ("gpus", ["auto", "gpu", "cpu", "xpu"], "gpu"),
        ("c10", ["static", "c10d"], "c10d"),
        ("etcdv3", ["etcd", "etcd-v2", "etcd-v3"], "etcd-v3"),
        ("nproc_per_nod", ["nnodes", "nproc_per_node"], "nproc_per_node"),
        ("--nndoes", ["--nnodes", "--node-rank"], "--nnodes"),
        ("trian", ["train", "eval"], "train"),
        ("zookeeper", ["static", "c10d"], ""),
        ("timeout", ["shutdown_timeout"], ""),
        ("nproces", ["nnodes", "nproc_per_node"], ""),
        ("x", [], ""),
        ("y", ["x"], ""),
        ("", ["a"], ""),
    ],
)
def test_a_guess_is_a_slip_of_the_fingers_away(typed, known, meant):
    """A letter that is wrong, missing, too many, or in its neighbour's place; one in four."""
    assert meant == nearest_word(typed, known)


def test_a_word_of_any_length_is_compared_at_once(monkeypatch):
    """Letters are compared only with words of nearly its length: each costs time otherwise."""
    known = ["--nnodes", "--no-python", "--nproc-per-node"]
    compared = []
    monkeypatch.setattr(
        arguments, "_slips", lambda typed, meant: compared.append(len(typed)) or len(typed)
    )

    assert nearest_option("--no-p" + "}" * 100_000, known) == ""

    assert [] == compared
