"""Numbers, times and ids as people write them."""

import doctest
import re
from collections.abc import Callable
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.core import printable
from stream.formats import registry, rows, values
from stream.formats.instants import Instants
from stream.formats.values import ODD_ID, looks_like, moment, number, whole_id

NOON = 1433221467000


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("9.99", 9.99), ("9,99", 9.99), ("9,", 9.0), (" 5 ", 5.0), ("1e2", 100.0), ("0,125", 0.125), ("1.299", 1.299),
        ("1,299", 1299.0), ("1,299.00", 1299.0), ("1.299,00", 1299.0), ("1.299.000", 1299000.0), ("EUR 1.299", 1.299),
        ("1 299,00", 1299.0), ("1\u202f299,00 €", 1299.0), ("1'299.00", 1299.0), ("12,34,567.00", 1234567.0),
        ("EUR 9.99", 9.99), ("9,99 €", 9.99), ("US$ 9", 9.0), ("$1,299", 1299.0), ("19,90 kr", 19.9),
        ("CHF 12.-", 12.0), ("-79.37", -79.37), ("−79,37", -79.37), ("€-9.99", -9.99), ("0.00", 0.0),
    ],
)  # fmt: skip
def test_a_number_is_read_as_people_write_it(text: str, value: float):
    assert number(text) == value


@pytest.mark.parametrize("text", ["", " ", "nan", "NaN", "null", "None", "N/A", "-"])
def test_no_number_is_none(text: str):
    assert number(text) is None


@pytest.mark.parametrize("text", ["free", "3 for 10", "9.99 per kg", "1,2,3", "1.299.00", "inf", "1e309", "A12", "10%"])
def test_what_is_no_number_is_refused_by_its_text(text: str):
    with pytest.raises(ValueError, match="is no number"):
        number(text)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("1433221467000", "ms"), ("1433221467000.0", "ms"), ("1433221467", "s"), ("1433221467.0004", "s"),
        ("1433221467000999", "us"), ("1433221467000999999", "ns"), ("2015-06-02 05:04:27", "ms"),
        ("2015-06-02T05:04:27Z", "s"), ("2015-06-02T07:04:27+02:00", "ms"), ("2015-06-02 07:04:27 +0200", "ns"),
        ("2015-06-02 05:04:27 UTC", "ms"), ("2015-06-02T05:04:27.000999999Z", "ms"), ("2015-06-01T22:04:27-07", "ms"),
    ],
)  # fmt: skip
def test_a_time_is_read_in_its_unit_and_zone(text: str, unit: str):
    assert moment(text, unit) == NOON


@pytest.mark.parametrize("text", ["", "soon", "nan", "1e400", "02/06/2015", "None"])
def test_what_is_no_time_is_refused_by_its_text(text: str):
    with pytest.raises(ValueError, match="is no time"):
        moment(text)


@pytest.mark.parametrize(("scale", "name"), [(1, ""), (1e-3, "seconds"), (1e3, "microseconds"), (1e6, "nanoseconds")])
def test_a_time_of_another_unit_is_known_by_its_size(scale: float, name: str):
    for year in (1990, 2015, 2040):
        assert name in looks_like(int((year - 1970) * 365.25 * 86_400_000 * scale))
    assert bool(looks_like(int(NOON * scale))) == bool(name)


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (20191001, "'%Y%m%d'"), (201910010002, "'%Y%m%d%H%M'"), (20191001000234, "'%Y%m%d%H%M%S'"),
        (20191001000234567, "'%Y%m%d%H%M%S%f'"), (20191001000, "'%Y%m%d'"), (43740, "a spreadsheet's days"),
        (26_165_000, "minutes"), (436_000, "hours"), (18_170, "days"), (637_054_848_000_000_000, "ticks of .NET"),
        (132_143_616_000_000_000, "Windows"), (591_580_800, "before 1990 in every unit"), (9 * 10**12, "after 2100"),
        (0, "before 1990"), (-5, "before 1990"), (10**30, "after 2100"),
    ],
)  # fmt: skip
def test_a_number_that_is_no_time_of_a_shop_is_called_what_it_is(number: int, said: str):
    assert said in looks_like(number)


@pytest.mark.parametrize("text", ["1.56989E+12", "1.57e9", "1.56989E+09"])
@pytest.mark.parametrize("read", [moment, Instants("ms").one, Instants("s").one])
def test_a_rounded_time_is_refused(text: str, read: Callable[[str], int]):
    with pytest.raises(ValueError, match="no time: it is rounded"):
        read(text)
    assert moment("1.433221467E12") == NOON


def test_an_id_is_what_it_was_before_it_became_a_float():
    assert [whole_id(text) for text in ("1002.0", "1002", "1.002e+3", "A-1.0", "007", "", "1002,0", "5,770,001")] == [
        *("1002", "1002", "1002", "A-1.0", "007", "", "1002", "5,770,001")
    ]


@given(st.text(" 0123456789.,eE+-naulNU#/<>\\AT", max_size=8))
def test_what_is_taken_as_it_is_can_be_told_without_python(text: str):
    try:
        taken = whole_id(text)
    except ValueError:
        taken = ""
    assert taken == text or re.search(ODD_ID, text)


@pytest.mark.parametrize(
    "text", ["2.1038074595953876e+18", "9007199254740992.0", "1.5", "1e+400", "5.77E+12", "5,77E+12", "1e+3"]
)
def test_an_id_that_lost_digits_is_refused(text: str):
    with pytest.raises(ValueError, match="float"):
        whole_id(text)


@pytest.mark.parametrize("module", [values, registry, printable, rows])
def test_the_examples_in_the_source_are_true(module: ModuleType):
    found = doctest.testmod(module)
    assert found.attempted and not found.failed
