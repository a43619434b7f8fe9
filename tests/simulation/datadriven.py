"""Files of commands with their expected output, as raft's testdata has them.

    # A sentence about the scenario.
    command
    another command
    ----
    what the commands print

    the next command
    ----

Lines with ``#`` are comments. ``----`` ends the commands of a step. An empty line, or the end of
the file, ends its output.
"""

from dataclasses import dataclass, replace

RULE = "----"


@dataclass(frozen=True)
class Step:
    """Commands, and what they print.

    Args:
        before: The comments and empty lines before the commands.
        commands: The commands.
        output: What they print.
    """

    before: tuple[str, ...]
    commands: tuple[str, ...]
    output: tuple[str, ...]


def parse(text):
    """Return the steps of a file, and the lines that follow the last one.

    Raises:
        ValueError: Commands have no rule after them.
    """
    steps, before, commands = [], [], []
    lines = iter(text.splitlines())
    for line in lines:
        if line == RULE:
            output = []
            for printed in lines:
                if not printed:
                    break
                output.append(printed)
            steps.append(Step(tuple(before), tuple(commands), tuple(output)))
            before, commands = [], []
        elif not commands and (not line or line.startswith("#")):
            before.append(line)
        else:
            commands.append(line)
    if commands:
        raise ValueError(f"no {RULE} after: {commands[0]}")
    return steps, before


def run(text, execute):
    """Return a file with the output that its commands print now.

    Args:
        text: The file.
        execute: Takes a step's commands and returns the lines that they print.
    """
    steps, after = parse(text)
    return write([replace(step, output=tuple(execute(step.commands))) for step in steps], after)


def write(steps, after=()):
    """Return a file that ``parse`` reads as these steps."""
    blocks = ["\n".join([*step.before, *step.commands, RULE, *step.output]) for step in steps]
    return "\n\n".join([*blocks, *(["\n".join(after)] if after else [])]) + "\n"
