"""The eight steps of a training, one file each: its typed result, and what it does.

A step is a plain function of a run and of results of earlier steps. Their order stands in orchestration/pipeline.py,
and nothing here knows who runs them. The other files are what several steps share.
"""
