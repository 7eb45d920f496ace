"""Figures of patches show the numbers of their rows and nothing else."""

import json
import math

from planprobe.verdict.figures.patching import draw_patching

KEYS = {"measure": "logit-difference", "low": 0.0, "high": 1.0, "step": 0, "row": None, "column": None, "layer": 0}


def site_row(tick, value, **labels):
    return {**KEYS, "site": f"ticks.{tick}.0.hook_h", "tick": tick, "channels": "all", "value": value, **labels}


def values_of(figure):
    return json.loads(figure.to_json())["data"]


def test_sites_by_tick_with_gaps_where_there_is_no_value():
    other = {**site_row(0, 0.9), "measure": "kl"}
    figures = draw_patching([site_row(0, 0.25), site_row(1, math.nan), other])
    assert list(figures) == ["patch-sites"]
    (trace,) = values_of(figures["patch-sites"])
    assert trace["z"] == [[0.25, None]]
    assert trace["x"] == ["tick 0", "tick 1"]
    assert trace["y"] == ["layer 0 · hook_h"]
    (trace,) = values_of(draw_patching([other], measure="kl")["patch-sites"])
    assert trace["z"] == [[0.9]]


def test_squares_of_the_site_with_the_largest_effect():
    rows = [site_row(0, 0.1 * place, row=place // 2, column=place % 2) for place in range(4)]
    rows += [site_row(1, -0.9, row=1, column=0)]
    (trace,) = values_of(draw_patching(rows)["patch-squares"])
    assert trace["z"] == [[None], [-0.9]]
    (trace,) = values_of(draw_patching(rows[:4])["patch-squares"])
    assert [[round(value, 3) for value in line] for line in trace["z"]] == [[0.0, 0.1], [0.2, 0.3]]


def test_paths_beside_their_control():
    rows = [
        {**KEYS, "site": "ticks.*", "squares": squares, "distance": distance, "value": value}
        for squares, distance, value in (
            ("plan", 2, 0.2),
            ("plan", 1, 0.4),
            ("elsewhere", 1, 0.0),
            ("plan", 9, math.nan),
        )
    ]
    figures = draw_patching(rows)
    assert list(figures) == ["patch-path"]
    lines = {trace["name"]: (trace["x"], trace["y"]) for trace in values_of(figures["patch-path"])}
    assert lines["plan"] == ([1, 2], [0.4, 0.2])
    assert lines["elsewhere"] == ([1], [0.0])
