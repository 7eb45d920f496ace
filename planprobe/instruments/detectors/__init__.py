"""One file a detector: what it claims, what it needs, its controls, and `run(...) -> Evidence`."""
