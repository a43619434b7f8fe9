"""A file of options, as ``--config`` and as the folder's own ``pyproject.toml``."""

import os
import tempfile

from elrun.launcher.commandline.arguments import Refusal
from elrun.launcher.commandline.config_file import read_config
from elrun.launcher.commandline.environment import Environment
from elrun.launcher.commandline.options import OPTIONS
from elrun.launcher.commandline.parse import parse
from fuzz_sentences import require_sentence

_FOLDER = tempfile.TemporaryDirectory(prefix="elrun-fuzz-")
_PLACES = [os.path.join(_FOLDER.name, name) for name in ("elrun.toml", "pyproject.toml", "a.yaml")]


def attempt(data: bytes) -> None:
    """It is refused with a sentence, or its texts are taken as if they had been typed."""
    for path in _PLACES:
        with open(path, "wb") as file:
            file.write(data)
        try:
            texts, source = read_config(path, OPTIONS)
            assert source == path
            assert all(isinstance(text, str) and text for text in texts.values())
            parse(["--config", path, "train.py"], Environment({}))
        except Refusal as refusal:
            require_sentence(refusal)
