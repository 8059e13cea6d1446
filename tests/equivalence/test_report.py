"""Every claim holds, and can fail: one weight changed by a thousandth turns its row red."""

import copy
import dataclasses
import itertools
import math

import pytest
import torch

from unigrid.equivalence import Case, Claim, Report, Side, report
from unigrid.equivalence.claims.claim import TOLERANCE
from unigrid.equivalence.claims.hierarchies import hierarchies
from unigrid.equivalence.claims.report import CLAIMS, Row

SEEDS = (0, 1, 2)
IDS = [claim.claim[:40] for claim in CLAIMS]


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_every_claim_holds_in_float64(seed, subtests):
    found = report([seed])
    assert [row.claim for row in found.rows] == [claim.claim for claim in CLAIMS]
    for row in found.rows:
        with subtests.test(row.claim):
            assert row.passed
            assert row.cases >= 10
            assert row.difference <= row.tolerance == TOLERANCE == 1e-12


def test_a_report_of_several_seeds_is_the_worst_of_each():
    claims = [claim for claim in CLAIMS if "pooling" in claim.claim or "sigma-ResNet is" in claim.claim]
    assert len(claims) == 2
    rows = [report([seed], claims).rows for seed in SEEDS]
    found = report(SEEDS, claims).rows
    for row, *single in zip(found, *rows, strict=True):
        assert row.difference == max(one.difference for one in single)
        assert row.cases == sum(one.cases for one in single)
    assert tuple(report(SEEDS, [claim]).rows[0] for claim in claims) == found


@pytest.mark.parametrize("claim", CLAIMS, ids=IDS)
def test_cases_are_float64_and_depend_on_their_seed_alone(claim):
    state = torch.get_rng_state()
    first = next(iter(claim.cases(0)))
    hierarchies.cache_clear()
    again, other = (next(iter(claim.cases(seed))) for seed in (0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(value.dtype == torch.float64 for case in (first, again) for value in case.inputs)
    for side in ("left", "right"):
        results = [getattr(case, side).outputs(case.inputs, case.training) for case in (first, again, other)]
        assert all(torch.equal(a, b) for a, b in zip(results[0], results[1], strict=True))
        assert not torch.equal(results[0][0], results[2][0])


@pytest.mark.slow
@pytest.mark.parametrize("claim", CLAIMS, ids=IDS)
def test_comparing_changes_nothing(claim):
    """Running statistics are as before, also after a comparison in training mode."""
    for case in list(claim.cases(0))[:6]:
        modules = [side.model for side in (case.left, case.right) if isinstance(side.model, torch.nn.Module)]
        before = [{name: value.clone() for name, value in module.state_dict().items()} for module in modules]
        assert case.difference() <= TOLERANCE
        for module, state in zip(modules, before, strict=True):
            assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def most_sensitive(side, inputs):
    """Return the parameter, and the place in it, of which a relative change shows most in what the side returns."""
    parameters = list(side.model.parameters())
    trained = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    found = side.run(side.model, *inputs)
    found = [found] if isinstance(found, torch.Tensor) else found
    total = sum((value * torch.randn_like(value)).sum() for value in found if value.requires_grad)
    gradients = torch.autograd.grad(total, parameters, allow_unused=True)
    for parameter, flag in zip(parameters, trained, strict=True):
        parameter.requires_grad_(flag)
    shown = [
        0 if grad is None else (grad * value.detach()).abs().max() for grad, value in zip(gradients, parameters, strict=True)
    ]
    most = max(range(len(shown)), key=shown.__getitem__)
    assert shown[most] > 1e-6
    return parameters[most], int((gradients[most] * parameters[most]).abs().argmax())


def changed(side, inputs, training):
    """Return the side with one weight changed by 1e-3 of itself."""
    other = Side(copy.deepcopy(side.model).train(training), side.run)
    weight, place = most_sensitive(other, inputs)
    with torch.no_grad():
        weight.view(-1)[place] *= 1 + 1e-3
    return other


@pytest.mark.slow
@pytest.mark.parametrize("claim", CLAIMS, ids=IDS)
def test_a_weight_changed_by_a_thousandth_turns_the_row_red(claim):
    """In every kind of network, in each mode, on each side that has weights."""
    tried = 0
    for case, side in itertools.product(kinds_of(claim), ("left", "right")):
        given = getattr(case, side)
        if isinstance(given.model, torch.nn.Module) and list(given.model.parameters()):
            wrong = dataclasses.replace(case, **{side: changed(given, case.inputs, case.training)})
            for cases, passes in (([case], True), ([wrong], False), ([case, wrong], False)):
                row = report([0], [dataclasses.replace(claim, cases=lambda seed, cases=cases: cases)]).rows[0]
                assert row.passed == passes, (case.name, row.difference)
            tried += 1
    assert tried >= 2


def kinds_of(claim):
    """Return two cases of each kind of network, one in each mode."""
    kinds = {}
    for case in claim.cases(1):
        kinds.setdefault((case.name.split(" x ")[0].rsplit(",", 1)[0], case.training), case)
    return kinds.values()


def one(left, right, **more):
    return Case("by hand", Side(None, lambda _: left), Side(None, lambda _: right), (), **more)


def claim_of(*cases):
    return Claim("a is b", "none", "values", lambda seed: cases)


def passes(claim):
    return report([0], [claim]).rows[0].passed


NAN = torch.tensor([1.0, math.nan], dtype=torch.float64)
ONES = torch.ones(2, dtype=torch.float64)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (NAN, ONES),
        (ONES, NAN),
        (NAN, NAN),
        (ONES, ONES * math.inf),
        (ONES * 0, ONES * 0),
        ([ONES, ONES * 0], [ONES, ONES * 0]),
        (ONES[:0], ONES[:0]),
        ([], []),
        (ONES, ONES[:1]),
        ([ONES, ONES], [ONES]),
        (ONES, ONES + 2e-12),
    ],
    ids=["left NaN", "right NaN", "both NaN", "infinite", "all zero", "one zero", "empty", "nothing", "shape", "number", "far"],
)
def test_nothing_wrong_passes(left, right):
    good = one(ONES, ONES)
    assert passes(claim_of(good))
    assert not passes(claim_of(one(left, right)))
    for cases in ([good, one(left, right)], [one(left, right), good]):
        assert not passes(claim_of(*cases))


def test_a_claim_without_a_case_does_not_pass():
    assert not passes(claim_of())
    assert not Report((), (0,)).passed
    with pytest.raises(ValueError, match="give at least one"):
        report(seeds=())


def test_the_table():
    good, bad = Row("a is b", "x > 0", "all values", 3, 2e-16, 1e-12), Row("c is d", "never", "logits", 1, math.nan, 1e-12)
    table = str(Report((good, bad), (0, 1, 2)))
    for text in (
        "claim",
        "conditions",
        "compared",
        "difference",
        "passed",
        "a is b",
        "2.0e-16",
        "nan",
        "NO",
        "1 of 2 equivalences FAIL",
    ):
        assert text in table
    assert "all 1 equivalences hold to 1e-12; float64, 1 seed;" in str(Report((good,), (0,)))
    assert max(map(len, table.splitlines())) <= 140


def test_the_summary():
    found = report([0], claims=CLAIMS[-7:-5]).summary()
    assert found["passed"] is True
    assert [row["claim"] for row in found["rows"]] == [claim.claim for claim in CLAIMS[-7:-5]]
    assert set(found["rows"][0]) == {"claim", "conditions", "compared", "cases", "difference", "tolerance", "passed"}


def test_the_number_of_threads_is_as_before():
    torch.set_num_threads(2)
    report([0], claims=[claim_of(one(ONES, ONES))])
    assert torch.get_num_threads() == 2
