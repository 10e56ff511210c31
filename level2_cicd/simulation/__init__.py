"""A simulated summer: past rows are sent, answered and judged again, on the replay clock.

Here belongs what plays the world around the loop: callers, faults, time. The loop itself must not know that it
is simulated. Only the command line imports this folder.
"""
