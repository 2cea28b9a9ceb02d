"""The page of guarantees says what the tests prove, and its figures come from them alone."""

from pathlib import Path

from stream.kafka.embedded_broker import VERSION
from tests import guarantees
from tests.guarantees import BEGIN, END, Figures, Promise
from tests.kafka.nodes import OLDEST

ONE = Promise("Nothing is lost", "one broker", "tests/kafka/test_x.py::test_one")
TWO = Promise("Nothing is twice", "two brokers", "tests/kafka/test_x.py::test_two")
EMPTY = f"before\n\n{BEGIN}\n{END}\n\nafter\n"


def test_the_page_lists_what_the_tests_promise():
    """Where it fails, a promise, its settings or its test's name changed: run `python -m tests.guarantees`."""
    rows, _ = guarantees.standing(guarantees.PAGE.read_text())
    assert rows == guarantees.promises()
    assert len(rows) > 5


def test_the_docs_name_the_oldest_and_the_newest_broker():
    for page in ("README.md", "docs/exactly-once.md", "docs/guarantees.md"):
        text = (guarantees.ROOT / page).read_text()
        assert OLDEST in text, page
        assert VERSION in text, page


def test_promises_are_read_from_marks(tmp_path: Path):
    (tmp_path / "test_some.py").write_text(
        "@pytest.mark.guarantee('All' ' is well', under='calm')\n@other\ndef test_a(): ...\n\ndef test_b(): ...\n"
    )
    assert guarantees.promises(tmp_path) == [Promise("All is well", "calm", "test_some.py::test_a")]


def test_figures_of_all_cases_of_a_test_stand_in_its_row():
    found = guarantees.gather([("t::a[5-1]", "0 lost"), ("t::a[70-3]", "failed"), ("t::b", "0 twice")], "today")
    assert found == {"t::a": Figures("5-1: 0 lost; 70-3: failed", "today"), "t::b": Figures("0 twice", "today")}


def test_a_run_renews_its_own_figures_and_keeps_the_others():
    page = guarantees.renew(EMPTY, [ONE, TWO], {ONE.test: Figures("3 lost", "May"), TWO.test: Figures("0", "May")})
    again = guarantees.renew(page, [ONE, TWO], {ONE.test: Figures("0 lost", "June")})
    rows, figures = guarantees.standing(again)
    assert rows == [ONE, TWO]
    assert figures == {ONE.test: Figures("0 lost", "June"), TWO.test: Figures("0", "May")}
    assert again.startswith("before\n") and again.endswith("\nafter\n")


def test_a_row_whose_test_is_gone_goes():
    page = guarantees.renew(EMPTY, [ONE, TWO], {})
    assert guarantees.standing(guarantees.renew(page, [TWO], {}))[0] == [TWO]
