"""Compile the kernels for sm_90, which needs no GPU, and print registers and spills of each: a process of its own.

    python tests/gpu/compiled.py few|others

What the interpreter accepts need not compile. A kernel that spills registers in float64 ends the process with an error.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime import driver

import unigrid
from unigrid.stencil.hierarchy import SLOTS
from unigrid.stencil.kernels.gpu.marches import march, relax_tile
from unigrid.stencil.kernels.gpu.passes import transfer
from unigrid.stencil.kernels.gpu.sweeps import BLOCK, MarchedSweeps, TiledSweeps
from unigrid.stencil.slots import Slots, half_sweeps, nested_transfers

assert os.environ.get("TRITON_INTERPRET") != "1"
TARGET = GPUTarget("cuda", 90, 32)
TOOL = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
NAMES = {torch.float32: "fp32", torch.float64: "fp64", torch.int32: "i32", torch.int64: "i64"}
MIXED = {ndim: (*[("neumann", "dirichlet")] * ndim,) for ndim in (2, 3)}
CUBIC = {"smoother": "red-black", "prolongation": "cubic"}
DOUBLE, SINGLE = torch.float64, torch.float32
FEW = [((300, 300), "dirichlet", "vertex", {}, DOUBLE), ((60, 60, 60), MIXED[3], "cell", {}, DOUBLE)]
OTHERS = [
    ((300, 300), "dirichlet", "vertex", {}, SINGLE), ((60, 60, 60), MIXED[3], "cell", {}, SINGLE),
    ((300, 300), "periodic", "vertex", {}, DOUBLE), ((300, 300), MIXED[2], "vertex", {}, DOUBLE),
    ((300, 300), MIXED[2], "cell", CUBIC, DOUBLE), ((60, 60, 60), "periodic", "vertex", {}, DOUBLE),
    ((60, 60, 60), MIXED[3], "vertex", CUBIC, DOUBLE),
]  # fmt: skip


def usage(kernel, arguments, constants, warps):
    """Return the registers of a compiled kernel, and the bytes that it spills."""
    kinds = [f"*{NAMES[each.dtype]}" if isinstance(each, torch.Tensor) else "i32" for each in arguments]
    names = [name for name in kernel.arg_names if name not in constants]
    signature = dict(zip(names, kinds, strict=True)) | dict.fromkeys(constants, "constexpr")
    made = triton.compile(ASTSource(kernel, signature, constants), target=TARGET, options={"num_warps": warps})
    with TemporaryDirectory() as folder:
        path = Path(folder) / "kernel.cubin"
        path.write_bytes(made.asm["cubin"])
        text = subprocess.run([TOOL, "-res-usage", path], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", text)
    return int(found[1]), int(found[2])


def kernels(shape, boundary, centering, slots, dtype):
    """Yield the name of each kernel of the finest level, and what it is compiled with."""
    fine, coarse = unigrid.StencilCycle(unigrid.Poisson(shape, boundary=boundary, centering=centering), **slots).own_levels[:2]
    number = torch.zeros(1, dtype=dtype)
    done = torch.zeros(1, dtype=torch.int32)

    def move(array):
        array = np.asarray(array)
        return torch.from_numpy(array) if array.dtype.kind == "i" else torch.from_numpy(array).to(dtype)

    sweeps = half_sweeps(Slots(*(getattr(fine, name) for name in SLOTS)))
    transfers = fine.restriction.products[0], fine.prolongation.products[0]
    for kind, kernel, arrays in ((MarchedSweeps, march, 6), (TiledSweeps, relax_tile, 5))[: 4 - len(shape)]:
        own = kind(fine.problem.grid.axes, coarse.problem.shape, 0.0, sweeps, transfers, done, move)
        for which in own.all_passes():
            plan = own._plan(which, 1)
            constants = dict(plan.constants)
            warps = constants.pop("num_warps")
            sums = torch.zeros(1, dtype=torch.float64) if which.norm else number
            yield f"{kernel.__name__} {which}", kernel, (*(number,) * arrays, sums, done, *plan.tables), constants, warps
    down, _ = nested_transfers(fine.problem.grid, coarse.problem.grid)
    three = [1] * (3 - len(shape))
    widths = [
        *(band.weights.shape[1] for band in down.products[0][:1]),
        *three,
        *(band.weights.shape[1] for band in down.products[0][1:]),
    ]
    constants = dict(zip(("WZ", "WY", "WX"), widths, strict=True)) | {"BLOCK": BLOCK}
    tables = (*(torch.zeros(1, dtype=torch.int32),) * 3, *(number,) * 3, *(7,) * 6)
    yield "transfer", transfer, (number, number, done, *tables), constants, 4


class Card:
    """What Triton asks of a driver before it compiles for the card that is there."""

    utils = None

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return TARGET


def start_as_on_a_card():
    """Compile by way of the calls that start kernels, which bind arguments and specialize in ways of their own."""
    driver.set_active(Card())
    for kind, kernel, arrays in ((MarchedSweeps, march, 6), (TiledSweeps, relax_tile, 5)):
        fine, coarse = unigrid.StencilCycle(unigrid.Poisson((40, 30)), smoother="red-black", pre=1, post=1).own_levels[:2]
        sweeps = half_sweeps(Slots(*(getattr(fine, name) for name in SLOTS)))
        transfers, done = (fine.restriction.products[0], fine.prolongation.products[0]), torch.zeros(1, dtype=torch.int32)
        own = kind(fine.problem.grid.axes, coarse.problem.shape, 0.0, sweeps, transfers, done, torch.from_numpy)
        plan, u = own._plan(own.all_passes()[0], 1), torch.zeros(40, 30, dtype=torch.float64)
        made = kernel.warmup(*[u] * (arrays + 1), done, *plan.tables, grid=(1, 1, 1), **plan.constants)
        assert "cubin" in made.asm


def main():
    spilled, count = [], 0
    for case in FEW if sys.argv[1] == "few" else OTHERS:
        for name, *rest in kernels(*case):
            registers, spills = usage(*rest)
            count += 1
            print(f"{registers:4} registers, {spills} bytes spilled, {case}, {name}", flush=True)
            if spills and case[-1] == DOUBLE:
                spilled.append((case, name))
    start_as_on_a_card()
    assert not spilled, spilled
    print(f"{count} kernels compile for sm_90, none spills in float64")


if __name__ == "__main__":
    main()
