"""What comes from outside: the problem's raw data, and CSV files. Read whole, or refused in one sentence. The rows of a
training may be kept.

What a row must hold is the schema's business. Every package may import it.
"""
