"""The model of domains on many processes: its messages are those of a solve, its times those worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from benchmark_scripts import shared_modules as shared_modules
from processes.threads import Group

import unigrid


@pytest.mark.parametrize(("shape", "size"), [((255, 127), 3), ((254, 100), 2), ((100, 19, 23), 3)])
def test_a_solve_sends_what_the_model_counts(shape, size):
    from domain_model import box, layout_of, traffic_of

    def counted(comm):
        cycle = unigrid.DomainCycle(box(shape), comm)
        f = np.random.default_rng(comm.rank).standard_normal(cycle.local_shape)
        solution = cycle.solve(f, precision="full", rtol=1e-6)  # every cycle is foreseen, and begins with the one before
        return solution.iterations, len(comm.messages), sum(comm.messages)

    iterations, messages, sent = Group(size).run(counted)[size // 2]
    traffic = traffic_of(layout_of(shape, size), iterations)
    assert (messages, sent) == (traffic["messages"], traffic["bytes"])


def test_messages_of_two_levels_by_hand():
    from domain_model import Block, Layout, traffic_of

    layout = Layout(4, 2, (Block(50, 76, 13, 100), Block(25, 43, 9, 50)), (1250, 300))
    traffic = traffic_of(layout, 3)
    # The finest: its source, and u once per iteration. The second: 3 per cycle, 1 in full multigrid from itself, which with
    # its source and its result are 3 as well, then 3 iterations from the finest.
    assert traffic["exchanges"] == 4 + 12
    assert traffic["messages"] == 2 * 16
    assert traffic["bytes"] == 2 * 8 * (4 * 13 * 100 + 12 * 9 * 50)
    assert traffic["gathers"] == 1 + 1 + 3  # the source; the cycle from the second level; those from the finest


def test_seconds_by_hand():
    from domain_model import Block, Layout, Machine, seconds_of, unknown_seconds

    layout = Layout(4, 2, (Block(50, 76, 13, 100),), (1250, 300))
    machine = Machine(latency=1e-6, bandwidth=1e9, sum=2e-6, unknown=1e-9, level=1e-5)
    parts = seconds_of(layout, 3, machine)
    unknowns, levels = 3 * 7600 + 4 * 1250 + 5 * 300, 3 + 4 + 5
    assert parts["arithmetic"] == pytest.approx(unknowns * 1e-9 + levels * 1e-5)
    assert parts["exchanges"] == pytest.approx(8 * 1e-6 + 8 * 8 * 1300 / 1e9)
    assert parts["gathers"] == pytest.approx(4 * (2e-6 + 8 * 1250 * 0.75 / 1e9))
    assert parts["sums"] == pytest.approx(6 * 2 * 2e-6)
    assert unknown_seconds(layout, 3, parts["arithmetic"], 1e-5) == pytest.approx(1e-9)


def test_latency_and_bandwidth_of_a_line():
    from domain_model import line_through

    sizes = [1 << power for power in range(10, 23)]
    assert line_through(sizes, [3e-6 + size / 5e9 for size in sizes]) == pytest.approx((3e-6, 5e9))


def test_one_process_sends_nothing():
    from domain_model import Machine, layout_of, seconds_of

    layout = layout_of((127, 127), 1)
    assert [block.held for block in layout.blocks] == [127]
    parts = seconds_of(layout, 3, Machine(1.0, 1.0, 1.0, 1.0, 0.0))
    assert parts.pop("arithmetic") > 3 * 127**2
    assert parts == {"exchanges": 0.0, "gathers": 0.0, "sums": 0.0}


def test_blocks_thinner_than_their_halo_are_not_modelled():
    from domain_model import layout_of

    assert math.isfinite(layout_of((4095, 64), 300).blocks[0].held)
    with pytest.raises(ValueError, match="take at most 315 processes"):
        layout_of((4095, 64), 316)
