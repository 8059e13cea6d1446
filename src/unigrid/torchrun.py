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


def has_agent_store() -> bool:
    """Whether the store in which processes find each other is torchrun's, and outlives them."""
    return os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"


def attempt() -> dict[str, Any] | None:
    """Return a name of this call of torchrun, and how often it has restarted its processes; None without torchrun.

    The name is a hash of the folder in which torchrun keeps what its processes report, a new one in every call.
    """
    report, restarts = (os.environ.get(f"TORCHELASTIC_{name}", "") for name in ("ERROR_FILE", "RESTART_COUNT"))
    if not report or not restarts.isdecimal():
        return None
    return {"torchrun": hashlib.sha256(str(Path(report).parents[2]).encode()).hexdigest(), "restarts": int(restarts)}


def command() -> list[str]:
    """Return the command that starts unigrid as this process was started."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ["unigrid"]
    machines, processes = os.environ["GROUP_WORLD_SIZE"], os.environ["LOCAL_WORLD_SIZE"]
    elsewhere = [] if machines == "1" else [f"--nnodes={machines}", "..."]  # where they meet is not among the variables
    return ["torchrun", *elsewhere, f"--nproc-per-node={processes}", "-m", "unigrid"]
