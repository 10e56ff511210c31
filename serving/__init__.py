"""The prediction service: it answers programs over HTTP, scores files, and logs every prediction.

Imports `level1_pipeline` (problem, schema, settings, store, bundle) and nothing of training, monitoring or Level 2.
Inside, imports point down: cli, server, api, service, telemetry, models, schemas. `level2_cicd` may import it.
"""
