"""Command lines from the documentation of well-known projects run unchanged but for the word.

``torchrun`` becomes ``elrun``, ``python -m torch.distributed.run`` (and ``.launch``) becomes
``python -m elrun``. What they run is a stand-in that says which rank it was and what it was given.
"""

import json
import os
import re
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
STAND_IN = """
import json, os, sys
names = "RANK", "LOCAL_RANK", "WORLD_SIZE", "GROUP_RANK", "ROLE_NAME"
with open(os.path.join(os.environ["SEEN"], os.environ["RANK"]), "w") as file:
    json.dump({"argv": sys.argv[1:], **{name: os.environ[name] for name in names}}, file)
"""


@dataclass
class Line:
    """A command line, and what its authors expect of it.

    ``script`` is the program that it runs, ``arguments`` what that is given.
    """

    text: str
    script: str
    workers: int
    arguments: str = ""
    nodes: int = 1
    variables: dict = field(default_factory=dict)


LINES = {
    # pytorch/torchtitan, run_train.sh
    "torchtitan": Line(
        """torchrun --nproc_per_node=${NGPU} --rdzv_backend c10d --rdzv_endpoint="localhost:0" \\
        --local-ranks-filter ${LOG_RANK} --role rank --tee 3 \\
        -m torchtitan.train --module ${MODULE} --config ${CONFIG} "$@" """,
        "torchtitan/train.py",
        4,
        "--module llama3 --config llama3_debugmodel",
        variables={
            "NGPU": "4",
            "LOG_RANK": "0",
            "MODULE": "llama3",
            "CONFIG": "llama3_debugmodel",
        },
    ),
    # huggingface/transformers, examples/pytorch/README.md
    "transformers": Line(
        """python -m torch.distributed.launch \\
        --nproc_per_node 8 pytorch/text-classification/run_glue.py \\
        --model_name_or_path bert-large-uncased-whole-word-masking \\
        --task_name mnli --do_train --learning_rate 2e-5 --output_dir /tmp/mnli_output/""",
        "pytorch/text-classification/run_glue.py",
        8,
        "--model_name_or_path bert-large-uncased-whole-word-masking --task_name mnli --do_train "
        "--learning_rate 2e-5 --output_dir /tmp/mnli_output/",
    ),
    # huggingface/accelerate, examples/README.md
    "accelerate": Line(
        "torchrun --nproc_per_node 2 ./nlp_example.py --mixed_precision fp16",
        "nlp_example.py",
        2,
        "--mixed_precision fp16",
    ),
    # NVIDIA/Megatron-LM, examples/gpt3/train_gpt3_175b_distributed.sh
    "Megatron-LM": Line(
        """DISTRIBUTED_ARGS=(
            --nproc_per_node $GPUS_PER_NODE
            --nnodes $NUM_NODES
            --master_addr $MASTER_ADDR
            --master_port $MASTER_PORT
        )
        torchrun ${DISTRIBUTED_ARGS[@]} pretrain_gpt.py --fp16 --split 949,50,1""",
        "pretrain_gpt.py",
        8,
        "--fp16 --split 949,50,1",
        variables={
            "GPUS_PER_NODE": "8",
            "NUM_NODES": "1",
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": "6000",
        },
    ),
    # hiyouga/LLaMA-Factory, examples/full_multi_gpu/multi_node.sh
    "LLaMA-Factory": Line(
        """python -m torch.distributed.run \\
        --nproc_per_node $NPROC_PER_NODE \\
        --nnodes $NNODES \\
        --node_rank $RANK \\
        --master_addr $MASTER_ADDR \\
        --master_port $MASTER_PORT \\
        src/train.py examples/full_multi_gpu/llama3_full_sft.yaml""",
        "src/train.py",
        4,
        "examples/full_multi_gpu/llama3_full_sft.yaml",
        nodes=2,
        variables={"NPROC_PER_NODE": "2", "NNODES": "2", "MASTER_ADDR": "127.0.0.1"},
    ),
    # pytorch/vision, references/classification/README.md
    "torchvision": Line(
        """python -m torch.distributed.launch --nproc_per_node=8 --use_env train.py\\
        --model mobilenet_v2 --epochs 300 --lr 0.045 --wd 0.00004\\
        --lr-step-size 1 --lr-gamma 0.98""",
        "train.py",
        8,
        "--model mobilenet_v2 --epochs 300 --lr 0.045 --wd 0.00004 --lr-step-size 1 "
        "--lr-gamma 0.98",
    ),
    # facebookresearch/detr, README.md
    "DETR": Line(
        "python -m torch.distributed.launch --nproc_per_node=8 --use_env main.py "
        "--coco_path /path/to/coco ",
        "main.py",
        8,
        "--coco_path /path/to/coco",
    ),
    # vllm-project/vllm, examples/features/torchrun/torchrun_dp_example_offline.py
    "vLLM": Line(
        """torchrun --nproc-per-node=8 examples/features/torchrun/torchrun_dp_example_offline.py \\
        --tp-size=2 --pp-size=1 --dp-size=4 --enable-ep""",
        "examples/features/torchrun/torchrun_dp_example_offline.py",
        8,
        "--tp-size=2 --pp-size=1 --dp-size=4 --enable-ep",
    ),
    # karpathy/nanoGPT, README.md
    "nanoGPT": Line(
        "torchrun --standalone --nproc_per_node=4 train.py config/train_gpt2.py",
        "train.py",
        4,
        "config/train_gpt2.py",
    ),
    # docs.pytorch.org, elastic/run.html: several jobs on one node
    "PyTorch": Line(
        """torchrun \\
            --rdzv-backend=c10d \\
            --rdzv-endpoint=localhost:0 \\
            --nnodes=1 \\
            --nproc-per-node=$NUM_TRAINERS \\
            train.py --arg1 x""",
        "train.py",
        3,
        "--arg1 x",
        variables={"NUM_TRAINERS": "3"},
    ),
    # Lightning-AI/pytorch-lightning, docs/source-pytorch/clouds/cluster_intermediate_2.rst
    "Lightning": Line(
        """torchrun \\
        --nproc_per_node=$GPUS_PER_NODE \\
        --nnodes=$NUM_NODES \\
        --node_rank $RANK \\
        --master_addr $MASTER_ADDR \\
        --master_port $MASTER_PORT \\
        train.py --arg1 --arg2""",
        "train.py",
        2,
        "--arg1 --arg2",
        nodes=2,
        variables={"GPUS_PER_NODE": "1", "NUM_NODES": "2", "MASTER_ADDR": "127.0.0.1"},
    ),
    # pytorch/torchx, torchx/components/dist.py, as its schedulers start a job of one node
    "TorchX": Line(
        "torchrun --rdzv_backend c10d --rdzv_endpoint localhost:0 --rdzv_id train-x1 --nnodes 1 "
        "--nproc_per_node 2 --tee 3 --role '' -m pkg.train --epochs 1",
        "pkg/train.py",
        2,
        "--epochs 1",
    ),
    # the same of two
    "TorchX, two nodes": Line(
        "torchrun --rdzv_backend c10d "
        '--rdzv_endpoint "${TORCHX_RANK0_HOST:=localhost}:$MASTER_PORT" '
        "--rdzv_id train-x2 --nnodes 2 --nproc_per_node 1 --tee 3 --role '' train.py --epochs 1",
        "train.py",
        2,
        "--epochs 1",
        nodes=2,
    ),
    # a wrapper that passes on what its caller may have set
    "wrapper": Line(
        """torchrun --nproc_per_node 2 --rdzv_backend "$BACKEND" --rdzv_endpoint="$ENDPOINT" \
        --rdzv_id="$ID" --rdzv_conf="$CONF" --log_dir="$LOGS" --local_addr "$ADDRESS" \
        --master_addr="$MASTER" --master_port="$MASTER_PORT" --max_restarts="$RESTARTS" \
        --redirects="$REDIRECTS" --start_method "$METHOD" train.py --lr 1""",
        "train.py",
        2,
        "--lr 1",
    ),
}


def translated(text):
    """Return the line with the one word changed."""
    text, count = re.subn(
        r"\btorchrun(?=\s)|python -m torch\.distributed\.(run|launch)",
        lambda found: "elrun" if found[0] == "torchrun" else "python -m elrun",
        text,
    )
    assert 1 == count
    return text


@pytest.fixture(name="run")
def _run(elrun, tmp_path, vacant_port):
    """Run a line on each of its nodes; return what the workers saw, by rank."""

    def run(line):
        path = tmp_path / line.script
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(STAND_IN)
        seen = tmp_path / "seen"
        seen.mkdir()
        env = {"PATH": PATH, "SEEN": str(seen), **line.variables}
        if line.nodes > 1:
            env["MASTER_PORT"] = str(vacant_port())
        become_bash = ("-c", "import os, sys; os.execvp('bash', ['bash', '-e', *sys.argv[1:]])")
        jobs = [
            elrun("-c", translated(line.text), command=become_bash, env=env | {"RANK": str(node)})
            for node in range(line.nodes)
        ]
        for job in jobs:
            code, _, err = job.finish()
            assert 0 == code, err
        return {int(path.name): json.loads(path.read_text()) for path in seen.iterdir()}

    return run


@pytest.mark.parametrize("name", LINES)
def test_a_line_of_a_well_known_project_runs(run, name):
    """As many workers as it asks for, each with the script's own arguments and no others."""
    line = LINES[name]

    seen = run(line)

    assert list(range(line.workers)) == sorted(seen)
    assert {str(line.workers)} == {each["WORLD_SIZE"] for each in seen.values()}
    assert line.nodes == len({each["GROUP_RANK"] for each in seen.values()})
    assert all(shlex.split(line.arguments) == each["argv"] for each in seen.values())
    role = re.search(r"--role ('?)(\w*)\1", line.text)
    assert {role[2] if role else "default"} == {each["ROLE_NAME"] for each in seen.values()}


@pytest.mark.parametrize("spelling", ["--use-env", "--use_env"])
def test_launch_with_use_env(run, spelling):
    """``torch.distributed.launch --use-env`` adds no argument; the rank is in the environment."""
    text = f"python -m torch.distributed.launch --nproc_per_node 2 {spelling} train.py --lr 1"

    seen = run(Line(text, "train.py", 2))

    assert [["--lr", "1"]] * 2 == [each["argv"] for each in seen.values()]
    assert {0: "0", 1: "1"} == {rank: each["LOCAL_RANK"] for rank, each in seen.items()}
