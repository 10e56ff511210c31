"""Scores files of any size with the numbers that the API gives, and goes on where a killed run stopped.

Imports only `level1_pipeline`, nothing of the HTTP service. Only the cli may import it.
"""
