"""Cycles are values: what is assigned raises, `replaced` returns another cycle, and its description is that of its levels."""

import pickle

import numpy as np
import pytest

import unigrid
from unigrid.cycle import Steps


@pytest.fixture
def cycle():
    return unigrid.StencilCycle(unigrid.Poisson((100, 127)))


@pytest.mark.parametrize("name", ["smoother", "post_smoother", "restriction", "prolongation", "state_transfer"])
def test_assigning_to_a_level_shows_the_way_out(cycle, name):
    with pytest.raises(AttributeError, match=rf"StencilLevel is fixed.*cycle\.replaced\(level=k, {name}=\.\.\.\)"):
        setattr(cycle.levels[0], name, None)


@pytest.mark.parametrize("name", ["smoother", "levels", "kind", "problem", "anything"])
def test_assigning_to_a_cycle_shows_the_way_out(cycle, name):
    with pytest.raises(AttributeError, match=r"StencilCycle is fixed.*replaced"):
        setattr(cycle, name, None)
    with pytest.raises(AttributeError, match="fixed"):
        del cycle.levels


def test_steps_are_fixed_too(cycle):
    with pytest.raises(AttributeError):
        cycle.levels[0].smoother.count = 3


def test_one_level_is_replaced_and_the_old_cycle_stays(cycle, rng):
    b = rng.standard_normal(cycle.problem.shape)
    before = cycle(b)
    other = cycle.replaced(level=0, post_smoother=unigrid.Jacobi(0.8))
    assert other.levels[0].post_smoother == Steps(unigrid.Jacobi(0.8), 1)
    assert other.levels[1:] == cycle.levels[1:]
    assert np.abs(other(b) - before).max() > 1e-6 * np.abs(before).max()
    np.testing.assert_array_equal(cycle(b), before)
    back = other.replaced(level=0, post_smoother=cycle.levels[0].post_smoother)
    np.testing.assert_array_equal(back(b), before)


def test_the_description_is_that_of_the_levels(cycle):
    other = cycle.replaced(level=1, smoother=Steps(unigrid.RedBlack(1.0), 4))
    assert other.title.endswith("other smoothing on level 1")
    assert other.title in repr(other)
    assert other.work_units > cycle.work_units
    assert cycle.replaced(level=0, smoother=Steps(unigrid.RedBlack(1.0), 4)).name == "V(4,2)"


def test_all_levels_are_replaced_by_the_keywords_of_the_constructor(cycle, rng):
    b = rng.standard_normal(cycle.problem.shape)
    other = cycle.replaced(smoother=unigrid.Jacobi(0.7), pre=2, post=1)
    made = unigrid.StencilCycle(cycle.problem, smoother=unigrid.Jacobi(0.7), pre=2, post=1)
    np.testing.assert_array_equal(other(b), made(b))
    assert (other.pre, other.post, other.post_smoother) == (2, 1, unigrid.Jacobi(0.7))
    assert other.replaced(pre=1).pre == 1
    assert other.replaced(pre=1).smoother == unigrid.Jacobi(0.7)
    assert cycle.replaced(cycle="W").kind == "W"
    assert cycle.replaced(smoothing=unigrid.Smoothing.one_pass(2)).smoothing == unigrid.Smoothing.one_pass(2)


def test_the_coarsest_level_takes_a_smoother_alone(cycle):
    other = cycle.replaced(level=-1, smoother=Steps(unigrid.RedBlack(1.0), 50))
    assert other.levels[-1].smoother.count == 50
    with pytest.raises(ValueError, match="the coarsest level has no restriction"):
        cycle.replaced(level=-1, restriction="injection")


def test_wrong_names_and_levels_are_refused(cycle):
    with pytest.raises(ValueError, match=r"unknown slot of a level 'smother'.*did you mean 'smoother'"):
        cycle.replaced(level=0, smother=None)
    with pytest.raises(TypeError, match="has no argument 'smother'"):
        cycle.replaced(smother=None)
    with pytest.raises(IndexError):
        cycle.replaced(level=99, smoother=None)
    with pytest.raises(TypeError, match="smoother must be"):
        cycle.replaced(level=0, smoother=3)


def test_a_replaced_cycle_can_be_pickled(cycle, rng):
    b = rng.standard_normal(cycle.problem.shape)
    other = cycle.replaced(level=0, smoother=unigrid.RedBlack(1.1))
    other(b)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(other))(b), other(b))


# Names of smoothings.


def test_red_black_by_name_is_always_the_same_smoother():
    problem = unigrid.Poisson((40, 50))
    for options in ({}, {"pre": 1}, {"post": 3}):
        assert unigrid.StencilCycle(problem, smoother="red-black", **options).smoother == unigrid.RedBlack()
    default = unigrid.StencilCycle(problem)
    assert default.smoothing == unigrid.StencilCycle(problem, smoothing="tuned").smoothing == unigrid.Smoothing.tuned(2)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"smoothing": "tunde"}, ValueError, "unknown smoothing 'tunde'; allowed: 'tuned'; did you mean 'tuned'"),
        ({"smoothing": 3}, TypeError, "smoothing must be 'tuned' or a unigrid.Smoothing"),
        ({"smoothing": unigrid.Smoothing.tuned(2), "pre": 1}, ValueError, "not both"),
    ],
)
def test_a_smoothing_without_meaning_is_refused(options, error, words):
    with pytest.raises(error, match=words):
        unigrid.StencilCycle(unigrid.Poisson((40, 50)), **options)


def test_a_smoothing_is_checked():
    with pytest.raises(ValueError, match="pre and post are both 0"):
        unigrid.Smoothing(unigrid.RedBlack(), 0, unigrid.RedBlack(), 0)
    with pytest.raises(ValueError, match="pre must be an integer >= 0"):
        unigrid.Smoothing(unigrid.RedBlack(), -1, unigrid.RedBlack(), 1)
