"""Plant a fault in every kernel, every ghost value and every transfer, one after the other, and print which test finds it.

    python tests/planted_faults.py [words of the faults' names ...]

Each fault goes into a copy of the sources, with an empty cache of kernels; then the part of the fast tier runs that is about
that file, until something fails. A fault that nothing finds is printed as such, and the exit code is 1.

Not collected by pytest: it compiles the kernels many times over, and takes some twenty minutes.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
STENCIL = "unigrid/stencil/"
FAST = "not slow and not system"
# What finds a kernel's fault by its file's checksum alone, or by a budget, does not count.
NOT_COUNTED = ("test_compiling",)

UNIT = ("tests/stencil/test_kernels.py", "tests/stencil/test_smoothers.py", "tests/golden/test_iterates.py")
FUSED = (
    "tests/golden/test_iterates.py", "tests/stencil/test_properties.py", "tests/stencil/test_fused.py",
    "tests/stencil/test_observed.py",
)  # fmt: skip
SIDES = ("tests/stencil/test_direct_comparison.py", "tests/stencil/test_kernels.py", "tests/stencil/test_boundary.py")
COEFFICIENTS = (
    "tests/stencil/test_galerkin.py", "tests/stencil/test_black_box.py", "tests/stencil/test_coefficients.py",
    "tests/stencil/test_masks.py", "tests/stencil/test_fused_points.py",
)  # fmt: skip
DOMAINS = (
    "tests/stencil/test_masks.py", "tests/stencil/test_natural_masks.py", "tests/stencil/test_components.py",
    "tests/stencil/test_windows.py",
)  # fmt: skip
POINTS = ("tests/stencil/test_fused_points.py",)
TRANSFERS = ("tests/stencil/test_transfers.py", "tests/stencil/test_properties.py", "tests/golden/test_iterates.py")


class Fault(NamedTuple):
    """In `file`, behind "def `function`(" (or "class `function`"), the first `old` becomes `new`."""

    file: str
    function: str
    old: str
    new: str
    tests: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{Path(self.file).stem}.{self.function}: {self.old!r} -> {self.new!r}"

    def plant(self, root: Path) -> None:
        """Write the fault into the copy of the sources at `root`."""
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        head = re.search(rf"^ *(def|class) {re.escape(self.function)}\b", text, flags=re.MULTILINE)
        at = text.find(self.old, head.start()) if head else -1
        if at < 0:
            raise LookupError(f"not found: {self.name}; the table of faults is to follow the code")
        path.write_text(text[:at] + self.new + text[at + len(self.old) :], encoding="utf-8")


def _in(file: str, tests: tuple[str, ...], *faults: tuple[str, str, str]) -> list[Fault]:
    return [Fault(STENCIL + file, *fault, tests) for fault in faults]


FAULTS = [
    *_in(
        "kernels/cpu/compiled/loops.py", UNIT,
        ("along", "low_weight = scale *", "low_weight = -scale *"),
        ("along", "high_weight = scale *", "high_weight = -scale *"),
        ("along", "diagonal += scale * stencil.coefficients[axis, 3]", "diagonal -= scale * stencil.coefficients[axis, 3]"),
        ("_apply_row", "+ up_weight * above[k]", "- up_weight * above[k]"),
        ("_apply_row", "center[k + 1]) + back_weight", "center[k - 1]) + back_weight"),
        ("_apply_row", "+ right_weight * center[right]", "- right_weight * center[right]"),
        ("residual", "f_row[k] - out_row[k]", "f_row[k] + out_row[k]"),
        ("residual_sum_of_squares", "f_row[k] - buffer[k]", "f_row[k] + buffer[k]"),
        ("_restate_slab", "f_row[k] - buffer[k]", "f_row[k] + buffer[k]"),
        ("correct", "u_row[k] += e_row[k]", "u_row[k] -= e_row[k]"),
        ("convert", "= u_row[k]", "= -u_row[k]"),
        ("sum_of_squares", "row_total += value * value", "row_total += 2 * value * value"),
        ("weighted_sum", "row_total += weights2[k]", "row_total -= weights2[k]"),
        ("weighted_inner", "row_total += weights2[k]", "row_total -= weights2[k]"),
        ("semi_iterate", "+ rest * previous_row[k]", "- rest * previous_row[k]"),
        ("_relax_point", "(f[i, j, k] + around)", "(f[i, j, k] - around)"),
        ("_relax_alternate", "- omega\n", "+ omega\n"),
        ("_relax_alternate", "+ up_weight * above[k]", "- up_weight * above[k]"),
        ("_relax_alternate", "+ front_weight * before[k]\n", "- front_weight * before[k]\n"),
        ("relax_color", "parity = (color + i + j) % 2", "parity = (color + i - j + 1) % 2"),
        ("_relax_in_turn", "(f_row[k] + around", "(f_row[k] - around"),
        ("relax_lexicographic", "n2 - 1 if backward else 0", "0 if backward else n2 - 1"),
        ("add_separable", "out_row[k] += weight_row[k]", "out_row[k] -= weight_row[k]"),
        ("correlate", "out_row[k] += weight * shifted[k]", "out_row[k] -= weight * shifted[k]"),
        ("correlate", "out_row[k] += weight * source[step", "out_row[k] -= weight * source[step"),
    ),
    *_in(
        "kernels/cpu/compiled/rows.py", FUSED,
        ("split", "store(odd, MARGIN + start, odds(first, second))", "store(odd, MARGIN + start, evens(first, second))"),
        ("merge", "zip_high(first, second)", "zip_low(first, second)"),
        ("_wrap", "= buffer[MARGIN + n - 1 - beyond]", "= -buffer[MARGIN + n - 1 - beyond]"),
        ("_extrapolate", "- 6 * buffer[low + 2]", "+ 6 * buffer[low + 2]"),
        ("_band", "total = total + load", "total = total - load"),
        ("_terms_of", "weight = slab_weights[a]", "weight = -slab_weights[a]"),
        ("_combine", "total = total + spread", "total = total - spread"),
        ("add_correction", "load(odd, place) + to_odd", "load(odd, place) - to_odd"),
        ("_around_end", "total += right_weight", "total -= right_weight"),
        ("_around_end", "return total + upper[1]", "return total - upper[1]"),
        ("_relax_vectors", "total = total + by_high * below_it", "total = total - by_high * below_it"),
        ("_relax_vectors", "center + spread(omegas[stage])", "center - spread(omegas[stage])"),
        ("relax_row", "change = by_new * new + (", "change = by_new * new - ("),
        ("_residual_vectors", "+ by_low * load(u, above + own)", "- by_low * load(u, above + own)"),
        ("_residual_vectors", "load(f, data + other) - by_itself", "load(f, data + other) + by_itself"),
        ("residual_row", "around += high_weight", "around -= high_weight"),
        ("sum_of_row", "total += value * value", "total -= value * value"),
        ("restrict_slab", "total = total + _band(bands.odd", "total = total - _band(bands.odd"),
    ),
    *_in(
        "kernels/cpu/compiled/waves.py", FUSED,
        ("begin_slab", "add_correction(own, n, rings.scratch[0], prolongation.bands)", "pass"),
        ("_relax_stages", "(shade + j) & 1", "(shade + j + 1) & 1"),
        ("wave", "own = stages.omegas[first : first + count]", "own = -stages.omegas[first : first + count]"),
        ("wave", "total += sum_of_row(even)", "total -= sum_of_row(even)"),
        ("wave", "r = front - before\n", "r = front - before - 1\n"),
        ("restrict_source", "split(f[fine % slabs, j]", "split(f[slab % slabs, j]"),
    ),
    *_in(
        "kernels/cpu/compiled/cascade.py", FUSED,
        ("_step_row", "total + of_older * load", "total - of_older * load"),
        ("_step_row", "+ factor * residual[q, m]", "- factor * residual[q, m]"),
    ),
    *_in(
        "grid.py", SIDES,
        ("Dirichlet", "Ghost(0, 0.0, 1.0)", "Ghost(0, 0.0, -1.0)"),
        ("Dirichlet", "Ghost(0, 0.0, 1.0)", "Ghost(0, 1.0, 1.0)"),
        ("Dirichlet", "Ghost(0, -1.0, 2.0)", "Ghost(0, 1.0, 2.0)"),
        ("Dirichlet", "Ghost(0, -1.0, 2.0)", "Ghost(0, -1.0, -2.0)"),
        ("Neumann", "Ghost(1, 1.0, 2.0 * h)", "Ghost(1, -1.0, 2.0 * h)"),
        ("Neumann", "Ghost(1, 1.0, 2.0 * h)", "Ghost(1, 1.0, -2.0 * h)"),
        ("Neumann", "Ghost(0, 1.0, h)", "Ghost(0, -1.0, h)"),
        ("Neumann", "Ghost(0, 1.0, h)", "Ghost(0, 1.0, -h)"),
        ("Periodic", "Ghost(-1, 1.0, 0.0)", "Ghost(-1, -1.0, 0.0)"),
    ),
    *_in(
        "transfers.py", TRANSFERS,
        ("lagrange", "/ (own - other)", "/ (other - own)"),
        ("linear", "[1.0 - right_weight, right_weight]", "[right_weight, 1.0 - right_weight]"),
        ("linear", "weights[outside] *= ghost.weight", "weights[outside] *= -ghost.weight"),
        ("constant", "weights = np.clip(overlap, 0.0, None)", "weights = -np.clip(overlap, 0.0, None)"),
        ("nearest", "np.ones((coarse.n, 1))", "-np.ones((coarse.n, 1))"),
        ("source_weighting", "-first / np.where", "first / np.where"),
        ("_adjoint", "1.0 / coarse.weights", "-1.0 / coarse.weights"),
        ("cubic", "fine.positions", "fine.positions + 0.1 * fine.h"),
    ),
    *_in(
        "kernels/bands.py", TRANSFERS,
        ("transposed", "row - rows * turn", "row + rows * turn"),
        ("of_entries", "place = column - starts[row]", "place = starts[row] - column"),
    ),
    *_in(
        "kernels/bands.py", FUSED,
        ("_by_parity", "band.nodes - beyond - m", "band.nodes - beyond + m"),
        ("_gathered_by_parity", "(nodes // 2 - m)", "(nodes // 2 + m)"),
        ("_columns", "(distance - shift) * count + m, weight,", "(distance - shift) * count + m, -weight,"),
    ),
    *_in("kernels/cpu/fused.py", FUSED, ("_bands", "= row.even, row.odd", "= -row.even, row.odd")),
    *_in(
        "kernels/cpu/compiled/couplings.py", COEFFICIENTS,
        ("_add_couplings", "+ there[k] * low[k]", "- there[k] * low[k]"),
        ("_add_couplings", "ours[k] * right[k]", "-ours[k] * right[k]"),
        ("_relax_row", "buffer[k] * inverse[k] - center[k]", "buffer[k] * inverse[k] + center[k]"),
        ("restrict", "row[k] += weights[k]", "row[k] -= weights[k]"),
        ("interpolate", "row[places[k]] += weights[k]", "row[places[k]] -= weights[k]"),
    ),
    *_in(
        "kernels/cpu/compiled/coupled_waves.py", POINTS,
        ("_pack_row", "= row[0], row[n - 1]", "= 0, row[n - 1]"),
        ("pack_weights", "= row[m2 - 1], row[0]", "= row[m2 - 1], 0"),
        ("_defect", "(own - load(ring, lines[0, t] + m))", "(own + load(ring, lines[0, t] + m))"),
        ("_locate_slab", "there % shape[0] * size", "r % shape[0] * size"),
        ("_relax_slab", "(stage + r + j) % 2", "(stage + r) % 2"),
        ("_restrict_slab", "(middle + terms[t, 1]) % shape[1]", "middle % shape[1]"),
        ("_parents", "right % count, -1", "right % count, 1"),
        ("wave", "stage == 0 and level.two_colors", "stage <= 1 and level.two_colors"),
    ),
    *_in(
        "kernels/cpu/compiled/lines.py", ("tests/stencil/test_lines.py",),
        ("_solve", "pivot - link", "pivot + link"),
        ("_solve", "load(work, upper + at) * value", "load(work, upper + at) * load(work, solved + at)"),
        ("_solve", "factor * load(work, cyclic + at)", "load(work, cyclic + at)"),
        ("_gather_rows", "line + 2 * lane", "line + lane"),
    ),
    *_in(
        "kernels/cpu/compiled/gradients.py", ("tests/stencil/test_gradients.py",),
        ("probe", "value * np.float64(w_row[k])", "value"),
        ("turn", "beta * w_row[k] - ", "w_row[k] - "),
        ("advance", "r_row[k] + step", "r_row[k] - step"),
        ("scaled", "u_row[k] * scale", "u_row[k]"),
    ),
    *_in(
        "kernels/cpu/compiled/black_box.py", COEFFICIENTS,
        ("_sum_across", "place - d2", "place + d2"),
        ("_add_missing", "low[k] + high[k] == abs", "low[k] - high[k] == abs"),
        ("set_up", "first + MARGIN", "first"),
        ("set_up", "begin - count + 1", "begin"),
        ("_divide", "0.5 * total[k]", "5.0 * total[k]"),
        ("_add_defects", "place + c", "place - c"),
        ("_mark", "(chunk - 1) % chunks", "chunk"),
        ("_weigh", "around - inner_last", "around"),
        ("_weigh_some", "out[k] *= divisor[k]", "out[k] *= -divisor[k]"),
        ("_fill_patch", "place + d2 - o2", "place + d2 + o2"),
        ("_couple", "low + o2 + inner_first", "low - o2 + inner_first"),
        ("_with_images", "s0 * images[0]", "0 * images[0]"),
        ("_add_patch_of_defects", "place + r", "place - r"),
    ),
    *_in(
        "kernels/cpu/compiled/strengths.py", COEFFICIENTS,
        ("finish", "own[k] += excess[k]", "own[k] -= excess[k]"),
        ("_write_strengths", "low - d2", "low + d2"),
    ),
    *_in(
        "coupled.py", COEFFICIENTS,
        ("harmonic", "2.0 / (1.0 / a + 1.0 / b)", "(a + b) / 2"),
        ("_on_side", "first + distance * (first - second)", "first - distance * (first - second)"),
    ),
    *_in(
        "masks.py", DOMAINS,
        ("cut", "coupling.ravel()[here]", "-coupling.ravel()[here]"),
        ("cut", "(place + by) % n", "(place - by) % n"),
        ("conducting", "WEAK * least", "least"),
        ("_beside", "np.maximum", "np.minimum"),
    ),
    *_in(
        "components.py", DOMAINS,
        ("centered", "u - self", "u + self"),
        ("_components", "if axis.periodic", "if not axis.periodic"),
    ),
    *_in("windows.py", DOMAINS, ("_range", "int(places[0]) - 1", "int(places[0])")),
    *_in("coarse.py", ("tests/stencil/test_coarse.py",), ("_dense_inverse", "1.0 / _eigen", "-1.0 / _eigen")),
]  # fmt: skip


def run_tests(folder: Path, tests: tuple[str, ...]) -> tuple[str, float]:
    """Run tests on the copy of the sources in a folder; return the first that fails, "" where none does, and the seconds."""
    begin = time.perf_counter()
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "NUMBA_CACHE_DIR": str(folder / "cache")}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", "-m", FAST, *tests]
    command += ["-k", " and ".join(f"not {name}" for name in NOT_COUNTED)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    failed = re.findall(r"^(?:FAILED|ERROR|SUBFAILED\S*) (\S+)", done.stdout, flags=re.MULTILINE)
    if done.returncode and not failed:
        raise RuntimeError(f"pytest ended with code {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return (failed[0] if failed else ""), time.perf_counter() - begin


def copy_sources(folder: Path) -> None:
    """Copy the sources as they are."""
    shutil.rmtree(folder / "src", ignore_errors=True)
    shutil.copytree(SOURCE, folder / "src", ignore=shutil.ignore_patterns("__pycache__"))


def found_by(fault: Fault, folder: Path) -> tuple[str, float]:
    """Plant a fault and run its tests; the cache of kernels goes by a hash of their sources."""
    copy_sources(folder)
    fault.plant(folder / "src")
    shutil.rmtree(folder / "cache")
    shutil.copytree(folder / "compiled", folder / "cache")
    return run_tests(folder, fault.tests)


def compile_without_fault(folder: Path, faults: list[Fault]) -> None:
    """Run the tests of all faults without any: they pass, and leave the kernels compiled."""
    copy_sources(folder)
    tests = tuple(dict.fromkeys(test for fault in faults for test in fault.tests))
    failed, seconds = run_tests(folder, tests)
    if failed:
        raise RuntimeError(f"without any fault, {failed} fails")
    print(f"without a fault, {', '.join(tests)} pass in {seconds:.0f} s", flush=True)
    shutil.copytree(folder / "cache", folder / "compiled")


def main(words: list[str]) -> int:
    """Plant the faults whose names contain one of the words, or all."""
    faults = [fault for fault in FAULTS if not words or any(word in fault.name for word in words)]
    survived = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        compile_without_fault(folder, faults)
        for fault in faults:
            test, seconds = found_by(fault, folder)
            survived += not test
            print(f"{fault.name}\n    {seconds:5.1f} s  {test or 'NOT FOUND'}", flush=True)
    print(f"{len(faults) - survived} of {len(faults)} faults were found")
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
