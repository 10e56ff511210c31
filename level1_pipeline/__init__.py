"""The training pipeline, and the home of what all later levels share."""
