"""How good is a model, are the data fit to train on, and may the model be served?

Pure functions of rows, predictions and bundles (`labels` keeps the trusted set). What is registered or served is
not decided here. The steps of a training and the monitoring import it.
"""
