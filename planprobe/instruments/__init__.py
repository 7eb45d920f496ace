"""How it is measured. Never imports `subjects`: what a detector needs of a task is handed to it."""
