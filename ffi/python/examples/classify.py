"""Names what is on images, all of them at a time: classify.py WEIGHTS IMAGE..."""

import asyncio
import sys

import twinstream


async def classify(engine: twinstream.Engine, path: str) -> None:
    try:
        answer = await engine.submit(path, deadline=10.0)
    except (twinstream.Expired, twinstream.ImageError, twinstream.FileError) as error:
        print(f"{path}: {error}", file=sys.stderr)
        return
    best = answer.top()[0]
    print(f"{path}: {best.label} {best.probability:.3f}, {answer.timing.latency_ns * 1e-6:.1f} ms")


async def main() -> None:
    if len(sys.argv) < 3:
        sys.exit("usage: classify.py WEIGHTS IMAGE...")
    weights, *paths = sys.argv[1:]
    with twinstream.Engine(weights) as engine:
        await asyncio.gather(*(classify(engine, path) for path in paths))


asyncio.run(main())
