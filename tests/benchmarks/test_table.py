"""README's table is what the benchmarks' results say, and so is the capacity model."""

import json
from pathlib import Path

import pytest
from table import BEGIN, END, ROWS, placed, table

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"


def test_the_readme_has_the_table_of_the_results():
    readme = (ROOT / "README.md").read_text()
    assert placed(readme, table(RESULTS)) == readme, "python benchmarks/table.py"


def test_a_change_of_a_figure_is_seen(tmp_path: Path):
    for path in RESULTS.glob("*.json"):
        (tmp_path / path.name).write_text(path.read_text())
    changed = json.loads((tmp_path / "throughput.json").read_text()) | {"to_changelog": 0.12}
    (tmp_path / "throughput.json").write_text(json.dumps(changed))
    assert "0.12 of a loop with a changelog" in table(tmp_path)
    assert table(tmp_path) != table(RESULTS)


def test_a_result_that_is_missing_has_no_row(tmp_path: Path):
    assert table(tmp_path).count("\n") == 1
    assert placed(f"a\n{BEGIN}\nold\n{END}\nb", "new") == f"a\n{BEGIN}\nnew\n{END}\nb"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_a_result_says_where_and_when(path: Path):
    result = json.loads(path.read_text().splitlines()[-1])
    assert {"benchmark", "date", "cores", "python"} <= set(result)
    assert path.stem in {row.result for row in ROWS}
