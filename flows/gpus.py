"""The GPUs of this machine's workers, by UUID, for a stage that asks for several (`meta.gpus` in dvc.yaml).

Such a stage gets their locks and CUDA_VISIBLE_DEVICES; what it does with them is its own affair. cspipe's trainings
use one GPU today, the first that they see.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from flows.failures import StageFailed
from flows.graph import Node
from flows.local.workers import GPUS_OF_ALL, visible_gpus

PREFIX = "GPU-"
ASK = "import torch\nfor n in range(torch.cuda.device_count()): print(torch.cuda.get_device_properties(n).uuid)"


def wanted(node: Node) -> list[str]:
    """How many GPUs a stage gets and the names of those it may get, [] if it does with the one of its worker.

    Raises StageFailed if the machine's workers have fewer.
    """
    if node.gpus == 1:
        return []
    names = uuids(gpus_of_all())
    if len(names) < node.gpus:
        raise StageFailed(
            f"{node.name}: asks for {node.gpus} GPUs (meta.gpus in dvc.yaml) and this machine's workers have "
            f"{len(names)}; run it on a machine that has them, or ask for fewer"
        )
    return [str(node.gpus), *names]


def gpus_of_all() -> list[str]:
    """All GPUs that the machine's workers share, as CUDA_VISIBLE_DEVICES names them; a worker sees but one of them."""
    chosen = os.environ.get(GPUS_OF_ALL)
    return visible_gpus() if chosen is None else [name for name in chosen.split(",") if name]


def uuids(names: Sequence[str]) -> list[str]:
    """UUIDs of GPUs, without prefix as torch has them; numbers are asked of torch, whose order is not nvidia-smi's."""
    if not names or all(name.startswith(PREFIX) for name in names):
        return [name.removeprefix(PREFIX) for name in names]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ",".join(names)}
    done = subprocess.run([sys.executable, "-c", ASK], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise StageFailed(f"GPUs {','.join(names)}: torch cannot tell their UUIDs ({done.stderr.strip()[-200:]})")
    return done.stdout.split()
