"""Activation patching: part of one run put into another."""
