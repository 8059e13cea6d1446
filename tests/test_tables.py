"""Text tables: what is read, and what is refused because two readings fit."""

import contextlib

import numpy as np
import pytest

from unigrid.tables import ContentError, TableFormat, read_table


def read(text, **form):
    content = text if isinstance(text, bytes) else text.encode()
    return read_table(content, TableFormat(**form))


def values(text, **form):
    return read(text, **form).values.tolist()


def refused(text, **form):
    with pytest.raises(ContentError) as error:
        read(text, **form)
    assert "\n" not in str(error.value)
    return str(error.value)


def lines(rows):
    return "\n".join(",".join(map(str, row)) for row in rows)


TWO = [[1.5, 2.5], [3.5, 4.0]]
ONE_READING = {
    "commas": "1.5,2.5\n3.5,4\n",
    "white space": "1.5 2.5\n 3.5\t4",
    "tabs": "1.5\t2.5\n3.5\t4\n",
    "bars": "1.5|2.5\n3.5|4\n",
    "semicolons": "1.5;2.5\n3.5;4\n",
    "decimal commas": "1,5;2,5\n3,5;4,0\n",
    "decimal commas in white space": "1,5 2,5\n3,5 4\n",
    "decimal commas in quotes": '"1,5","2,5"\n"3,5","4"\n',
    "quotes": '"1.5","2.5"\n"3.5","4"\n',
    "names": "a,b\n1.5,2.5\n3.5,4\n",
    "names in quotes": '"a, first","b"\n1.5,2.5\n3.5,4\n',
    "names in Latin-1": "Höhe;Tiefe\n1,5;2,5\n3,5;4\n".encode("latin-1"),
    "index of pandas": ",a,b\n0,1.5,2.5\n1,3.5,4\n",
    "index and numbers of pandas": ",0,1\n0,1.5,2.5\n1,3.5,4\n",
    "dates as an index": ",a,b\n2020-01-01,1.5,2.5\n2020-01-02,3.5,4\n",
    "Fortran": "  1.5D+00  0.25d+01\n  3.5E+00  4.\n",
    "exponents of three digits": "1.5+000 2.5\n.35+001 4.\n",
    "commas at the end": "1.5,2.5,\n3.5,4,\n",
    "commas at the end of names, too": "a,b,\n1.5,2.5,\n3.5,4,\n",
    "comments": "# f\n% g\n! h\n// i\n1.5 2.5  # here\n\n3.5 4\n",
    "UTF-8 with a mark": "\ufeff1.5,2.5\n3.5,4",
    "UTF-16": "1.5,2.5\r\n3.5,4\r\n".encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + "1.5,2.5\n3.5,4".encode("utf-16-be"),
    "UTF-16 without a mark": "1.5,2.5\n3.5,4".encode("utf-16-le"),
    "line ends of old Macs": "1.5,2.5\r3.5,4\r",
}


@pytest.mark.parametrize("name", ONE_READING)
def test_one_reading(name):
    assert values(ONE_READING[name]) == TWO


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("value\n1\n2.5\n", [1, 2.5]),
        ("value\n1,5\n2,7\n", [1.5, 2.7]),
        ("1.5,2,3\n", [1.5, 2, 3]),
        ("5", [5]),
        (",0\n0,1.5\n1,2.5\n", [1.5, 2.5]),
        ("\N{MINUS SIGN}1.5 2\n3 4\n", [[-1.5, 2], [3, 4]]),
    ],
)
def test_a_single_row_or_column_is_one_axis(text, expected):
    assert values(text) == expected


@pytest.mark.parametrize(
    ("text", "part", "form", "expected"),
    [
        # a frame of pandas without its index: the names of its columns look like a row
        ("0,1\n1.5,2.5\n3.5,4\n", "line 1 (0, 1) may be names", {"header": True}, TWO),
        ("0,1\n1.5,2.5\n3.5,4\n", "give --header yes or no", {"header": False}, [[0, 1], *TWO]),
        ("2000,2005\n1.5,2.5\n3.5,4.0\n", "may be names", {"header": True}, TWO),
        ("0.0,0.1,0.2\n5,7,1\n2,2,8\n", "may be names", {"header": False}, [[0, 0.1, 0.2], [5, 7, 1], [2, 2, 8]]),
        ("0\n1.5\n2.5\n", "may be names", {"header": True}, [1.5, 2.5]),
        ('"1","2"\n1.5,2.5\n3.5,4\n', "may be names", {"header": True}, TWO),
        # one column with decimal commas, or two columns
        ("1,5\n2,7\n", "--decimal", {"decimal": ","}, [1.5, 2.7]),
        ("1,5\n2,7\n", "--delimiter", {"delimiter": ","}, [[1, 5], [2, 7]]),
        ("value, m\n1,5\n2,7\n", "--decimal", {"decimal": ","}, [1.5, 2.7]),
        ("1,5\n3\n", "line 2 has 1 column, line 1 has 2 columns; where", {"decimal": ","}, [1.5, 3]),
        # thousands
        ("1,234.5\n2,345.5\n", "commas between thousands", {"delimiter": ",", "index": False}, [[1, 234.5], [2, 345.5]]),
        ("1,234;5,678\n2,345;6,789\n", "commas between thousands", {"decimal": ","}, [[1.234, 5.678], [2.345, 6.789]]),
        # an index or coordinates in front
        ("0,1.5\n1,2.5\n2,4.5\n", "runs from 0 to 2", {"index": True}, [1.5, 2.5, 4.5]),
        ("0,1.5\n1,2.5\n2,4.5\n", "--index yes", {"index": False}, [[0, 1.5], [1, 2.5], [2, 4.5]]),
        ("0.1,5,6\n0.2,7,1\n0.3,2,2\n", "runs from 0.1 to 0.3", {"index": True}, [[5, 6], [7, 1], [2, 2]]),
        ("index,a,b\n7,1.5,2.5\n9,3.5,4\n", "is named 'index'", {"index": True}, TWO),
        ("a b\n7 1.5 2.5\n9 3.5 4\n", "--index yes, if the first column names the rows", {"index": True}, TWO),
        ("x,f\n7,1.5\n9,3.5\n", "is named 'x'", {"index": True}, [1.5, 3.5]),
        ("t,5,6\n7,1.5,2.5\n9,3.5,4\n", "is named 't'", {"index": True}, TWO),
        ("p,5,6\n7,1.5,2.5\n9,3.5,4\n", "are named by numbers", {"index": True}, TWO),
        (",2,3\n7,1.5,2.5\n9,3.5,4\n", "words and numbers, such as ''", {"header": True}, TWO),
        ("1.5,x\n3,4\n", "words and numbers, such as 'x'", {"header": True}, [3, 4]),
    ],
)
def test_two_readings_are_refused_until_an_option_chooses(text, part, form, expected):
    assert part in refused(text)
    assert values(text, **form) == expected


LONG = [(0.5 * i, 0.25 * j, 10 * i + j) for j in range(4) for i in range(3)]
GRID = [[10 * i + j for j in range(4)] for i in range(3)]


@pytest.mark.parametrize("rows", [LONG, LONG[::-1], LONG[1::2] + LONG[::2]], ids=["in order", "reversed", "mixed"])
def test_one_point_per_line(rows):
    assert "--columns 1,2,3" in refused(lines(rows))
    field = read(lines(rows), columns=("1", "2", "3"))
    assert (field.values.tolist(), field.spacing) == (GRID, (0.5, 0.25))


def test_columns_by_name_in_the_order_of_the_axes():
    text = lines([("label", "x", "y", "f"), *(("p", *row) for row in LONG)])
    field = read(text, columns=("y", "x", "f"))
    assert (field.values.T.tolist(), field.spacing) == (GRID, (0.25, 0.5))
    assert values(text, columns=("f",)) == [row[2] for row in LONG]
    assert "has no column 'g'; its names are label, x, y, f" in refused(text, columns=("x", "g"))


def test_long_tables_of_one_and_three_coordinates():
    text = lines([(0.1 * i, 0.2 * j, 0.3 * k, i + j + k) for i in range(2) for j in range(3) for k in range(4)])
    assert "the points of a grid" in refused(text)
    field = read(text, columns=("1", "2", "3", "4"))
    assert field.values.shape == (2, 3, 4)
    assert field.spacing == pytest.approx((0.1, 0.2, 0.3))
    assert values("0.2,5\n0.0,7\n0.1,6\n", columns=("1", "2")) == [7, 6, 5]


def test_120_scattered_lines_are_no_grid_of_120_x_3(rng):
    text = lines(rng.random((120, 3)))
    assert "it is long and narrow" in refused(text)
    assert "coordinate 1 is not evenly spaced" in refused(text, columns=("1", "2", "3"))
    assert read(text, index=False).values.shape == (120, 3)


@pytest.mark.parametrize(
    ("rows", "part"),
    [
        ([*LONG, (0, 0, 7)], "lines 1 and 13 are the same point"),
        (LONG[:-1], "has 11 points of a grid of 3 x 4; none is at 1 = 1, 2 = 0.75"),
        ([(0, 0, 1), (1, 0, 2), (3, 0, 4)], "coordinate 1 is not evenly spaced: its steps are 1 to 2"),
        ([(0, 0, 1), (1, 0, 2), (2, 0, 4)], "coordinate 2 has one value alone"),
        ([(0, "nan", 1), (1, 0, 2)], "not finite"),
    ],
)
def test_points_that_are_no_grid(rows, part):
    assert part in refused(lines(rows), columns=("1", "2", "3"))


def test_few_digits_of_coordinates_are_enough():
    text = lines([(f"{i / 3:.3f}", i * i) for i in range(4)])
    field = read(text, columns=("1", "2"))
    assert field.values.tolist() == [0, 1, 4, 9]
    assert field.spacing == pytest.approx((1 / 3,), rel=1e-3)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("\n\n  \n", "holds no numbers"),
        ("a,b\n", "holds no numbers"),
        ("1.5,2\n3,four\n", "line 2, column 2: 'four' is no number"),
        ("# one\n\n1.5,2,3\n1,,3\n", "line 4, column 2: '' is missing"),
        ("1.5,#N/A\n2,#N/A\n", "line 1, column 2: '#N/A' is missing"),
        ("NA NA\n1 2\n", "line 1, column 1: 'NA' is missing"),
        ("1.5,2\n3\n", "line 2 has 1 column, line 1 has 2 columns"),
        ("1.2.3,4\n5,6\n", "line 1: '1.2.3' is no number"),
        ("1_0,2\n3,4\n", "line 1: '1_0' is no number"),
        ("a,b\n1.234,5;6\n", "'5;6' is no number"),
        ("a,b,c\n1,2\n3,4\n", "has 3 names for 2 columns"),
        ('"1.5,2\n3,4\n', "quotes"),
        (b"\x93NUMPY\xff\xfe\x00", "is no text"),
        (b"\xff\xfe1\x00.", "is no valid UTF-16 text"),
    ],
)
def test_faults_name_line_and_column_from_1(text, part):
    assert part in refused(text)


def test_one_character_cannot_be_both_marks():
    assert "--delimiter and --decimal cannot be the same" in refused("1,5\n2,7\n", delimiter=",", decimal=",")
    assert values('"1,5","2,5"\n"3,5","4"\n', delimiter=",", decimal=",") == TWO


def test_missing_values_written_as_nan_are_left_to_the_caller():
    assert np.isnan(values("nan,1.5\n2,3\n")[0][0])


WRITTEN = {"whole": "{:.0f}", "short": "{:g}", "fixed": "{:.3f}", "exponents": "{:.5e}"}
NAMES = {
    "none": None, "words": lambda column: f"name{column}", "counts": str, "coordinates": lambda column: f"{0.1 * column:.1f}",
}  # fmt: skip
INDICES = {
    "none": None,
    "counts": ("", str),
    "numbers": ("n", lambda row: str(row + 3)),
    "words": ("", lambda row: f"row{row}"),
}


def written(rng):
    """Return a table written in one of many ways, and its numbers as they were written."""
    form, names, index = (list(table.values())[rng.integers(len(table))] for table in (WRITTEN, NAMES, INDICES))
    decimal, delimiter = rng.choice([".", ","]), rng.choice([",", ";", "\t", "|"])
    numbers = rng.standard_normal((rng.integers(3, 8), rng.integers(2, 6))) * 10.0 ** rng.integers(4)
    cells = [[form.format(number) for number in row] for row in numbers]
    truth = np.array([[float(cell) for cell in row] for row in cells])
    rows = [[cell.replace(".", decimal) for cell in row] for row in cells]
    rows += [] if names is None else [[names(column) for column in range(truth.shape[1])]]
    rows = rows[-1:] + rows[:-1] if names is not None else rows
    if index is not None:
        corner = [] if names is None else [index[0]]
        rows = [[label, *row] for label, row in zip([*corner, *map(index[1], range(len(truth)))], rows, strict=True)]
    text = "\n".join(delimiter.join(f'"{cell}"' if delimiter in cell else cell for cell in row) for row in rows)
    return text, truth


def test_what_was_written_is_read_or_refused_and_never_misread(rng):
    outcomes = {"read": 0, "refused": 0}
    for _ in range(400):
        text, truth = written(rng)
        try:
            assert np.array_equal(read(text).values, truth), text
        except ContentError:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
    assert min(outcomes.values()) > 100


def test_no_bytes_raise_anything_else(rng):
    seeds = [text if isinstance(text, bytes) else text.encode() for text in ONE_READING.values()]
    alphabet = b'0123456789.,;|-+eEdD \t\n\r"#%naxy\xff\x00'
    for _ in range(600):
        content = bytearray(seeds[rng.integers(len(seeds))])
        for _ in range(rng.integers(1, 6)):
            content[rng.integers(len(content))] = alphabet[rng.integers(len(alphabet))]
        with contextlib.suppress(ContentError):
            assert read(bytes(content)).values.size > 0
