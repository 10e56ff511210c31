"""What comes from outside: the problem's raw data, and CSV files. Read whole, or refused in one sentence.

What a row must hold is the schema's business. Every package may import it.
"""
