"""Stub."""
SITES = 'caption'
HORIZON = 'caption'
def probe_sites(results):
    return None
def probe_horizon(results):
    return None
