"""Intervals, tests and scores whose unit is the level."""
