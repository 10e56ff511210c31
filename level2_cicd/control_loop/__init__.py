"""The control loop: take in outcomes, monitor, decide the next action, carry it out, and again.

Here belongs what decides that something has to be done: triggers, orders, the retraining budget. How a rollout
goes on belongs to rollout. The simulation and the command line import this folder.
"""
