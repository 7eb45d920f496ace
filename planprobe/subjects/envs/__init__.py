"""Tasks: levels, rules, and the exact answers to them."""
