"""How far it is from the user's call to the first kernel, and which modules of `stencil` import which.

The counts are budgets: what is read to follow a solve. Only code that runs is counted, not that which imports.
"""

from __future__ import annotations

import ast
import contextlib
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

import unigrid

SOURCE = Path(unigrid.__file__).parent
STENCIL = SOURCE / "stencil"
F = np.ones((255, 255))
# Files but those of compiled kernels.
WARM_FILES, FIRST_FILES, FRAMES = 12, 21, 9
COMPILED = "kernels.cpu.compiled"
KERNELS = {"wave", "restrict_source", "cascade", "residual", "relax_color"}
NORMS = {"sum_of_squares"}  # the norm of b comes before; what counts is the way to the first kernel of the cycle


@contextlib.contextmanager
def files_entered():
    """Yield the set of files of unigrid whose functions are entered meanwhile."""
    files: set[str] = set()

    def observe(frame, event, _):
        code = frame.f_code
        path = Path(code.co_filename)
        if event == "call" and code.co_name != "<module>" and SOURCE in path.parents and path.parent.name != "compiled":
            files.add(path.relative_to(SOURCE).as_posix())

    before = sys.getprofile()
    sys.setprofile(observe)
    try:
        yield files
    finally:
        sys.setprofile(before)


def frames_to_the_first_kernel(call):
    """Return the functions from the user's call to the one that calls the first kernel, and the name of the kernel.

    A kernel is called through numba's dispatcher, a Python frame in a file of `compiled`, or directly, as a built-in function.
    """
    seen: list[list[str]] = []

    def observe(frame, event, argument):
        code = frame.f_code
        if event == "c_call" and COMPILED in (getattr(argument, "__module__", None) or ""):
            kernel = argument.__name__
        elif event == "call" and COMPILED in code.co_filename.replace("/", "."):
            kernel, frame = code.co_name, frame.f_back
        else:
            return
        if seen or kernel in NORMS or kernel not in KERNELS:
            return
        names = []
        while frame.f_code is not call.__code__:
            names.append(f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}")
            frame = frame.f_back
        seen.append([*names[::-1], kernel])

    sys.setprofile(observe)
    try:
        call()
    finally:
        sys.setprofile(None)
    return seen[0]


def solve_once():
    """Solve by the one-shot call, on one thread."""
    unigrid.solve(F, precision="full", threads=1)


def clear_caches():
    """Forget the hierarchies of earlier calls, so that a call is a first one."""
    if "clear_cache" in unigrid.__all__:
        unigrid.clear_cache()


def test_a_warm_solve_enters_few_files():
    cycle = unigrid.StencilCycle(unigrid.Poisson(F.shape))
    cycle.solve(F, precision="full", threads=1)
    with files_entered() as files:
        cycle.solve(F, precision="full", threads=1)
    assert len(files) <= WARM_FILES, sorted(files)


def test_a_first_solve_enters_few_files():
    solve_once()  # modules are imported and kernels compiled
    clear_caches()
    with files_entered() as files:
        solve_once()
    assert len(files) <= FIRST_FILES, sorted(files)


@pytest.mark.parametrize("first", [True, False], ids=["first", "again"])
def test_few_frames_lie_between_the_call_and_the_first_kernel(first):
    solve_once()
    if first:
        clear_caches()
    *frames, kernel = frames_to_the_first_kernel(solve_once)
    assert frames[0] == "messages.checked" or frames[0].endswith(".solve"), frames
    assert len(frames) <= FRAMES, f"{' > '.join(frames)} > {kernel}"


def test_few_frames_lie_between_a_prepared_solve_and_the_first_kernel():
    cycle = unigrid.StencilCycle(unigrid.Poisson(F.shape))

    def solve():
        cycle.solve(F, precision="full", threads=1)

    solve()
    *frames, kernel = frames_to_the_first_kernel(solve)
    assert len(frames) <= FRAMES, f"{' > '.join(frames)} > {kernel}"


# Imports


def imports_of(path: Path, folder: Path) -> set[Path]:
    """Return the files of a folder that a file of it imports: anywhere in it, in functions and under TYPE_CHECKING too."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = path.parents[node.level - 1] if node.level else SOURCE.parent
            base = base.joinpath(*(node.module or "").split("."))
            targets = [module_at(base / alias.name) or module_at(base) for alias in node.names]
        elif isinstance(node, ast.Import):
            targets = [module_at(SOURCE.parent.joinpath(*alias.name.split("."))) for alias in node.names]
        else:
            continue
        found |= {target for target in targets if target and folder in target.parents and target != path}
    return found


def module_at(base: Path) -> Path | None:
    """Return the file of a module or package."""
    candidates = base.with_name(f"{base.name}.py"), base / "__init__.py"
    return next((path for path in candidates if path.exists()), None)


def edges_of(folder: Path) -> set[tuple[str, str]]:
    """Return who imports whom, by paths relative to the folder."""
    return {
        (path.relative_to(folder).as_posix(), target.relative_to(folder).as_posix())
        for path in folder.rglob("*.py")
        for target in imports_of(path, folder)
    }


def circles_in(edges: set[tuple[str, str]]) -> list[list[str]]:
    """Return the sets of files that import one another, directly or by way of others."""
    names = sorted({name for edge in edges for name in edge})
    ends = np.array([[names.index(name) for name in edge] for edge in edges]).T
    matrix = coo_array((np.ones(len(edges)), tuple(ends)), shape=(len(names),) * 2)
    _, numbers = connected_components(matrix, connection="strong")
    parts = [[name for name, at in zip(names, numbers, strict=True) if at == number] for number in set(numbers)]
    return [part for part in parts if len(part) > 1]


def test_no_imports_go_round_in_a_circle():
    assert circles_in(edges_of(STENCIL)) == []


# The layers within `stencil`, lowest first; a module imports from lower layers, and from those listed before it in its own.
LAYERS = [
    ("stretched.py", "grid.py", "spacings.py"),
    ("kernels",),
    (
        "waves.py",
        "sums.py",
        "operator.py",
        "masks.py",
        "components.py",
        "coefficients.py",
        "robin.py",
        "coupled.py",
        "reaction.py",
        "fourth_order.py",
        "transfers.py",
        "rescaled.py",
        "problem.py",
        "windows.py",
        "convolution.py",
    ),
    ("smoothers.py", "learned.py", "coarse.py", "helmholtz.py"),
    ("slots.py", "hierarchy.py", "relaxation.py"),
    (
        "minimal_residuals.py",
        "compatibility.py",
        "iterations.py",
        "gradients.py",
        "scipy_operators.py",
        "batches.py",
        "stacks.py",
        "krylov.py",
        "solving.py",
        "profile.py",
    ),
    (
        "cycle.py",
        "coarsening.py",
        "galerkin_levels.py",
        "galerkin.py",
        "packed.py",
        "fas.py",
        "nonlinear.py",
        "external.py",
        "preconditioned.py",
        "scaled.py",
        "suspects.py",
        "recognition.py",
        "solve.py",
    ),
]


def rank(path: str) -> tuple[int, int]:
    """Return the layer of a file and its place there."""
    return next(
        (number, names.index(part)) for part in [path.split("/")[0]] for number, names in enumerate(LAYERS) if part in names
    )


def test_no_import_leads_upward():
    edges = {(one, other) for one, other in edges_of(STENCIL) if "__init__.py" not in (one, other)}
    assert [f"{one} imports {other}" for one, other in sorted(edges) if rank(other) > rank(one)] == []
    built_on_it = {"analysis", "cli", "conv", "equivalence", "plots", "training"}
    outward = [
        f"{path.name} imports {target.relative_to(SOURCE)}"
        for path in sorted(STENCIL.rglob("*.py"))
        for target in imports_of(path, SOURCE)
        if target.relative_to(SOURCE).parts[0] in built_on_it
    ]
    assert outward == []


def test_the_imports_that_are_hidden_are_found(tmp_path):
    """The two tests above are worth what finds the imports."""
    (tmp_path / "one.py").write_text("def f():\n    from . import two\n", encoding="utf-8")
    (tmp_path / "two.py").write_text("if TYPE_CHECKING:\n    from .three import x\n", encoding="utf-8")
    (tmp_path / "three.py").write_text("from .one import f\n", encoding="utf-8")
    edges = edges_of(tmp_path)
    assert edges == {("one.py", "two.py"), ("two.py", "three.py"), ("three.py", "one.py")}
    assert circles_in(edges) == [["one.py", "three.py", "two.py"]]
    assert circles_in(edges - {("two.py", "three.py")}) == []
