"""Clean / corrupted pairs of histories that differ in psi alone, a file for what tasks of a kind have in common."""
