"""What is going on, how sure are we, and what should be done: one monitoring run after another, and what follows each.

Here stand the phases of a run, its result, its history and its thresholds; what reads, detects, reports or alerts has
a folder. Nothing here changes what is served. The control loop of Level 2 imports it; serving never does.
"""
