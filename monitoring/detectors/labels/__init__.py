"""Are the labels right and complete? What is asked of them before anything is judged by them.

Pure functions, as all detectors. `label_faults` is the entry; the checks know nothing of quarantine.
"""
