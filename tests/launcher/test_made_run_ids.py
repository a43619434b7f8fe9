"""The run id of a job that was given none: programs find its files, and its metrics, by it."""

import copy
import typing

import pytest
from elrun.launcher import LaunchConfig, elastic_launch, parse_args, run
from elrun.rendezvous import RendezvousHandler, rendezvous_handler_registry


@pytest.fixture(name="said")
def _said(tmp_path):
    """The command of a worker that says its run id, and what the last one said."""

    class Said:
        command = ("-c", f'printf %s "$TORCHELASTIC_RUN_ID" > {tmp_path}/said')

        @property
        def run_id(self):
            return (tmp_path / "said").read_text()

    return Said()


def test_a_config_has_the_id_of_its_last_launch(said):
    """A launch of the same config is another job."""
    config = LaunchConfig(1, 1, 1)

    elastic_launch(config, "sh")(*said.command)
    first, first_said = config.run_id, said.run_id
    elastic_launch(config, "sh")(*said.command)

    assert (first_said, said.run_id) == (first, config.run_id)
    assert first != config.run_id


def test_an_id_that_was_made_may_be_given_on(said):
    """To the config of another node, for instance."""
    config = LaunchConfig(1, 1, 1)
    elastic_launch(config, "sh")(*said.command)

    other = LaunchConfig(1, 1, 1, run_id=config.run_id)
    elastic_launch(other, "sh")(*said.command)

    assert config.run_id == other.run_id == said.run_id


@pytest.mark.parametrize("words", [[], ["--standalone"], ["--rdzv-backend=c10d"]])
@pytest.mark.parametrize("copied", [lambda args: args, copy.deepcopy])
def test_a_namespace_has_the_id_of_its_last_run(said, words, copied):
    """As with torch; and a run of the same namespace is another job."""
    args = parse_args([*words, "--no-python", "sh", *said.command])

    run(args)
    first, first_said = args.rdzv_id, said.run_id
    args = copied(args)
    run(args)

    assert (first_said, said.run_id) == (first, args.rdzv_id)
    assert (first == "none") is (first == args.rdzv_id)


def test_an_id_that_was_given_stays(said):
    """In both."""
    args = parse_args(["--rdzv-id=mine", "--no-python", "sh", *said.command])
    config = LaunchConfig(1, 1, 1, run_id="ours")

    run(args)
    assert ("mine", "mine") == (args.rdzv_id, said.run_id)
    elastic_launch(config, "sh")(*said.command)
    assert ("ours", "ours") == (config.run_id, said.run_id)


class Nameless(RendezvousHandler):
    """Knows no run id; ``left`` has the ids of the runs for which one was shut down."""

    left: typing.ClassVar = []

    def __init__(self, parameters):
        self.parameters = parameters

    def get_backend(self):
        return "nameless"

    def get_run_id(self):
        raise LookupError("no name")

    def next_rendezvous(self):
        raise NotImplementedError

    def is_closed(self):
        return False

    def set_closed(self):
        """Do nothing: no other node is there."""

    def num_nodes_waiting(self):
        return 0

    def shutdown(self):
        self.left.append(self.parameters.run_id)
        return True


def test_a_config_has_the_id_that_a_plug_in_was_given(said):
    """A handler that does not tell it has its own error, and is shut down."""
    Nameless.left.clear()
    rendezvous_handler_registry.register("nameless", Nameless)
    config = LaunchConfig(1, 1, 1, rdzv_backend="nameless", rdzv_endpoint="x")

    with pytest.raises(LookupError, match="no name"):
        elastic_launch(config, "sh")(*said.command)

    assert [config.run_id] == Nameless.left
