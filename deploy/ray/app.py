"""Twinstream in Ray Serve: one engine a replica.

    TWINSTREAM_WEIGHTS=/models/resnet50/model.safetensors serve run app:app

Without `@serve.batch`: that would wait for a number of requests or a time that somebody chose, and
the engine chooses both by itself, for each batch anew. All it needs is to see the requests as they
come, so a replica is given as many as it has slots.
"""

import os

import twinstream
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse

# What a replica holds at a time, and what waits in front of all of them before it is refused.
SLOT_LEN = 1024
QUEUED_LEN_MAX = 4096
# Seconds; a client's own time ends by its leaving, which cancels the request.
DEADLINE = 30.0


@serve.deployment(
    num_replicas=2,
    max_replicas_per_node=1,
    max_ongoing_requests=SLOT_LEN,
    max_queued_requests=QUEUED_LEN_MAX,
    health_check_period_s=1,
    health_check_timeout_s=5,
    graceful_shutdown_timeout_s=30,
)
class Resnet50:
    def __init__(self, weights: str, **options: object) -> None:
        self.engine = twinstream.Engine(weights, slot_len=SLOT_LEN, **options)

    async def infer(self, image):
        """For handles: what `Engine.submit` takes; the logits."""
        return (await self.engine.submit(image, deadline=DEADLINE)).logits

    async def __call__(self, request: Request) -> JSONResponse:
        """Over HTTP: the body is an image file."""
        try:
            answer = await self.engine.submit(await request.body(), deadline=DEADLINE)
        except twinstream.ImageError as error:
            return JSONResponse({"error": str(error)}, 400)
        except twinstream.Full as error:
            return JSONResponse({"error": str(error)}, 503, {"Retry-After": "1"})
        except twinstream.Expired as error:
            return JSONResponse({"error": str(error)}, 504)
        best = answer.top()[0]
        return JSONResponse({"label": best.label, "logits": answer.logits.tolist()})

    def check_health(self) -> None:
        """Who lost the device is replaced: a new process may have it back."""
        refusal = self.engine.stats().refusal
        if refusal is not None:
            raise RuntimeError(f"the engine takes no more requests: {refusal}")


app = Resnet50.bind(os.environ["TWINSTREAM_WEIGHTS"])
