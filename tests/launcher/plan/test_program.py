# ruff: noqa: E501  sentences are quoted whole, so that they can be searched for
"""What a worker runs."""

import os
import sys
from hashlib import sha256

import pytest
from elrun.launcher.plan.run_path import run_script_path


def program_of(plan):
    return plan.program.entrypoint, plan.program.args


def test_a_script_runs_in_the_launcher_s_python_unbuffered(elrun):
    """Lines that a worker wrote must not wait in a buffer when it is killed."""
    assert (sys.executable, ["-u", "x.py", "--nnodes", "7"]) == program_of(
        elrun.plan("x.py", "--nnodes", "7")
    )


def test_arguments_of_the_script_are_its_own(elrun):
    """Ours among them, ``--`` and unknown ones too."""
    args = ["--", "-m", "--nproc-per-node=3", "--no", "-x", "a b", ""]

    assert ["-u", "x.py", *args] == elrun.plan("--nnodes=1", "x.py", *args).program.args


def test_options_may_end_with_two_dashes(elrun):
    """Then SCRIPT follows."""
    assert ["-u", "x.py", "--", "a"] == elrun.plan("--", "x.py", "--", "a").program.args


def test_any_program_may_run_with_what_is_learnt_of_python_scripts(elrun):
    """``PET_PRELOAD=auto`` may stand in everybody's environment."""
    assert ("sh", ["-c", ":"]) == program_of(
        elrun.plan("--no-python", "--preload", "auto", "sh", "-c", ":")
    )


def test_a_module_runs_by_its_name(elrun):
    """It is not looked for beforehand: importing its parents could do anything."""
    assert (sys.executable, ["-u", "-m", "pkg.mod", "-m"]) == program_of(
        elrun.plan("-m", "pkg.mod", "-m")
    )


def test_a_module_may_be_called_py(elrun, tmp_path):
    """In a package beside a script of the package's name."""
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer.py").write_text("")

    assert ["-u", "-m", "trainer.py"] == elrun.plan("-m", "trainer.py").program.args


def test_python_exec_names_the_interpreter(elrun):
    """As with torchrun."""
    assert ("/bin/sh", ["-u", "x.py"]) == program_of(elrun.plan("x.py", PYTHON_EXEC="/bin/sh"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--rdzv-backend=zoo"], "--rdzv-backend zoo: there is no such backend"),
        (["--nnodes=2"], "--nnodes 2: say where the nodes meet"),
        (["--requeue"], "--requeue: give --preempt-signal as well"),
        (["--event-log-handler=zoo"], "--event-log-handler zoo: there is no such handler"),
        (["--nnodes=1"], "none.py: there is no such script; give its path"),
    ],
)
def test_a_mistake_in_an_option_goes_before_a_missing_script(elrun, options, sentence):
    """Else it would be found only by the next try."""
    assert elrun.refusal(*options, "none.py").startswith(sentence)


@pytest.mark.parametrize("name", ["sh", "/bin/sh"])
def test_a_program_is_a_path_or_a_name(elrun, name):
    """It gets its arguments only."""
    assert (name, ["-c", "true"]) == program_of(elrun.plan("--no-python", name, "-c", "true"))


def test_run_path_calls_a_function(elrun):
    """It takes precedence over ``--no-python``, as torchrun documents."""
    plan = elrun.plan("--run-path", "--no-python", "x.py", "a")

    assert (run_script_path, ["x.py", "a"]) == program_of(plan)


def test_a_folder_with_a_main_module_is_a_script(elrun, tmp_path):
    """Python runs it, and so does torchrun."""
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "__main__.py").write_text("")

    assert ["-u", "tool"] == elrun.plan("tool").program.args


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["no/such.py"], "no/such.py: there is no such script; give its path"),
        (["a b.py"], "'a b.py': there is no such script; give its path"),
        (["evaluate.py"], "evaluate.py: there is no such script; give its path"),
        (["trianer.py"], "trianer.py: there is no such script; did you mean trainer.py?"),
        (["folder/trainer.py"], "folder/trainer.py: there is no such script; give its path"),
        (
            ["\u2013-nnodes", "2", "x.py"],
            "\u2013-nnodes: there is no such script; an option begins with two hyphens (--), and this is a dash",
        ),
        (
            ["-m", "-"],
            "--module -: standard input holds a script, no module; leave --module out",
        ),
        (
            ["-m", "trainer.py"],
            "--module trainer.py: this is a file, no module; leave --module out",
        ),
        (
            ["-m", "./trainer.py"],
            "--module ./trainer.py: this is a file, no module; leave --module out",
        ),
        (["pkg.train"], "pkg.train: there is no such script; is it a module (-m)?"),
        (["sh"], "sh: there is no such script; is it a module (-m) or a program (--no-python)?"),
        (
            ["my-tool"],
            "my-tool: there is no such script; is it a program (--no-python)?",
        ),
        (
            ["statsu"],
            "statsu: there is no such script; did you mean `elrun status`?",
        ),
        (
            ["Logs"],
            "Logs: there is no such script; did you mean `elrun logs`?",
        ),
        (
            ["help"],
            "help: there is no such script; did you mean `elrun --help`?",
        ),
        (
            ["version"],
            "version: there is no such script; did you mean `elrun --version`?",
        ),
        (
            ["--rdzv-id", "x", "stop"],
            "stop: there is no such script; did you mean `elrun stop`?",
        ),
        (
            ["link.py"],
            "link.py is a link to /no/such.py, which isn't there; mend the link",
        ),
        (
            ["--no-python", "./link.py"],
            "./link.py is a link to /no/such.py, which isn't there; mend the link",
        ),
        (["trainer"], "trainer: there is no such script; did you mean trainer.py?"),
        (["trainer.py.py"], "trainer.py.py: there is no such script; did you mean trainer.py?"),
        (["--run-path", "-"], "-: there is no such script; give its path"),
        ([""], "SCRIPT is empty; say what to run"),
        (["folder"], "folder is a folder without a __main__.py; give a script in it"),
        (
            ["--no-python", "plain.sh"],
            "plain.sh: there is no such program in PATH; write ./plain.sh for the one in this folder",
        ),
        (["--no-python", "nosuch"], "nosuch: there is no such program in PATH; give its path"),
        (["--no-python", "./nosuch"], "./nosuch: there is no such program; give its path"),
        (["--no-python", "./folder"], "./folder is a folder; give a program in it"),
        (["--no-python", "./plain.sh"], "./plain.sh is not executable; make it so with chmod +x"),
        (["-m", "--no-python", "x"], "--module and --no-python exclude each other; give one"),
        (
            ["--no-python", "--preload", "torch", "sh"],
            "--no-python and --preload torch exclude each other: only Python scripts can be preloaded",
        ),
        (["-m", "--run-path", "x"], "--module and --run-path exclude each other; give one"),
        (["--run-path", "nosuch.py"], "nosuch.py: there is no such script; give its path"),
    ],
)
def test_what_cannot_run_is_refused(elrun, tmp_path, args, sentence):
    """The sentence names the path as it was given."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "trainer.py").write_text("")
    (tmp_path / "plain.sh").write_text("")
    (tmp_path / "plain.sh").chmod(0o644)
    (tmp_path / "link.py").symlink_to("/no/such.py")

    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "my-tool").write_text("")
    (tmp_path / "bin" / "my-tool").chmod(0o755)

    assert sentence == elrun.refusal(*args, PATH=f"{tmp_path}/bin:/usr/bin:/bin")


def test_an_interpreter_that_is_not_there_is_refused(elrun):
    """By the name of the variable that says so."""
    sentence = elrun.refusal("x.py", PYTHON_EXEC="/no/python")

    assert "PYTHON_EXEC=/no/python: there is no such program; give its path" == sentence


@pytest.mark.parametrize("path", ["examples/trian.py", "./examples/train"])
def test_a_script_in_another_folder_is_found_but_for_a_slip(elrun, tmp_path, monkeypatch, path):
    """The sentence has the whole path, to be copied."""
    (tmp_path / "examples").mkdir()
    (tmp_path / "examples" / "train.py").touch()
    monkeypatch.chdir(tmp_path)
    meant = path.replace("trian.py", "train") + ".py"

    assert f"{path}: there is no such script; did you mean {meant}?" == elrun.refusal(path)


def test_of_a_folder_with_any_number_of_files_only_the_first_are_looked_at(elrun, tmp_path):
    """A folder of data has millions, on a file server: the refusal would come after minutes."""
    for number in range(1_100):
        (tmp_path / f"{sha256(b'%d' % number).hexdigest()[:12]}.py").touch()
    *_, last = names = [each.name for each in os.scandir(tmp_path)]
    first = next(name for name in names if name != "x.py")

    answers = [elrun.refusal(f"_{name[1:]}") for name in (first, last)]

    assert [True, False] == ["did you mean" in answer for answer in answers]
    assert elrun.refusal(last.removesuffix(".py")).endswith(f"did you mean {last}?")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_a_script_that_cannot_be_read_is_refused(elrun, tmp_path):
    """Python would say it once a worker."""
    (tmp_path / "x.py").chmod(0)

    assert "x.py can't be read; check its permissions" == elrun.refusal("x.py")


@pytest.mark.skipif(os.geteuid() == 0, reason="no folder is closed to root")
@pytest.mark.parametrize("option", [(), ("--no-python",)])
def test_a_script_in_a_closed_folder_is_not_called_missing(elrun, tmp_path, option):
    """It may be there; who looks for a slip in the path looks in vain."""
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "x.py").touch()
    (tmp_path / "closed").chmod(0)

    said = elrun.refusal(*option, "closed/x.py")

    hint = "check the permissions of the folders that lead there"
    assert f"closed/x.py can't be reached: Permission denied; {hint}" == said


@pytest.mark.parametrize("option", [(), ("--no-python",)])
def test_a_path_that_the_system_does_not_follow_is_not_called_missing(elrun, tmp_path, option):
    """The sentence has the system's reason: links in a circle, a file server that is gone."""
    (tmp_path / "circle").symlink_to("circle")

    said = elrun.refusal(*option, "circle/x.py")

    assert "circle/x.py can't be reached: Too many levels of symbolic links" == said


def test_control_characters_of_a_name_are_shown(elrun):
    """They are not sent to the terminal."""
    assert r"'\x1b]0;x.py': there is no such script; give its path" == elrun.refusal("\x1b]0;x.py")


def test_run_script_path_runs_a_script_as_main(tmp_path, monkeypatch, capsys):
    """With its own arguments."""
    monkeypatch.setattr(sys, "argv", ["elrun"])
    path = tmp_path / "x.py"
    path.write_text("import sys; print(__name__, sys.argv[1:])")

    run_script_path(str(path), "-a", "b")

    assert "__main__ ['-a', 'b']\n" == capsys.readouterr().out


def test_a_script_on_a_path_finds_what_lies_beside_it(tmp_path, monkeypatch, capsys):
    """As it does under ``python SCRIPT``, also through a link; torchrun's does not."""
    monkeypatch.setattr(sys, "argv", ["elrun"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "x.py").write_text("import elrun_test_beside as module; print(module.__file__)")
    (tmp_path / "elrun_test_beside.py").write_text("")
    (tmp_path / "folder").mkdir()
    link = tmp_path / "folder" / "link.py"
    link.symlink_to("../x.py")

    run_script_path(str(link))

    assert f"{tmp_path / 'elrun_test_beside.py'}\n" == capsys.readouterr().out


def test_a_script_may_be_called_like_an_option(elrun, tmp_path):
    """After two dashes; the interpreter gets it as a path."""
    (tmp_path / "-x.py").write_text("")

    assert ["-u", "./-x.py", "-m"] == elrun.plan("--", "-x.py", "-m").program.args


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("job.sh", "torchrun $SCRIPT\n"),
        ("job", "#!/bin/bash\nset -e; python train.py --lr 0.1\n"),
        ("job.py", "\x7fELF\0"),
    ],
)
@pytest.mark.parametrize("options", [[], ["--run-path"]])
def test_a_script_for_a_shell_is_refused_unless_it_is_run_as_it_is(
    elrun, tmp_path, name, text, options
):
    """Python would find a syntax error in it, once a worker."""
    (tmp_path / name).write_text(text)
    (tmp_path / name).chmod(0o755)
    sentence = f"{name} is no Python script; give --no-python to run it as it is"

    assert sentence == elrun.refusal(*options, name)
    assert f"./{name}" == elrun.plan("--no-python", f"./{name}").program.entrypoint


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.sh", "print(1)"),
        ("x", "#!/usr/bin/env python3\nthis is no Python\n"),
        ("x", "#!/bin/sh\n'''exec' /a/long/path/python \"$0\"\n' '''\nprint(1)\n"),
        ("x.pyz", "#!/bin/sh\nexec python $0\nPK\x03\x04\0"),
        ("x.py", "this is no Python"),
    ],
)
def test_what_python_may_run_is_run(elrun, tmp_path, name, text):
    """Whatever its name or first line; its faults are Python's to tell."""
    (tmp_path / name).write_text(text)

    assert ["-u", name] == elrun.plan(name).program.args


def test_a_script_may_be_a_pipe(elrun, tmp_path):
    """It is not read beforehand: that can be done but once."""
    os.mkfifo(tmp_path / "x.sh")

    assert ["-u", "x.sh"] == elrun.plan("x.sh").program.args


@pytest.mark.parametrize("folder", ["/dev/fd", "/proc/self/fd"])
def test_a_script_that_elrun_alone_has_open_is_refused(elrun, folder):
    """A shell's ``elrun <(make-script)``: each worker would fail, and call it by a number."""
    reader, writer = os.pipe()
    try:
        sentence = elrun.refusal(f"{folder}/{reader}")
    finally:
        os.close(reader)
        os.close(writer)

    assert (
        f"{folder}/{reader} is open in elrun alone, and workers don't inherit it; "
        "give -, and a Python script on standard input"
    ) == sentence


@pytest.mark.parametrize("option", ["--run-path", "--no-python"])
def test_no_worker_is_given_a_pipe_that_elrun_alone_has_open(elrun, option):
    """A forked worker ran what was left of it, which is nothing, and succeeded."""
    reader, writer = os.pipe()
    try:
        sentence = elrun.refusal(option, f"/dev/fd/{reader}")
    finally:
        os.close(reader)
        os.close(writer)

    assert (
        f"/dev/fd/{reader} is open in elrun alone, and workers don't inherit it; leave {option} "
        "out, and give -, and a Python script on standard input"
    ) == sentence


def test_a_path_to_run_is_not_that_of_standard_input(elrun):
    """Workers have another one, which is empty."""
    assert "leave --run-path out" in elrun.refusal("--run-path", "/dev/stdin")
