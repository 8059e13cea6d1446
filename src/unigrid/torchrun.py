"""What torchrun tells, in environment variables, the processes that it starts. Nothing here imports torch.

Source: https://docs.pytorch.org/docs/stable/elastic/run.html (environment variables).
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

MEETING = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what a process group is made of


def rank_of_several() -> int | None:
    """Return the number of this process among several that are to work together; None for one alone."""
    several = all(name in os.environ for name in MEETING) and int(os.environ["WORLD_SIZE"]) > 1
    return int(os.environ["RANK"]) if several else None


def local_rank() -> int | None:
    """Return the number of this process among those of its machine."""
    number = os.environ.get("LOCAL_RANK", "")
    return int(number) if number.isdecimal() else None


def attempt() -> dict[str, Any] | None:
    """Return a name of this call of torchrun, and how often it has restarted its processes; None without torchrun.

    The name is a hash of the folder in which torchrun keeps what its processes report, a new one in every call.
    """
    report, restarts = (os.environ.get(f"TORCHELASTIC_{name}", "") for name in ("ERROR_FILE", "RESTART_COUNT"))
    if not report or not restarts.isdecimal():
        return None
    return {"torchrun": hashlib.sha256(str(Path(report).parents[2]).encode()).hexdigest(), "restarts": int(restarts)}


def round_of_restarts() -> str:
    """Return a name of what processes write into torchrun's store, for those that were started at the same time.

    By default torchrun of one machine has one store, in which restarted processes would find the addresses of those before
    them. Machines count restarts on their own, and have a new store for each with `--rdzv-backend c10d`.
    """
    alone = os.environ.get("GROUP_WORLD_SIZE") == "1"
    return f"unigrid-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0) if alone else 'any'}"


def command() -> list[str]:
    """Return the command that starts unigrid as this process was started."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ["unigrid"]
    return ["torchrun", f"--nproc-per-node={os.environ['LOCAL_WORLD_SIZE']}", "-m", "unigrid"]
