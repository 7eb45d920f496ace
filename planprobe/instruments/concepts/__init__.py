"""Concepts: what can be asked of a square or a state, and the labels that answer it."""
