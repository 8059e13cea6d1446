"""The convolutions of slots: owned or borrowed, each once, in the order in which they are applied."""

import pytest
from torch import nn

from unigrid.conv import MgNet, ResNet
from unigrid.conv.convolutions import chains_of, convolutions_of, levels_of


def test_a_model_without_a_cycle_is_refused():
    with pytest.raises(TypeError, match=r"Linear has no cycle with levels, whose slots hold convolutions; try unigrid.MgNet"):
        levels_of(nn.Linear(2, 2))
    model = MgNet(features=4)
    assert levels_of(model) == list(model.cycle.levels)


def test_borrowed_convolutions_are_found_and_found_once():
    first, second = MgNet(features=4, steps=(2, 3), operator_sharing="global", extractor_sharing="global").cycle.levels
    for slot in ("operator", "smoother"):
        (owned,), (borrowed,) = (convolutions_of(getattr(level, slot)) for level in (first, second))
        assert owned is borrowed
        assert chains_of(getattr(second, slot)) == [[owned]]
    assert owned is first.smoother.steps[0].convolution


def test_chains_are_in_the_order_of_application():
    level = MgNet(
        features=8, steps=(2, 1), operator="nonlinear", extractor="bottleneck", extractor_sharing="step"
    ).cycle.levels[0]
    (chain,) = chains_of(level.operator)
    assert chain == [level.operator.convolution[0], level.operator.convolution[2]]
    bottlenecks = [step.convolution for step in level.smoother.steps]
    assert chains_of(level.smoother) == [[each.narrow, each.between, each.widen] for each in bottlenecks]
    assert set(convolutions_of(level.smoother)) == {part for chain in chains_of(level.smoother) for part in chain}


def test_slots_without_convolutions_have_none():
    level = MgNet(features=4, steps=(1, 1), state_transfer="zero").cycle.levels[1]
    for slot in (level.operator, level.restriction, None):
        assert convolutions_of(slot) == chains_of(slot) == []


def test_a_restriction_uses_the_convolution_that_it_borrows():
    first, second = ResNet(blocks=(1, 2), channels=4, operator_sharing="level").cycle.levels
    shared = second.operator.of_step(0)
    assert shared in convolutions_of(first.restriction)
    assert convolutions_of(second.operator) == [shared]
