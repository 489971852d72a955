"""What tools/accelerator_day.py is made of: the plan, the runner, results that travel in pieces, what has to travel."""
