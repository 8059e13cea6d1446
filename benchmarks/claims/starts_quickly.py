"""Claim: `unigrid solve` of a 1023 x 1023 file takes under 2.5 s in total, and under 30 s the very first time.

Each run is a fresh process, from its start to its end: interpreter, imports, reading the file, solving, writing the result.
The first run has an empty cache of compiled kernels, in a folder of its own; the others use this cache. In Python processes,
with cached kernels, the first solve less the second is measured twice: with all modules of `unigrid.solve` already imported,
and with NumPy alone imported, since `import unigrid` loads modules when they are first used. A process that only imports NumPy
and numba is timed beside them: no program that uses numba starts faster.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from record import Verdict, arguments, at_most, show, show_verdicts, table, write

CLAIM = (
    "a fresh process solves a 1023 x 1023 file in under 2.5 s, the very first run, which compiles, in under 30 s; "
    "in Python, imports done, the first solve of a process costs less than 0.5 s more than the second"
)
WARM_BAR, FIRST_BAR, LIBRARY_BAR = 2.5, 30.0, 0.5
LIBRARY = """
import time
import numpy as np
import unigrid
{imports}
f = np.random.default_rng(0).standard_normal(({n}, {n}))
times = [time.perf_counter()]
for _ in range(2):
    unigrid.solve(f)
    times.append(time.perf_counter())
print((times[1] - times[0]) - (times[2] - times[1]))
"""


def timed(command: list[str], cache: Path) -> tuple[float, str]:
    """Return the seconds of a fresh process whose kernels are cached in `cache`, and its output."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    start = time.perf_counter()
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True)
    elapsed = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return elapsed, done.stdout + done.stderr


def verdicts(first: float, warm: float, more: float) -> list[Verdict]:
    """Return the bars: of both kinds of runs, and of the first solve in a process."""
    return [
        at_most("first run, kernels compiled, s", first, FIRST_BAR),
        at_most("later run, kernels cached, s", warm, WARM_BAR),
        at_most("in Python, first solve less second, s", more, LIBRARY_BAR),
    ]


def main() -> None:
    options = arguments(__doc__)
    n, firsts, repeats = (63, 1, 2) if options.small else (1023, 3, 9)
    first_runs, warm_runs, bare_runs, solve_runs, import_runs, announced = [], [], [], [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "f.npy", np.random.default_rng(0).standard_normal((n, n)))
        solve = ["-m", "unigrid", "solve", str(folder / "f.npy"), "--force", "-o", str(folder / "u.npy")]
        for number in range(firsts):
            elapsed, text = timed(solve, folder / f"cache{number}")
            first_runs.append(elapsed)
            announced.append("compil" in text.lower())
        for _ in range(repeats):
            warm_runs.append(timed(solve, folder / "cache0")[0])
            bare_runs.append(timed(["-c", "import numpy, numba"], folder / "cache0")[0])
            for imports, runs in (("unigrid.solve", solve_runs), ("", import_runs)):
                runs.append(float(timed(["-c", LIBRARY.format(n=n, imports=imports)], folder / "cache0")[1]))
        u = np.load(folder / "u.npy")
    assert u.shape == (n, n)
    all_runs = first_runs, warm_runs, bare_runs, solve_runs, import_runs
    first, warm, bare, more, more_with_imports = (statistics.median(runs) for runs in all_runs)
    show(f"{n} x {n} file, fresh processes, medians")
    cells = [
        ["first run, kernels compiled", len(first_runs), first, FIRST_BAR],
        ["later run, kernels cached", len(warm_runs), warm, WARM_BAR],
        ["in Python, first solve less second", len(solve_runs), more, LIBRARY_BAR],
        ["the same, imports in the first solve", len(import_runs), more_with_imports, None],
        ["import numpy, numba alone", len(bare_runs), bare, None],
    ]
    show(table(["measured", "runs", "seconds", "bar"], cells))
    show(f"the first run announces that it compiles: {'yes' if all(announced) else 'no'}")
    found = verdicts(first, warm, more)
    show_verdicts(found)
    result = {
        "n": n,
        "seconds": {
            "first": first,
            "warm": warm,
            "import_numpy_numba": bare,
            "first_solve_less_second": more,
            "first_solve_less_second_with_imports": more_with_imports,
        },
        "runs": {
            "first": first_runs,
            "warm": warm_runs,
            "import_numpy_numba": bare_runs,
            "first_solve_less_second": solve_runs,
        },
        "first_run_announces_compilation": all(announced),
    }
    write("starts_quickly", CLAIM, options, result, found)


if __name__ == "__main__":
    main()
