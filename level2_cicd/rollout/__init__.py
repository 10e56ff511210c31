"""The rollout of one version: registered, blessed, shadow, canary, bake, champion; or rolled back.

Here belongs what reads the evidence about a candidate, decides the next state, and writes it. When a rollout
starts is decided in control_loop. The control loop, the simulation and the command line import this folder.
"""
