"""A LitServe server on the port named on the command line."""

import sys
from typing import Any

import litserve

from tests.benchmarks.peers.model import predictor


class Peer(litserve.LitAPI):  # type: ignore[misc]
    """One model."""

    def setup(self, device: str) -> None:
        self.score = predictor()

    def decode_request(self, request: dict[str, Any]) -> Any:
        return request["records"]

    def predict(self, records: Any) -> Any:
        return self.score(records)

    def encode_response(self, scores: Any) -> dict[str, Any]:
        return {"scores": scores.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Peer(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(sys.argv[1]), generate_client_file=False, log_level="error")
