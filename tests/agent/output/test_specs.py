"""Where the output of each worker goes, by the options that name streams and folders."""

import os
from pathlib import Path

import pytest
from elrun.agent.output.specs import (
    DefaultLogsSpecs,
    LogsDest,
    LogsSpecs,
    Route,
    Std,
    route_of,
    to_map,
)
from specs_kit import NOTHING, attempt_of, envs_for


def reify(log_dir, nprocs=2, **wishes):
    return DefaultLogsSpecs(str(log_dir), **wishes).reify(envs_for(nprocs))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", Std.NONE),
        ("1", Std.OUT),
        ("2", Std.ERR),
        ("3", Std.ALL),
        ("0:3", {0: Std.ALL}),
        ("0:3,1:0,10:1,127:2", {0: Std.ALL, 1: Std.NONE, 10: Std.OUT, 127: Std.ERR}),
    ],
)
def test_streams_are_named_by_a_digit(text, expected):
    """One for all workers, or one for each local rank, whatever its number of digits."""
    assert expected == Std.from_str(text)


@pytest.mark.parametrize(
    "text",
    ["", "4", "-1", "01", "out", "0:4", "0:", ":1", "0:1,", "0:1 1:2", "a:1", "²:1", "0:1:2"],
)
def test_other_words_for_streams_are_refused(text):
    """The message says what would be right."""
    with pytest.raises(ValueError, match=r"give 0 \(no stream\).*such as 0:1,10:3"):
        Std.from_str(text)


@pytest.mark.parametrize("text", ["0:1,0:2", "1:3,01:3"])
def test_a_local_rank_is_named_once(text):
    """Which of the two would hold?"""
    with pytest.raises(ValueError, match=r"local rank [01] stands twice; name it once"):
        Std.from_str(text)


def test_one_value_stands_for_all_workers():
    """The same for each."""
    assert {0: Std.ERR, 1: Std.ERR} == to_map(Std.ERR, 2)


def test_a_worker_that_a_map_leaves_out_has_no_stream():
    """And one that isn't there is left out."""
    assert {0: Std.NONE, 1: Std.OUT} == to_map({1: Std.OUT, 7: Std.ALL}, 2)


def test_each_worker_has_a_directory_with_its_files(tmp_path):
    """As users of torchrun know it."""
    dest = reify(tmp_path, redirects={0: Std.OUT}, tee={1: Std.ALL})

    (run,) = tmp_path.iterdir()
    attempt = f"{run}/attempt_0"
    assert run.name.startswith("job_")
    assert ["0", "1"] == sorted(os.listdir(attempt))
    assert vars(
        LogsDest(
            stdouts={0: f"{attempt}/0/stdout.log", 1: f"{attempt}/1/stdout.log"},
            stderrs={0: "", 1: f"{attempt}/1/stderr.log"},
            tee_stdouts={1: f"{attempt}/1/stdout.log"},
            tee_stderrs={1: f"{attempt}/1/stderr.log"},
            error_files={0: f"{attempt}/0/error.json", 1: f"{attempt}/1/error.json"},
            filtered_stdout=f"{attempt}/filtered_stdout.log",
            filtered_stderr=f"{attempt}/filtered_stderr.log",
        )
    ) == vars(dest)


def test_each_worker_is_told_its_error_file(tmp_path):
    """In its environment."""
    envs = envs_for()
    dest = DefaultLogsSpecs(str(tmp_path)).reify(envs)

    told = {rank: env["TORCHELASTIC_ERROR_FILE"] for rank, env in envs.items()}
    assert dest.error_files == told


def test_paths_do_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    """A worker may have another."""
    monkeypatch.chdir(tmp_path)
    specs = DefaultLogsSpecs("logs")

    assert "logs" == specs.root_log_dir
    assert attempt_of(specs.reify(envs_for())).startswith(f"{tmp_path}/logs/job_")


def test_a_restart_keeps_what_was_there(tmp_path):
    """Each attempt has a directory of its own in the run's."""
    specs = DefaultLogsSpecs(str(tmp_path))
    attempts = [attempt_of(specs.reify(envs_for(restarts=n))) for n in (0, 1)]

    assert ["attempt_0", "attempt_1"] == [os.path.basename(path) for path in attempts]
    assert 1 == len(list(tmp_path.iterdir()))


def test_a_membership_change_keeps_what_was_there(tmp_path):
    """The number of restarts stays; the directories differ."""
    specs = DefaultLogsSpecs(str(tmp_path), redirects=Std.OUT)
    first = specs.reify(envs_for(restarts=1))
    Path(first.stdouts[0]).write_text("said before")
    others = [os.path.basename(attempt_of(specs.reify(envs_for(restarts=1)))) for _ in range(2)]

    assert ["attempt_1.1", "attempt_1.2"] == others
    assert "said before" == Path(first.stdouts[0]).read_text()


def test_two_runs_share_no_directory(tmp_path):
    """Not even with the same run id: two agents may write below one log directory."""
    paths = {attempt_of(reify(tmp_path)) for _ in range(2)}

    assert 2 == len(paths)


@pytest.mark.parametrize(
    "run_id",
    ["../../escape", "/absolute", "a/b", "..", ".hidden", "", "a\0b", "ü" * 300, "a b\n\udcff"],
)
def test_a_run_id_leads_nowhere_else(tmp_path, run_id):
    """Whatever is in it, the directory stands where the user said, and can be seen."""
    (tmp_path / "logs").mkdir()
    DefaultLogsSpecs(str(tmp_path / "logs")).reify(envs_for(run_id=run_id))

    assert ["logs"] == os.listdir(tmp_path)
    (name,) = os.listdir(tmp_path / "logs")
    assert not name.startswith(".")
    assert (tmp_path / "logs" / name / "attempt_0" / "1").is_dir()


def test_an_ordinary_run_id_stays_readable(tmp_path):
    """A person looks for it."""
    DefaultLogsSpecs(str(tmp_path)).reify(envs_for(run_id="llama-7b_run=3.1"))

    assert os.listdir(tmp_path)[0].startswith("llama-7b_run=3.1_")


def test_environments_without_a_run_will_do(tmp_path):
    """Nor need there be any worker."""
    DefaultLogsSpecs(str(tmp_path / "one")).reify({0: {}})

    assert LogsDest().stdouts == DefaultLogsSpecs(str(tmp_path / "none")).reify({}).stdouts


def test_no_files_are_made_below_dev_null():
    """Nor error files; what was teed is shown with its prefix, the rest is the console's."""
    envs = envs_for()
    dest = DefaultLogsSpecs(os.devnull, redirects=Std.OUT, tee={1: Std.ERR}).reify(envs)

    assert vars(
        LogsDest(
            stdouts=NOTHING,
            stderrs={0: "", 1: os.devnull},
            tee_stderrs={1: os.devnull},
            error_files={0: os.devnull, 1: os.devnull},
            filtered_stdout=os.devnull,
            filtered_stderr=os.devnull,
        )
    ) == vars(dest)
    assert ["", ""] == [env["TORCHELASTIC_ERROR_FILE"] for env in envs.values()]


def test_a_filter_of_local_ranks_limits_the_console(tmp_path):
    """Files are written as before; what would be inherited is dropped."""
    dest = reify(tmp_path, tee=Std.OUT, local_ranks_filter={1})

    assert [1] == list(dest.tee_stdouts)
    assert dest.stdouts[0].endswith("/0/stdout.log")
    assert {0: os.devnull, 1: ""} == dest.stderrs


@pytest.mark.parametrize(
    ("path", "is_teed", "filtered", "expected"),
    [
        ("", False, False, None),
        ("", True, False, None),
        ("", False, True, Route("", on_console=True, has_prefix=False)),
        ("log", False, False, Route("log", on_console=False, has_prefix=False)),
        ("log", False, True, Route("log", on_console=False, has_prefix=False)),
        ("log", True, False, Route("log", on_console=True, has_prefix=True)),
        ("/dev/null", False, False, Route("", on_console=False, has_prefix=False)),
        ("/dev/null", True, False, Route("", on_console=True, has_prefix=True)),
    ],
)
@pytest.mark.parametrize("std", [Std.OUT, Std.ERR])
def test_a_stream_goes_where_the_destination_says(std, path, is_teed, filtered, expected):
    """A path is a file, or /dev/null; a teed stream is shown; words are looked for in all."""
    tee = {0: path} if is_teed else {}
    if std is Std.OUT:
        dest = LogsDest(stdouts={0: path}, tee_stdouts=tee)
    else:
        dest = LogsDest(stderrs={0: path}, tee_stderrs=tee)

    assert expected == route_of(dest, std, 0, filtered=filtered)


def test_specs_with_the_same_wishes_are_equal(tmp_path):
    """Whatever they have made since; others differ."""
    wishes = {"redirects": Std.OUT, "tee": {0: Std.ERR}, "local_ranks_filter": {0}}
    used = DefaultLogsSpecs(str(tmp_path), **wishes)
    used.reify(envs_for())

    assert DefaultLogsSpecs(str(tmp_path), **wishes) == used
    for other in ({"redirects": Std.ERR}, {"tee": Std.NONE}, {"local_ranks_filter": None}):
        assert DefaultLogsSpecs(str(tmp_path), **{**wishes, **other}) != used
    assert used != "used"


def test_specs_show_their_wishes():
    """In messages, and in a plug-in's tests."""
    specs = DefaultLogsSpecs(os.devnull, Std.OUT, {0: Std.ERR}, {0})

    assert (
        f"DefaultLogsSpecs(root_log_dir=/dev/null, redirects={Std.OUT}, tee={{0: {Std.ERR!r}}}, "
        "local_ranks_filter={0})"
    ) == repr(specs)


def test_a_plug_in_may_change_what_the_default_says(tmp_path):
    """It has the constructor, the method and the property that torchrun's have."""

    class Gathered(DefaultLogsSpecs):
        def reify(self, envs):
            dest = super().reify(envs)
            dest.stdouts[0] = "elsewhere"
            dest.filtered_stdout = "aside"
            return dest

    specs = Gathered(
        log_dir=str(tmp_path), redirects=Std.ALL, tee=Std.NONE, local_ranks_filter=None
    )
    dest = specs.reify(envs_for())

    assert ("elsewhere", "aside") == (dest.stdouts[0], dest.filtered_stdout)
    assert str(tmp_path) == specs.root_log_dir


def test_specs_without_a_way_are_no_specs():
    """A plug-in says how files are laid out, and where."""
    with pytest.raises(TypeError, match="abstract"):
        LogsSpecs()
