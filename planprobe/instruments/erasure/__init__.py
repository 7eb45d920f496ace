"""Erasure: a concept taken out of the running net; subspaces and their interchange."""
