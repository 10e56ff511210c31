"""A runtime for MLServer: the columns of its protocol, scored by the pipeline."""

from __future__ import annotations

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from tests.benchmarks.peers.model import predictor


class Peer(MLModel):  # type: ignore[misc]
    """One model."""

    async def load(self) -> bool:
        self.score = predictor()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        columns = {one.name: one.data.root for one in payload.inputs}
        records = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        output = NumpyCodec.encode_output("scores", self.score(records))
        return InferenceResponse(model_name=self.name, outputs=[output])
