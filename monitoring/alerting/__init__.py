"""Who hears of a finished run: one ticket for each incident in the store, and a webhook for other systems.

Nothing is decided here. Commands and the control loop import it.
"""
