"""The command line: a word on each line; those that begin with $ are variables."""

import os
import sys

from elrun.agent.hardware.devices import Count, Devices
from elrun.launcher.commandline.arguments import Refusal
from elrun.launcher.commandline.environment import Environment
from elrun.launcher.commandline.parse import Answered, parse
from elrun.launcher.plan.plan import compose
from elrun.launcher.verbs.dry_run import as_json, as_text, described
from fuzz_sentences import require_sentence

os.environ.pop("PYTHONWARNINGS", None)
# Files are another surface's subject, and a fuzzer finds every device there is.
_OF_FILES = (
    "--config",
    "--report",
    "--log-dir",
    "--log_dir",
    "--metrics-file",
    "-c",
    "--rep",
    "--conf",
)


def attempt(data: bytes) -> None:
    """It is refused with a sentence, or makes a plan that can be shown."""
    words = data.decode("utf-8", "surrogateescape").replace("\0", "").split("\n")
    variables = dict(word[1:].split("=", 1) for word in words if word[:1] == "$" and "=" in word)
    args = [word for word in words if word[:1] != "$"]
    if any("/" in word or word.startswith(_OF_FILES) for word in (*args, *variables.values())):
        return
    environment = Environment({"PATH": "", **variables})
    standard = sys.stdout
    try:
        sys.stdout = _NOWHERE
        given, _ = parse(args, environment)
        plan = compose(
            given,
            environment,
            count=lambda kind, variables: Count(2),
            devices=lambda kind: Devices(),
            backends=lambda: ["c10d", "static", "etcd-v2", "etcd-v3", "etcd"],
            is_checked=False,
            is_rehearsal=True,
        )
        shown = described(plan, environment)
        as_json(shown)
        as_text(shown)
    except Answered:
        pass
    except Refusal as refusal:
        require_sentence(refusal)
    finally:
        sys.stdout = standard


class _Nowhere:
    encoding, errors = "utf-8", "strict"

    def write(self, text):
        return len(text)

    def flush(self):
        pass

    def fileno(self):
        return _NULL

    def isatty(self):
        return False


_NULL = os.open(os.devnull, os.O_WRONLY)
_NOWHERE = _Nowhere()
