"""Does problem.py keep what all other parts rely on?  Every mistake is one line: what is wrong, where, and what to do.

What belongs here reads `problem` and the rows of its `load`, and trains at most on a few rows. `check` is the way in.
"""
