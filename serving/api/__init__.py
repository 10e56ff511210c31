"""HTTP: the FastAPI application, its routes, and the middleware with keys, limits and request ids.

No logic of predictions: the routes call `serving.service`. Only `serving.server` and the cli may import it.
"""
