"""What a monitoring run reads: the prediction log of a window, its sums by day, outcomes from files, released versions.

Also what is deleted, by age or by name. No judgement belongs here. Detectors, reporting and runs import it.
"""
