"""The page of access has a row of each case, and renewing one keeps the others."""

from tests import access
from tests.access import BEGIN, END, plain, renew, rows


def test_a_run_renews_its_own_rows():
    page = renew(f"a\n{BEGIN}\n{END}\nb\n", [("one", "1"), ("two", plain("a|b"))])
    assert rows(page) == {"one": "1", "two": r"a\|b"}
    assert rows(renew(page, [("one", "3")])) == {"one": "3", "two": r"a\|b"}
    assert page.startswith("a\n") and page.endswith("\nb\n")


def test_what_differs_from_run_to_run_is_taken_out():
    text = "Kafka at localhost:123 (_SSL: ssl://localhost:123/bootstrap: no (after 3ms in state UP))\n in /tmp/a/kafka.properties"  # noqa: E501
    assert plain(text) == "Kafka at kafka:9093 (_SSL: no ) in FILE"


def test_the_page_is_filled():
    assert len(rows(access.PAGE.read_text())) > 30
