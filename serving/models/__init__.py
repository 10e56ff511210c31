"""Loaded models, which of them answers (champion, canary, shadow), and explanations of a score.

Nothing about HTTP, logs or threads. Imports only `serving.schemas` and `serving.errors`; everything above may import it.
"""
