"""Scripts by which shells complete elrun's verbs and options, made from the tables of both.

They are complete in themselves: no interpreter is started at each press of the tab key. Once SCRIPT
stands there, what follows is the script's, and files are offered. The first word may be a verb.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from .converters import WORKER_KINDS, OneOf, parse_path, parse_streams
from .option import Option
from .options import ALL_OPTIONS, STANDALONE
from .verbs import VERBS, Verb

_BACKENDS = ("static", "c10d", "etcd-v2", "etcd-v3", STANDALONE)
_WORDS = {
    "nproc_per_node": WORKER_KINDS,
    "rdzv_backend": _BACKENDS,
    "event_log_handler": ("null", "console", "file"),
}


def completion_script(shell: str) -> str:
    """Return the script for a shell: bash, zsh, fish or tcsh."""
    return _SCRIPTS[shell]()


def _words_of(option: Option) -> tuple[str, ...]:
    """Return the values that are worth an offer."""
    if isinstance(option.parse, OneOf):
        return option.parse
    if option.parse is parse_streams:
        return ("0", "1", "2", "3")
    return _WORDS.get(option.name, ())


def _with_value() -> list[str]:
    return [spelling for option in ALL_OPTIONS if not option.is_flag for spelling in option.opts]


def _looking() -> Iterable[tuple[str, Verb, Mapping[str, tuple[str, ...] | None]]]:
    """Yield the verbs that have options of their own, with these."""
    for name, verb in VERBS.items():
        if verb.options is not None:
            yield name, verb, verb.options


_OF_JOBS = [name for name, verb in VERBS.items() if verb.options is None]


def _bash() -> str:
    cases = "\n".join(
        f'        {"|".join(option.opts)}) words="{" ".join(_words_of(option))}" ;;'
        for option in ALL_OPTIONS
        if _words_of(option)
    )
    spellings = " ".join(each for option in ALL_OPTIONS for each in option.opts)
    verbs = "\n".join(f"        {case} ;;" for case in _bash_verb_cases())
    # The words as bash hands them over are cut at "=" and ":"; its line is whole.
    return f"""\
_elrun() {{
    local -a typed
    local line=${{COMP_LINE:0:COMP_POINT}} option= current= words= word
    read -ra typed <<< "$line"
    if [[ $line != *[[:space:]] ]]; then
        current=${{typed[-1]}}
        unset 'typed[-1]'
    fi
    COMPREPLY=()
    case ${{typed[1]}} in
    {"|".join(_OF_JOBS)}) typed=(elrun "${{typed[@]:2}}") ;;
    {"|".join(name for name, _, _ in _looking())})
        case ${{typed[1]}}:${{typed[-1]}}:$current in
{verbs}
        esac
        [[ $words ]] && mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
        return 0 ;;
    '') if [[ $current != -* ]]; then  # a verb, or SCRIPT
            compopt -o filenames 2> /dev/null
            mapfile -t COMPREPLY < <(compgen -W "{" ".join(VERBS)}" -- "$current"
                compgen -f -- "$current")
        fi ;;
    esac
    for word in "${{typed[@]:1}}"; do
        if [[ $option ]]; then
            option=
            continue
        fi
        case $word in
        {"|".join(_with_value())}) option=$word ;;
        -*) ;;
        *) return ;;
        esac
    done
    if [[ ! $option && $current == --*=* ]]; then
        option=${{current%%=*}}
        current=${{current#*=}}
    fi
    case $option in
        '') [[ $current == -* ]] && words="{spellings}" ;;
{cases}
    esac
    [[ $words ]] && mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
    return 0
}}
complete -o default -F _elrun elrun
"""


def _bash_verb_cases() -> Iterable[str]:
    """Yield what to offer for VERB:WORD BEFORE:CURRENT WORD; the first that matches counts."""
    for name, _, options in _looking():
        for spelling, words in options.items():
            if words:
                yield f'{name}:{spelling}:*) words="{" ".join(words)}"'
        yield f'{name}:*:-*) words="{" ".join(options)}"'


def _zsh() -> str:
    specs = " \\\n        ".join(spec for option in ALL_OPTIONS for spec in _zsh_specs(option))
    verbs = " ".join(_quoted(f"{name}:{verb.help}") for name, verb in VERBS.items())
    cases = "\n".join(
        f"    {name}) _arguments {' '.join(_zsh_verb_specs(options))} '*:RUN:_files' ;;"
        for name, _, options in _looking()
    )
    return f"""\
#compdef elrun
_elrun_first() {{
    local -a verbs=({verbs})
    _describe verb verbs
    _files
}}
_elrun_rest() {{
    case $words[1] in
{cases}
    {"|".join(_OF_JOBS)}) _elrun_job ;;
    *) _files ;;
    esac
}}
_elrun_job() {{
    _arguments -S \\
        {specs} \\
        "(-)1:SCRIPT:${{1:-_files}}" "*::argument:${{2:-_files}}"
}}
_elrun() {{
    _elrun_job _elrun_first _elrun_rest
}}
if [ "$funcstack[1]" = "_elrun" ]; then
    _elrun "$@"
else
    compdef _elrun elrun
fi
"""


def _zsh_verb_specs(options: Mapping[str, tuple[str, ...] | None]) -> Iterable[str]:
    for spelling, words in options.items():
        if words is None:
            yield spelling
        else:
            action = f"({' '.join(words)})" if words else " "
            yield _quoted(f"{spelling}{'=' if spelling.startswith('--') else '+'}:value:{action}")


def _zsh_specs(option: Option) -> Iterable[str]:
    escaped = _escaped(option.help, {each: f"\\{each}" for each in "\\[]:"})
    for spelling in option.opts:
        if option.is_flag:
            yield _quoted(f"{spelling}[{escaped}]")
            continue
        action = f"({' '.join(_words_of(option))})" if _words_of(option) else " "
        if option.parse is parse_path:
            action = "_files -/"
        metavar = _escaped(option.metavar, {":": "\\:"})
        mark = "=" if spelling.startswith("--") else "+"
        yield _quoted(f"{spelling}{mark}[{escaped}]:{metavar}:{action}")


def _fish() -> str:
    taking = " ".join(_with_value())
    lines = [*_fish_verbs(), *(_fish_line(option) for option in ALL_OPTIONS)]
    return f"""\
function __elrun_before_script
    set -l words (commandline -opc)
    set -l takes_value no
    if contains -- "$words[2]" {" ".join(_OF_JOBS)}
        set -e words[2]
    end
    for word in $words[2..-1]
        if test $takes_value = yes
            set takes_value no
        else if contains -- $word {taking}
            set takes_value yes
        else if not string match -q -- '-*' $word
            return 1
        end
    end
end
{chr(10).join(lines)}
"""


def _fish_verbs() -> Iterable[str]:
    for name, verb in VERBS.items():
        described = _escaped(verb.help, {"\\": "\\\\", "'": "\\'"})
        yield f"complete -c elrun -n __fish_use_subcommand -a {name} -d '{described}'"
    for name, _, options in _looking():
        for spelling, words in options.items():
            kind = "-l" if spelling.startswith("--") else "-s"
            part = f"complete -c elrun -n '__fish_seen_subcommand_from {name}'"
            part += f" {kind} {spelling.lstrip('-')}"
            if words:
                part += f" -x -a '{' '.join(words)}'"
            elif words is not None:
                part += " -r"
            yield part


def _fish_line(option: Option) -> str:
    *short, long = option.opts
    parts = ["complete -c elrun -n __elrun_before_script"]
    parts += [f"-s {each.lstrip('-')}" for each in short]
    parts.append(f"-l {long.lstrip('-')}")
    if option.parse is parse_path:
        parts.append("-r -a '(__fish_complete_directories)'")
    elif not option.is_flag:
        words = _words_of(option)
        parts.append(f"-x -a '{' '.join(words)}'" if words else "-x")
    described = _escaped(option.help, {"\\": "\\\\", "'": "\\'"})
    return " ".join([*parts, f"-d '{described}'"])


def _tcsh() -> str:
    long_options = " ".join(option.opts[-1].removeprefix("--") for option in ALL_OPTIONS)
    rules = [
        f"'{kind}/{spelling}{mark}/({' '.join(_words_of(option))})/'"
        for option in ALL_OPTIONS
        if _words_of(option)
        for spelling in option.opts
        for kind, mark in (("n", ""), ("c", "="))
    ]
    return f"complete elrun {' '.join(rules)} 'c/--/({long_options})/' 'n/*/f/'\n"


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _escaped(text: str, by: Mapping[str, str]) -> str:
    return "".join(by.get(each, each) for each in text)


_SCRIPTS: dict[str, Callable[[], str]] = {
    "bash": _bash,
    "zsh": _zsh,
    "fish": _fish,
    "tcsh": _tcsh,
}
