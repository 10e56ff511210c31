"""The model's versions: in MLflow (`tracking`), on the disk (`publication`), and in the route (`registry`).

No step of a training, and nothing of HTTP. It imports store and bundle; steps, commands and Level 2 may import it.
"""

from level1_pipeline.registry.registry import ANY, Registry, RouteSetByHand
from level1_pipeline.registry.tracking import CHALLENGER, CHAMPION, PREVIOUS

__all__ = ["ANY", "CHALLENGER", "CHAMPION", "PREVIOUS", "Registry", "RouteSetByHand"]
