"""Numbers of any make become plain ones, and what is none is refused in one short line."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from unigrid.messages import checked_count, checked_number, choose, entries_of, plain_number, shown


class Labelled:
    """A scalar as of xarray: an array of no axes that is no NumPy array."""

    def __init__(self, value):
        self.value, self.shape, self.dtype = value, (), np.asarray(value).dtype

    def item(self):
        return self.value


class Quantity:
    """A number with a unit, which refuses to become a float."""

    def __float__(self):
        raise RuntimeError("5 m has a unit")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (3, 3), (0.5, 0.5), (np.int8(3), 3), (np.uint64(2**63), 2**63), (np.float16(0.5), 0.5), (np.longdouble(0.5), 0.5),
        (np.array(0.5), 0.5), (np.array(3), 3), (np.array(Fraction(1, 2), dtype=object), 0.5), (Labelled(0.5), 0.5),
        (Labelled(3), 3), (Fraction(1, 2), 0.5), (Fraction(6, 2), 3), (Decimal("0.5"), 0.5), (Decimal("3.0"), 3),
        (10**400, 10**400), (math.inf, math.inf), (type("Own", (float,), {})(0.5), 0.5),
    ],
    ids=lambda value: f"{type(value).__name__}",
)  # fmt: skip
def test_a_number_of_any_make_becomes_a_plain_one(value, plain):
    found = plain_number(value)
    assert found == plain
    assert type(found) is type(plain)


@pytest.mark.parametrize(
    "value",
    [
        True, np.True_, np.array(True), Labelled(True), 1j, np.complex128(1), np.array(1 + 0j), "3", b"3", np.str_("3"), None,
        np.ones(1), np.ones(1000), [3], {}, np.timedelta64(5, "ns"), np.datetime64("2026-01-01"), np.ma.masked, Quantity(), int,
        np.zeros((), [("a", int)]), Decimal("sNaN"), object(),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_is_no_number_is_none(value):
    assert plain_number(value) is None
    for check in (checked_count, checked_number):
        with pytest.raises(ValueError, match=r"^n must be") as error:
            check("n", value)
        assert len(str(error.value)) < 200
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "value",
    [Fraction(1, 10**400), Fraction(10**400), Decimal("1e-400"), np.longdouble("1e-4000")],
    ids=["tiny", "huge", "decimal", "wide"],
)
def test_what_floats_do_not_reach_is_neither_zero_nor_an_overflow(value):
    assert math.isnan(plain_number(value))
    with pytest.raises(ValueError, match=r"finite number >= 0"):
        checked_number("c", value)


def test_integers_beyond_floats_are_refused_where_a_float_is_due_and_written_by_their_length():
    with pytest.raises(ValueError, match=r"^c must be a finite number >= 0, got an integer of about 6001 digits$"):
        checked_number("c", 10**6000)
    with pytest.raises(ValueError, match=r"^n must be an integer from 1 to 8, got an integer of about 6001 digits$"):
        checked_count("n", 10**6000, most=8)
    with pytest.raises(ValueError, match=r"^n must be an integer >= 1, got -1000000"):
        checked_count("n", -(10**6))


@pytest.mark.parametrize("value", [8.0, np.float64(8), np.array(8.0), Fraction(17, 2), Decimal("8.5")], ids=repr)
def test_a_count_is_no_float(value):
    with pytest.raises(ValueError, match=r"an integer >= 1"):
        checked_count("n", value)


@pytest.mark.parametrize(
    "value",
    [np.zeros((100, 100)), [np.zeros((100, 100))] * 3, list(range(10**5)), "x" * 10**5, {"a": np.ones((50, 50))}, 7**9999],
    ids=["array", "arrays", "list", "text", "dict", "integer"],
)
def test_long_values_are_shortened(value):
    text = shown(value)
    assert len(text) <= 100
    assert "\n" not in text


def test_arrays_are_shown_by_shape_and_short_values_as_they_are():
    assert shown(np.zeros((2, 3), np.float32)) == "ndarray of shape (2, 3), float32"
    assert [shown(each) for each in ("a", 0.5, [1, 2], None)] == ["'a'", "0.5", "[1, 2]", "None"]


@pytest.mark.parametrize("name", [np.ones((9, 9)), ["V"], 7, None, b"V"], ids=lambda value: type(value).__name__)
def test_a_name_that_is_no_string_is_refused_as_an_unknown_one(name):
    with pytest.raises(ValueError, match=r"^unknown cycle .*; allowed: 'V', 'W'$"):
        choose(name, ("V", "W"), "cycle")


def test_entries():
    assert entries_of((1, 2)) == entries_of(np.array([1, 2])) == entries_of(n for n in (1, 2)) == (1, 2)
    for single in (3, "ab", np.array(3), {1, 2}, {1: 2}, None, Labelled(3)):
        assert entries_of(single) is None
