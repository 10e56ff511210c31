"""Level 2: brings a new version into service step by step, and acts on what the monitoring finds.

Here belongs what changes the route by itself, and what drives that. What judges a model belongs to
level1_pipeline/evaluation, what watches it to monitoring. Nobody imports this folder.
"""
