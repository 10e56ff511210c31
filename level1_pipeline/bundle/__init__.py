"""The inference bundle of a version: written once, proved equal to the pipeline, verified whenever it is read.

Serving needs nothing else of a training. The evaluation, the registry and every later level may import it; it
imports only the problem and its schema. Modules import one way: write -> equivalence, tree_compiler -> load -> rest.
"""
