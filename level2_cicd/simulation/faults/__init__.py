"""What goes wrong in a simulation: the table of faults, how each spoils rows, a run with a fault, and its figures.

Here belongs whatever knows that a fault was planted. The control loop does not, and nothing else tells it.
"""
