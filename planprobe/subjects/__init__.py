"""What is studied: tasks with exact answers, nets, training, and the zoo."""
