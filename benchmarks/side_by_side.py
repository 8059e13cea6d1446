"""Runs of training side by side, each in a process of its own: on a CPU small networks use several cores best that way."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

from unigrid.training import DatasetError, TrainingError

Task = TypeVar("Task")


def side_by_side(
    run: Callable[..., dict[str, Any]], tasks: Sequence[Task], workers: int, *others: Any
) -> Iterator[tuple[Task, dict[str, Any]]]:
    """Yield every task with the row that `run(task, *others)` returns, as soon as it is there.

    A run that diverges has no row; its error is printed, and the others go on.
    """
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(run, task, *others): task for task in tasks}
        for done in as_completed(running):
            try:
                yield running[done], done.result()
            except DatasetError:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            except TrainingError as error:
                print(f"{running[done]}: {error}", file=sys.stderr, flush=True)
