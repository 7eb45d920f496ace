"""One file a promise; each prints a ratio measured side by side in one run. `python -m benchmarks [name ...]`."""
