"""The options of elrun: their names, defaults, values and groups, in the order of ``--help``."""

from __future__ import annotations

from ...agent.processes import START_METHODS
from . import converters as parsing
from .ending_options import ENDING_OPTIONS
from .option import Option, flag, value

STANDALONE = "standalone"

NODES = "Nodes and workers"
RENDEZVOUS = "Rendezvous"
STATIC = "Static rendezvous and addresses"
PROGRAM = "What is run"
LOGS = "The workers' output"
MORE = "Devices and events"
ABOUT = "About elrun"

SHELLS = ("bash", "zsh", "fish", "tcsh")

OPTIONS: tuple[Option, ...] = (
    value(
        "--nnodes",
        "N|MIN:MAX",
        NODES,
        parsing.parse_nodes,
        "1",
        "Nodes of the job; with a range it may shrink and grow.",
    ),
    value(
        "--nproc-per-node",
        "N|KIND",
        NODES,
        parsing.parse_workers,
        "1",
        "Workers on this node: a number, auto, gpu, xpu or cpu (one for each).",
    ),
    value(
        "--health-check",
        "COMMAND",
        NODES,
        parsing.parse_name,
        None,
        "Run before each attempt; a node where it fails does not take part.",
    ),
    value(
        "--health-check-timeout",
        "SECONDS",
        NODES,
        parsing.seconds(zero=False),
        "30",
        "How long that may take.",
        kind=float,
    ),
    flag("--standalone", NODES, "One node, nothing to configure, any number of jobs side by side."),
    value(
        "--rdzv-backend",
        "NAME",
        RENDEZVOUS,
        parsing.parse_name,
        "static",
        "How nodes meet: static, standalone, c10d, etcd-v3, etcd-v2 or etcd, or a plug-in.",
    ),
    value(
        "--rdzv-endpoint",
        "HOST:PORT",
        RENDEZVOUS,
        parsing.parse_name,
        None,
        "Where they meet; one node needs none.",
    ),
    value(
        "--rdzv-id",
        "ID",
        RENDEZVOUS,
        parsing.parse_name,
        "none",
        "Name of the job, the same on all its nodes.",
    ),
    value(
        "--rdzv-conf",
        "KEY=VALUE,...",
        RENDEZVOUS,
        parsing.parse_settings,
        "",
        "The backend's own settings.",
    ),
    value(
        "--node-rank",
        "N",
        STATIC,
        parsing.parse_count,
        "0",
        "Rank of this node; a wish, unless static.",
        kind=int,
    ),
    value(
        "--master-addr",
        "HOST",
        STATIC,
        parsing.parse_host,
        "127.0.0.1",
        "Address of the node of rank 0; static only.",
    ),
    value(
        "--master-port",
        "PORT",
        STATIC,
        parsing.parse_port,
        None,
        "Port there; static only; one node needs none.  [default: 29500]",
        kind=int,
    ),
    value(
        "--local-addr",
        "HOST",
        STATIC,
        parsing.parse_host,
        None,
        "Address of this node for the others.  [default: found]",
    ),
    value(
        "--role",
        "NAME",
        PROGRAM,
        parsing.parse_role,
        "default",
        "Name that the workers share.",
        takes_empty=True,
    ),
    flag("-m --module", PROGRAM, "SCRIPT is a module, run as by python -m."),
    flag("--no-python", PROGRAM, "SCRIPT is any program, run as it is."),
    flag(
        "--use-env",
        PROGRAM,
        "No effect: ranks stand in the environment.  [torch.distributed.launch]",
    ),
    flag("--run-path", PROGRAM, "SCRIPT runs by runpy.run_path in the worker."),
    value(
        "--start-method",
        "METHOD",
        PROGRAM,
        parsing.OneOf(START_METHODS),
        "spawn",
        "For --run-path: spawn, fork or forkserver.",
    ),
    value(
        "--preload",
        "MODULE,...",
        PROGRAM,
        parsing.parse_modules,
        "",
        "Import these once, then fork the workers; auto: what the first attempt imports.",
    ),
    *ENDING_OPTIONS,
    value(
        "--log-dir",
        "DIR",
        LOGS,
        parsing.parse_path,
        None,
        "Folder for the log files.  [default: a temporary one]",
    ),
    value(
        "--report",
        "FILE",
        LOGS,
        parsing.parse_report,
        None,
        "Keep a report of the job as JSON here; ${hostname}, ${pid} are filled in.",
    ),
    value(
        "--metrics-port",
        "[ADDR:]PORT",
        LOGS,
        parsing.parse_metrics_port,
        None,
        "Answer Prometheus here; on this host only unless there is an address.",
    ),
    value(
        "--metrics-file",
        "FILE",
        LOGS,
        parsing.parse_report,
        None,
        "Keep the metrics here for a textfile collector; as --report.",
    ),
    flag("--no-history", LOGS, "Keep no history of events and samples in the run's folder."),
    value(
        "-r --redirects",
        "STREAMS",
        LOGS,
        parsing.parse_streams,
        "0",
        "To files: 1 stdout, 2 stderr, 3 both, 0 none; 0:1,10:3 by local rank.",
    ),
    value(
        "-t --tee",
        "STREAMS",
        LOGS,
        parsing.parse_streams,
        "0",
        "To files and the console; as --redirects.",
    ),
    value(
        "--log-line-prefix-template",
        "TEXT",
        LOGS,
        parsing.parse_prefix,
        None,
        "What stands before each line of --tee.  [default: [${role_name}${local_rank}]:]",
    ),
    value(
        "--local-ranks-filter",
        "RANKS",
        LOGS,
        parsing.parse_local_ranks,
        "",
        "Only these local ranks speak on the console.",
    ),
    value(
        "--duplicate-stdout-filters",
        "WORDS",
        LOGS,
        parsing.parse_words,
        "",
        "Collect lines of stdout with a word in a file.",
        kind=parsing.parse_words,
    ),
    value(
        "--duplicate-stderr-filters",
        "WORDS",
        LOGS,
        parsing.parse_words,
        "",
        "Collect lines of stderr with a word in a file.",
        kind=parsing.parse_words,
    ),
    value(
        "--logs-specs",
        "NAME",
        LOGS,
        parsing.parse_name,
        None,
        "A plug-in that lays the log files out (torchrun.logs_specs).",
    ),
    value(
        "--gpus",
        "LIST",
        MORE,
        parsing.parse_gpus,
        None,
        "GPUs for the workers: 2,4,7, ids, or MIG names; by node: n1:0,1;n2:2,3.  [default: all]",
    ),
    value(
        "--numa-binding",
        "MODE",
        MORE,
        parsing.OneOf(("node", "socket", "exclusive", "core-complex")),
        None,
        "Bind workers to CPUs: node, socket, exclusive, core-complex.",
    ),
    flag("--virtual-local-rank", MORE, "Each worker sees its GPU as device 0, with LOCAL_RANK 0."),
    value(
        "--event-log-handler",
        "NAME",
        MORE,
        parsing.parse_name,
        "null",
        "Where the events go: null, console, file, file:PATH, a plug-in.",
    ),
    flag("-q --quiet", ABOUT, "Leave out notices and how waits go; failures are shown."),
    value(
        "--log-format",
        "FORM",
        ABOUT,
        parsing.OneOf(("text", "json")),
        "text",
        "elrun's own lines: text, or json, one object a line.",
    ),
)

HELP = flag("-h --help", ABOUT, "Show this and exit.")
VERSION = flag("-V --version", ABOUT, "Show the version and exit.")
COMPLETION = value(
    "--print-completion",
    "SHELL",
    ABOUT,
    parsing.OneOf(SHELLS),
    None,
    "Print what completes options in bash, zsh, fish or tcsh.",
    takes_empty=True,
)

CONFIG = value(
    "--config",
    "FILE",
    ABOUT,
    parsing.parse_name,
    None,
    "A TOML file with options; by default [tool.elrun] of pyproject.toml here.",
)

DRY_RUN = flag("--dry-run", ABOUT, "Show what would be launched, and why; start nothing.")
FORMAT = value(
    "--format",
    "FORM",
    ABOUT,
    parsing.OneOf(("text", "json")),
    "text",
    "How --dry-run and elrun doctor show what they found: text, json.",
)

ALL_OPTIONS = (*OPTIONS, CONFIG, DRY_RUN, FORMAT, HELP, VERSION, COMPLETION)
