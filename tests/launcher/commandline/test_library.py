"""Programs that drive elrun as they drive ``torch.distributed.run``."""

import argparse
import copy
import json
import pickle
import sys

import pytest
from elrun.agent.output.specs import DefaultLogsSpecs, Std
from elrun.launcher.commandline.completion import completion_script
from elrun.launcher.library import (
    config_from_args,
    determine_local_world_size,
    get_args_parser,
    parse_args,
    parse_min_max_nnodes,
    run,
)
from elrun.launcher.plan.run_path import run_script_path


@pytest.fixture(autouse=True)
def _no_variables_of_torchrun(monkeypatch):
    for name in ("PET_NNODES", "PYTHON_EXEC", "OMP_NUM_THREADS", "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)


def pickled(args):
    return pickle.loads(pickle.dumps(args))


def config_of(words):
    return config_from_args(parse_args(words.split()))[0]


def test_a_command_line_is_a_config_and_a_command():
    """The interpreter, and what it is called with; the script need not be there yet."""
    words = "--nproc-per-node=2 --max_restarts 3 --role trainer train.py --lr 1"

    config, command, args = config_from_args(parse_args(words.split()))

    assert (1, 1, 2, 3, "trainer") == (
        config.min_nodes,
        config.max_nodes,
        config.nproc_per_node,
        config.max_restarts,
        config.role,
    )
    assert (sys.executable, ["-u", "train.py", "--lr", "1"]) == (command, args)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("-m pkg.train a", (sys.executable, ["-u", "-m", "pkg.train", "a"])),
        ("--no-python ./run.sh a", ("./run.sh", ["a"])),
        ("--run-path train.py a", (run_script_path, ["train.py", "a"])),
        ("- a", (sys.executable, ["-u", "-", "a"])),
    ],
)
def test_what_is_run_is_torchrun_s(words, expected):
    """A module, a program, a script in the worker's own process, standard input."""
    assert expected == config_from_args(parse_args(words.split()))[1:]


def test_attributes_may_have_any_type():
    """Programs set numbers where the parser leaves texts, and the reverse."""
    args = parse_args(["train.py"])
    args.nnodes, args.nproc_per_node, args.max_restarts = 2, 4, "1"
    args.rdzv_backend, args.rdzv_endpoint, args.monitor_interval = "c10d", "n1:29400", 5
    args.tee, args.local_ranks_filter, args.duplicate_stdout_filters = 3, "0,1", ["a,b", "c"]

    config, *_ = config_from_args(args)

    assert (2, 2, 4, 1, 5) == (
        config.min_nodes,
        config.max_nodes,
        config.nproc_per_node,
        config.max_restarts,
        config.monitor_interval,
    )
    assert DefaultLogsSpecs(tee=Std.ALL, local_ranks_filter={0, 1}) == config.logs_specs
    assert ["a,b", "c"] == config.duplicate_stdout_filters


def test_attributes_may_be_missing(monkeypatch):
    """A namespace of another version, or of another program, has some only."""
    monkeypatch.setenv("PET_MAX_RESTARTS", "4")
    args = argparse.Namespace(training_script="train.py", training_script_args=[], nproc_per_node=2)

    config, _, command_args = config_from_args(args)

    assert (2, 4, ["-u", "train.py"]) == (
        config.nproc_per_node,
        config.max_restarts,
        command_args,
    )


def test_attributes_of_others_are_left_alone():
    """accelerate's own, for instance; and nothing in a namespace is changed."""
    args = parse_args(["train.py"])
    args.mixed_precision, args.master_port = "fp16", "29501"
    before = dict(vars(args))

    config_from_args(args)

    assert before == vars(args)


@pytest.mark.parametrize(
    ("words", "rank"), [("", 0), ("--node-rank 0", 0), ("--node-rank 1", 1)], ids=repr
)
def test_static_nodes_meet_where_the_namespace_says(words, rank):
    """The rank's default may be meant, where the place is given."""
    config = config_of(f"--nnodes 2 --master-addr 127.0.0.1 --master-port 29501 {words} train.py")

    assert ("static", "127.0.0.1:29501", {"rank": rank}) == (
        config.rdzv_backend,
        config.rdzv_endpoint,
        config.rdzv_configs,
    )


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"master_addr": None},
        {"master_addr": ""},
        {"node_rank": 1},
        {"rdzv_backend": "static", "nnodes": "2:2"},
    ],
    ids=repr,
)
@pytest.mark.parametrize("copied", [lambda args: args, copy.deepcopy, pickled], ids=range(3))
def test_several_nodes_without_a_place_to_meet_are_refused(attributes, copied):
    """The parser's own defaults are nobody's wish: the node would wait for others in vain."""
    args = parse_args(["train.py"])
    vars(args).update({"nnodes": 2} | attributes)

    with pytest.raises(ValueError, match="--nnodes 2.*: say where the nodes meet; give "):
        config_from_args(copied(args))


def test_a_default_may_be_meant():
    """What a program sets is given, even where it is what the parser would have left."""
    args = parse_args(["train.py"])
    args.nnodes, args.master_addr = 2, "127.0.0.1"

    assert "127.0.0.1:29500" == config_from_args(args)[0].rdzv_endpoint


def test_defaults_have_the_types_of_torchrun_s():
    """For programs that compare them, or write them down."""
    args = parse_args(["train.py"])

    assert ("127.0.0.1", 0, '["127.0.0.1", 0]') == (
        args.master_addr,
        args.node_rank,
        json.dumps([args.master_addr, args.node_rank]),
    )


def test_use_env_that_is_off_passes_the_local_rank():
    """As ``torch.distributed.launch`` adds the option, and passes it to the script."""
    parser = get_args_parser()
    parser.add_argument("--use-env", "--use_env", action="store_true")

    off = config_from_args(parser.parse_args(["train.py", "a"]))[2]
    on = config_from_args(parser.parse_args(["--use-env", "train.py", "a"]))[2]

    assert ["-u", "train.py", "--local-rank=${local_rank}", "a"] == off
    assert ["-u", "train.py", "a"] == on


def test_actions_may_be_added_to_another_parser():
    """torchtune's ``tune run`` does so, and renames the script."""
    parser = argparse.ArgumentParser("tune")
    for action in get_args_parser()._actions:
        if action.dest == "training_script":
            action.dest = "recipe"
        if action.dest != "help":
            parser._add_action(action)

    args = parser.parse_args(["--nproc-per-node", "2", "lora", "--config", "x"])

    assert ("2", "lora", ["--config", "x"]) == (
        args.nproc_per_node,
        args.recipe,
        args.training_script_args,
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--nnodes 4:2 x.py", "--nnodes 4:2: the smaller number comes first, as in 2:4"),
        ("--start-method spwan x.py", "--start-method spwan: give spawn, fork or forkserver"),
        ("-m --no-python x", "--module and --no-python exclude each other; give one"),
    ],
)
def test_what_cannot_be_used_is_a_value_error(words, sentence):
    """With the sentence of the command line."""
    with pytest.raises(ValueError, match=sentence):
        config_from_args(parse_args(words.split()))


def test_a_script_that_is_not_there_is_not_run():
    """It is looked for when it is to run."""
    with pytest.raises(ValueError, match="nosuch.py: there is no such script"):
        run(parse_args(["nosuch.py"]))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--max-restarts x a.py", "argument --max-restarts/--max_restarts: give a whole number"),
        ("--monitor-interval 0 a.py", "give a number of seconds, more than 0"),
        ("--nproc-per-nod 2 --qqq a.py", "unrecognized arguments: --qqq"),
        ("", "the following arguments are required: training_script"),
    ],
)
def test_a_command_line_that_cannot_be_parsed_ends_the_program(capsys, words, sentence):
    """As any of argparse's."""
    with pytest.raises(SystemExit) as caught:
        parse_args(words.split())

    assert 2 == caught.value.code
    assert sentence in capsys.readouterr().err


def test_a_variable_of_a_flag_is_a_yes_or_a_no(monkeypatch):
    """By the one table."""
    monkeypatch.setenv("PET_STANDALONE", "on")
    assert parse_args(["x.py"]).standalone is True

    monkeypatch.setenv("PET_STANDALONE", "perhaps")
    with pytest.raises(ValueError, match="PET_STANDALONE=perhaps: --standalone is a flag"):
        get_args_parser()


@pytest.mark.parametrize("words", ["--max-restarts= x.py", "--max-restarts= --role= x.py"])
def test_an_empty_value_says_nothing_here_either(words):
    """But a role may be empty."""
    args = parse_args(words.split())

    assert 0 == args.max_restarts
    assert args.role == ("" if "--role=" in words else "default")


def test_completion_is_printed_by_the_parser(capsys):
    """As by torch's from 2.14 on."""
    with pytest.raises(SystemExit) as caught:
        parse_args(["--print-completion", "bash"])

    assert (0, completion_script("bash")) == (caught.value.code, capsys.readouterr().out)


@pytest.mark.parametrize(("text", "expected"), [("4", (4, 4)), ("2:8", (2, 8)), (3, (3, 3))])
def test_a_number_of_nodes_is_read_as_the_option_is(text, expected):
    """Programs ask for it before they make their own config."""
    assert expected == parse_min_max_nnodes(text)


@pytest.mark.parametrize("text", ["1:2:3", "", "8:2", "0", "many"])
@pytest.mark.parametrize("caught", [ValueError, RuntimeError])
def test_nodes_that_are_no_range_are_refused(text, caught):
    """The sentence has what was given; torch raises the one or the other."""
    with pytest.raises(caught, match=r"^nnodes=.*: "):
        parse_min_max_nnodes(text)


def test_a_number_of_workers_is_read_as_the_option_is():
    """A number, or as many as the node has of a kind."""
    counted = config_of("--nproc-per-node=cpu x.py").nproc_per_node

    assert [4, 4, counted] == [determine_local_world_size(each) for each in ("4", 4, "cpu")]


@pytest.mark.parametrize("kind", ["tpu", "0", ""])
def test_workers_that_are_no_number_and_no_kind_are_refused(kind):
    """The sentence has what was given."""
    with pytest.raises(ValueError, match=r"^nproc_per_node=.*: give a number of workers"):
        determine_local_world_size(kind)
