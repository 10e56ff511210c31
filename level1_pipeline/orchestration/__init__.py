"""Starting a training: who may, in which order the steps run, what Prefect remembers, and how it ended.

`pipeline.py` has the order of the steps; `flow.py` alone imports prefect. What a step does belongs to steps/.
The command line and Level 2 import it.
"""
