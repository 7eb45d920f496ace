"""What is printed can be read: by a JSON reader, and by people."""

from __future__ import annotations

import json

from planprobe.cli.output import print_table, show


def test_a_number_that_is_none_is_null(capsys):
    """Other readers refuse NaN, and a measurement on too few levels has some."""
    show({"value": float("nan"), "rows": [{"low": float("-inf"), "n": 3}]}, [], as_json=True)
    assert json.loads(capsys.readouterr().out) == {"value": None, "rows": [{"low": None, "n": 3}]}


def test_a_table_shows_every_column_of_every_row_and_no_markup(capsys):
    print_table([{"name": "[red]x[/red]", "value": 0.12345}, {"name": "y", "n": 2}])
    out = capsys.readouterr().out
    assert all(text in out for text in ("[red]x[/red]", "0.123", " n ", " 2 "))
