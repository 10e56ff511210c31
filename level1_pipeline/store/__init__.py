"""What is kept: routes, leases, audit log, predictions, outcomes, quarantine, rollouts, and the clock of decisions.

Nothing here knows a model, a file of data or MLflow. Every level may import it; it imports only schema and settings.
"""
