"""A kind of death as data: what the workers run, and what a person must learn from it."""

from dataclasses import dataclass, field

SETTINGS = ("terminal", "tee", "pipe", "nodes")
"""A terminal of 80 columns; ``--tee 3`` in a pipe; a pipe; two agents, each in a pipe."""


@dataclass(frozen=True)
class Kind:
    """A kind of death: two workers, of which rank 1 is the guilty one unless it says otherwise.

    Args:
        title: What happens, as a headline.
        worker: The program.
        words: What the first lines of the report must say, beside rank and node.
        below: What must stand further down in it: frames, causes.
        culprit: The rank that the first line must name; "any": one of them; "none": the end is no
            failure of a rank, and the words may stand anywhere in what elrun says.
        code: elrun's exit code.
        codes: elrun's exit codes by node, where they differ.
        program: Name of the program's file.
        before: Options of elrun, before the program.
        after: What stands in the program's place, where that is not its file.
        others_fail: Ranks that fail by themselves as well, and are told so.
        settings: Where it can happen.
        instead: Words by setting, where they are not ``words``.
        on_screen: Settings in which the program's own words stand on the screen and elrun can't
            have read them: nothing is between the program and a terminal.
        stage: What the machine has to be like: "cgroup", "shm", "disk", "g++", "no file", "no mode"
            or a command such as "ulimit -n 32".
        rdzv_conf: A setting of the rendezvous, where the kind is about nodes.
        kills_agent: Whether one node's agent is killed, and so says nothing.
        absent_on: The node that has no such program.
        is_slow: Whether it needs torch, and so takes seconds.
    """

    title: str
    worker: str
    words: tuple[str, ...]
    below: tuple[str, ...] = ()
    culprit: int | str = 1
    code: int = 1
    codes: tuple[int, ...] = ()
    program: str = "train.py"
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    others_fail: tuple[int, ...] = ()
    settings: tuple[str, ...] = SETTINGS
    instead: dict[str, tuple[str, ...]] = field(default_factory=dict)
    on_screen: tuple[str, ...] = ()
    stage: str = ""
    rdzv_conf: str = ""
    kills_agent: bool = False
    absent_on: int | None = None
    is_slow: bool = False
