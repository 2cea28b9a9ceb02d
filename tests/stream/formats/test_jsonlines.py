"""Lines of JSON as people's tools write them."""

import pytest

from stream.formats.jsonlines import hint, is_frame, record
from stream.formats.plain import LONG


@pytest.mark.parametrize("line", ['{"a": [1]}', ' {"a": [1]} ,\n', '[{"a": [1]},\r\n', '{"a": [1]}]', '[ {"a": [1]}]'])
def test_an_object_is_taken_out_of_an_array_that_has_one_a_line(line: str):
    assert record(line) == '{"a": [1]}'


@pytest.mark.parametrize("line", ["[1, 2]", "1 2", "{broken", '["{}"]'])
def test_other_lines_stay_as_they_are(line: str):
    assert record(line) == line


def test_brackets_alone_are_no_record():
    assert all(map(is_frame, ("[\n", "]", " ],", "", " " * 99)))
    assert not any(map(is_frame, ("{", "1", "[1]", "[" * 99)))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (LONG + '[{"a": 1}', "an array"),
        ("[1]", "an array"),
        ('{"a": 1},', "a line of an array"),
        ("{\n", "over several lines"),
        ('  "a": 1,\n', "over several lines"),
        ('{"a": {\n', "over several lines"),
        ("{'a': 1}", "json.dumps"),
        ('{"a": 1} {"a": 2}', "several objects in a line"),
        ('{"a": NaN}', "JSON has no NaN: write null"),
        ('{"a":[1,-Infinity]}', "JSON has no -Infinity: write null"),
    ],
)
def test_what_is_no_record_is_told_with_what_to_do(line: str, said: str):
    assert said in hint(line)


def test_nothing_is_said_of_what_tells_nothing():
    assert not hint("{broken")
