"""Every option, given in every way: all ways mean the same, and refuse the same."""

import contextlib
import os

import pytest
from elrun.launcher.commandline.arguments import spelling_of, variable_of
from elrun.launcher.commandline.options import OPTIONS
from elrun.launcher.library import config_from_args, parse_args
from elrun.rendezvous.errors import UsageError
from option_kit import BAD, GOOD

SHORT = {option.name: option.opts[0] for option in OPTIONS if len(option.opts) > 1}
OF_TORCH_ALONE = "use_env"  # torch.distributed.launch adds it to the parser by itself


@pytest.fixture(autouse=True)
def _no_variables_of_others(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("PET_", "SLURM_")) or name in ("PYTHON_EXEC", "OMP_NUM_THREADS"):
            monkeypatch.delenv(name)


def typed(elrun, name, value):
    return elrun.plan(spelling_of(name), value, "x.py").config


def joined(elrun, name, value):
    return elrun.plan(f"{spelling_of(name)}={value}", "x.py").config


def with_underscores(elrun, name, value):
    return elrun.plan(f"--{name}", value, "x.py").config


def short(elrun, name, value):
    return elrun.plan(SHORT.get(name, spelling_of(name)), value, "x.py").config


def in_environment(elrun, name, value):
    return elrun.plan("x.py", **{variable_of(name): value}).config


def parsed(_elrun, name, value):
    return config_from_args(parse_args([spelling_of(name), value, "x.py"]))[0]


def as_attribute(_elrun, name, value):
    args = parse_args(["x.py"])
    setattr(args, name, value)
    return config_from_args(args)[0]


WAYS = [joined, with_underscores, short, in_environment, parsed, as_attribute]


def outcome(way, *given):
    """Return the config, or what is said of the value."""
    try:
        config = way(*given)
    except UsageError as error:
        return str(error).partition(": ")[2]
    return {name: value for name, value in vars(config).items() if name != "run_id"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", GOOD)
def test_a_value_means_the_same_in_every_way(elrun, name, way):
    """Spelt out, joined, short, as a variable, and in a namespace."""
    if name in ("nproc_per_node", "gpus") and way in (parsed, as_attribute):
        pytest.skip("the devices of this machine are counted there")

    assert outcome(typed, elrun, name, GOOD[name]) == outcome(way, elrun, name, GOOD[name])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [name for name in BAD if name in GOOD])
def test_a_wrong_value_is_refused_the_same_in_every_way(elrun, capsys, name, way):
    """What is said of it does not depend on where it stands."""
    sentence = outcome(typed, elrun, name, BAD[name])

    with contextlib.suppress(SystemExit):  # argparse's own way to refuse
        assert sentence == outcome(way, elrun, name, BAD[name])
        return
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in BAD if name not in (*GOOD, OF_TORCH_ALONE)])
def test_a_flag_that_is_neither_yes_nor_no_is_refused(elrun, name):
    """A flag has one more way than to be typed: its variable."""
    sentence = outcome(in_environment, elrun, name, BAD[name])

    assert sentence == f"{spelling_of(name)} is a flag; give 1 or 0"
