"""Modules run as `python -m` runs them, in processes that are forked where `import torch`, of seconds, has ended.

What Python and torch read at their start, such as PYTHONHASHSEED, is that of this process for all of them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

FORKS = """
import atexit, gc, json, os, runpy, sys, warnings
import numpy
import torch._dynamo, torchvision  # noqa: F401 (what optimisers and torch-fidelity import)
gc.freeze()  # else each collection in a child copies all that was imported
atexit.register(gc.unfreeze)
warnings.filterwarnings("ignore", category=DeprecationWarning, module="__main__")  # of fork, beside OpenBLAS's thread
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if not child:
        for number in (0, 1, 2):
            os.dup2(os.open(job["files"][number], os.O_RDWR | os.O_CREAT), number)
        os.chdir(job["folder"])
        os.environ.clear()
        os.environ.update(job["environment"])
        numpy.random.seed()  # as in a process of its own
        sys.path[0:1] = [job["folder"]]
        for sys.argv in job["commands"]:
            runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        sys.exit()
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@cache
def server() -> subprocess.Popen[str]:
    """The process that the others are forked from; it ends with this one."""
    return subprocess.Popen([sys.executable, "-c", FORKS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def run_modules(
    folder: Path, environment: Mapping[str, str], commands: Sequence[Sequence[str]]
) -> subprocess.CompletedProcess[str]:
    """Run modules, each with its arguments, one after the other in one process, until one exits."""
    forks = server()
    assert forks.stdin
    assert forks.stdout
    with TemporaryDirectory() as place:
        files = [os.devnull, f"{place}/stdout", f"{place}/stderr"]
        job = {"folder": str(folder), "commands": commands, "environment": dict(environment), "files": files}
        forks.stdin.write(json.dumps(job) + "\n")
        forks.stdin.flush()
        status = forks.stdout.readline()
        assert status, "the process that forks has ended"
        return subprocess.CompletedProcess(commands, int(status), *(Path(file).read_text() for file in files[1:]))
