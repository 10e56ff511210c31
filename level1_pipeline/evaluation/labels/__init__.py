"""Are the labels of the source right?  What the gate asks without taking the source's word.

The trusted set is kept here, too, because it must not change with the source.
"""
