"""Linear probes, their controls, and the tables that set one against the other."""
