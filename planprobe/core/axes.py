"""Axis letters, used in every shape annotation and docstring.

B boards (parallel environments) · E episodes · T environment steps · K ticks within a step · L layers ·
C channels · H rows · W columns · D hidden units · A actions · N rows of a design matrix · S seeds.

Where several occur together the order is (B, T, K, L, ...).
"""

AXES = {
    "B": "boards", "E": "episodes", "T": "steps", "K": "ticks", "L": "layers", "C": "channels",
    "H": "rows", "W": "columns", "D": "hidden units", "A": "actions", "N": "rows of a design matrix", "S": "seeds",
}  # fmt: skip
