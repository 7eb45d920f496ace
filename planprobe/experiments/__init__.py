"""Experiments that one command runs: each is a file, and hands back `record.Findings`."""
