"""What the collected data say: one module for each question, pure functions from tables to frozen results.

No settings, no store, no files. Their limits stand in `monitoring/thresholds.py`. The diagnosis imports the results.
"""
