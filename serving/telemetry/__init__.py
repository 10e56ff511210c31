"""What the service writes about its work: prediction log, metrics, access log, log lines in JSON.

Nothing that decides about an answer. Imports `serving.models`; service and api may import it.
"""
