"""Plant small faults in the decisions of the package and see which of them no test notices.

    make mutants               # all subjects: a quarter of an hour on two idle cores
    make mutants ONLY=round    # the subjects with this word in their names

cosmic-ray changes one operator, number or condition at a time in a copy of the package, and runs
the subject's own quick tests. A mutant that all tests let pass has survived: it is shown as a diff.
Read it, and either write the test that kills it or say in docs/mutants.md why it may live.
"""

import argparse
import concurrent.futures
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

TREE = Path(__file__).parents[2]
ROOMS = ("launcher", "agent", "rendezvous")
TIMEOUT_S = 60
# One neighbour of each operator is enough: a test that notices `<=` for `<` notices `>` as well.
_NEIGHBOURS = (
    "Add_Sub|Sub_Add|Mul_Div|Div_Mul|FloorDiv_Mul|Mod_FloorDiv|Pow_Mul|LShift_RShift|"
    "RShift_LShift|BitAnd_BitOr|BitXor_BitAnd|Lt_LtE|LtE_Lt|Gt_GtE|GtE_Gt|Eq_NotEq|NotEq_Eq|"
    "Is_IsNot|IsNot_Is|In_NotIn|NotIn_In"
)
LEFT_OUT = (rf"core/Replace(BinaryOperator|ComparisonOperator)_(?!({_NEIGHBOURS})$).*",)


@dataclass(frozen=True)
class Subject:
    """A module and the quick tests that should notice a fault in it.

    Args:
        module: Its path in the repository.
        tests: Test files, the fastest first.
    """

    module: str
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.module.removesuffix(".py").replace("/", ".")


def of_protocol(name: str, *tests: str) -> Subject:
    folder = "tests/rendezvous/protocol"
    return Subject(f"rendezvous/protocol/{name}.py", tuple(f"{folder}/{test}" for test in tests))


SUBJECTS = (
    Subject("agent/elastic/policy.py", ("tests/agent/elastic/test_policy.py",)),
    *(
        Subject(f"agent/failures/{name}.py", ("tests/agent/failures/test_restart_rules.py",))
        for name in ("restart_rules", "restart_causes")
    ),
    Subject("agent/workers/ranks.py", ("tests/agent/workers/test_ranks.py",)),
    of_protocol("round", "test_round.py", "test_rosters.py", "../../simulation/test_scenarios.py"),
    of_protocol(
        "roster",
        *("test_places.py", "test_round.py", "test_rosters.py"),
        "../../simulation/test_scenarios.py",
    ),
    of_protocol("record_reader", "test_record_reader.py", "test_wire.py"),
    of_protocol("wire", "test_wire_bounds.py", "test_wire.py"),
    of_protocol("phrases", "test_phrases.py", "../../simulation/test_scenarios.py"),
    of_protocol("announcements", "test_announcements.py"),
    Subject(
        "rendezvous/liveness/failure_detector.py",
        ("tests/rendezvous/liveness/test_failure_detector.py",),
    ),
)


def copy_package(target: Path) -> None:
    """Make a package of the working tree, as the installed one is laid out."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(TREE / "src" / "elrun", target)
    for room in ROOMS:
        shutil.copytree(TREE / room, target / room)


def try_mutants(subject: Subject, folder: Path, python: Path) -> list[dict[str, str]]:
    """Run all mutants of a subject; return each with its outcome and diff."""
    place = folder / subject.name
    copy_package(place / "elrun")
    session, config = place / "session.sqlite", place / "config.toml"
    tests = [os.path.normpath(TREE / test) for test in subject.tests]
    pytest = [str(python), "-m", "pytest", "-x", "-q", "-p", "no:randomly"]
    command = [*pytest, "-p", "no:cacheprovider", f"--rootdir={TREE}", *tests]
    config.write_text(
        "[cosmic-ray]\n"
        f"module-path = {json.dumps(str(place / 'elrun' / subject.module))}\n"
        f"timeout = {TIMEOUT_S}\nexcluded-modules = []\n"
        f"test-command = {json.dumps(' '.join(command))}\n"
        'distributor.name = "local"\n'
        "[cosmic-ray.filters.operators-filter]\n"
        f"exclude-operators = {json.dumps(list(LEFT_OUT))}\n"
    )
    for step in (
        ("cosmic-ray", "baseline", config),
        ("cosmic-ray", "init", config, session),
        ("cr-filter-operators", session, config),
        ("cosmic-ray", "exec", config, session),
    ):
        run(step, place)
    dump = run(("cosmic-ray", "dump", session), place)
    return [outcome_of(*json.loads(line)) for line in dump.splitlines()]


def run(step: tuple[object, ...], place: Path) -> str:
    program = Path(sys.executable).parent / str(step[0])
    environment = {
        **os.environ,
        "PYTHONPATH": str(place),
        "PYTHONDONTWRITEBYTECODE": "1",  # two mutants of one second and size would be mixed up
    }
    done = subprocess.run(
        [program, *step[1:]], env=environment, cwd=TREE, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, step))}:\n{done.stdout}{done.stderr}")
    return done.stdout


def outcome_of(item: dict, result: dict | None) -> dict[str, str]:
    mutation = item["mutations"][0]
    if result is None:
        return {"outcome": "not run"}
    if result["worker_outcome"] == "skipped":
        return {"outcome": "skipped"}
    return {
        "outcome": result["test_outcome"] or result["worker_outcome"],
        "diff": result["diff"] or "",
        "operator": mutation["operator_name"],
    }


def report(subject: Subject, outcomes: list[dict[str, str]]) -> str:
    """Return how many mutants of a subject were noticed, and the diffs of the others."""
    tried = [each for each in outcomes if each["outcome"] != "skipped"]
    survived = [each for each in tried if each["outcome"] != "killed"]
    lines = [f"{subject.name}: {len(tried)} mutants, {len(survived)} survived"]
    for each in survived:
        changed = [line for line in each.get("diff", "").splitlines() if line[:1] in ("+", "-")]
        place = next((line for line in each.get("diff", "").splitlines() if line[:2] == "@@"), "")
        lines += [f"  {each['outcome']}: {each.get('operator', '')} {place}"]
        lines += [f"    {line}" for line in changed if line[:3] not in ("---", "+++")]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default="", help="a word in the names of the subjects to try")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="the interpreter for the tests"
    )
    parser.add_argument("--folder", type=Path, default=TREE / "build" / "mutants")
    options = parser.parse_args()
    subjects = [each for each in SUBJECTS if options.only in each.name]
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        tries = [
            pool.submit(try_mutants, each, options.folder, options.python.absolute())
            for each in subjects
        ]
        for subject, each in zip(subjects, tries, strict=True):
            print(report(subject, each.result()), flush=True)


if __name__ == "__main__":
    main()
