"""Exact answers of the tasks with a hidden variable: beliefs, values, and reference players whose returns are known."""
