"""The delivery of the pipeline itself: releases, and the environments in which they run.

Here belongs what builds, checks, installs and switches code with its environment. What brings a model into service
belongs to rollout. Only the command line imports this folder.
"""
