"""Reports: a training run, or a solve, as one HTML page that needs no other file and no network.

`of_run(folder)` and `of_solution(solution, cycle)` return a `Page`, which `save` writes. The extra `report` installs jinja2,
which fills the templates. Facts are gathered first, as frozen values, and rendered by the templates alone.
"""

from .page import Page
from .runs import of_run
from .solves import of_solution

__all__ = ["Page", "of_run", "of_solution"]
