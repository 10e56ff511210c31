"""The service without HTTP: what one worker holds, the hot swap of models, the shadow, the background threads.

Nothing that knows requests, headers or status pages. Imports telemetry and models; only api and server may import it.
"""
