"""Latency behind Envoy by the way it chooses a server: see scale.sh.

Two fast servers and a slow one, requests at random times; least requests and load reports in turn.
"""

import asyncio
import random
import sys
import time

import grpc
import numpy
from clients import MODEL
from scale import FAST, SLOW, Hosts
from tritonclient.grpc import service_pb2, service_pb2_grpc

RATES_HZ = [300, 600, 900]
ROUND_LEN = 3
SECONDS = 10
# Reports count after 2 s, and rates are those of some seconds.
WARM_SECONDS = 4


async def latencies_ms(hosts, rate_hz, seed):
    """Of the requests after the first seconds, from the moment at which they were due."""
    channels = [
        grpc.aio.insecure_channel(hosts.envoy.address, [("grpc.use_local_subchannel_pool", 1)])
        for _ in range(4)
    ]
    infers = [service_pb2_grpc.GRPCInferenceServiceStub(each).ModelInfer for each in channels]
    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name="image", datatype="UINT8", shape=[1, 32, 32, 3]
    )
    request = service_pb2.ModelInferRequest(
        model_name=MODEL, inputs=[tensor], raw_input_contents=[bytes(32 * 32 * 3)]
    )
    found = []

    async def ask(index, due):
        await infers[index % 4](request, timeout=30)
        if due > begin + WARM_SECONDS:
            found.append((time.monotonic() - due) * 1e3)

    draws = random.Random(seed)
    begin = due = time.monotonic()
    asked = []
    while due < begin + SECONDS:
        await asyncio.sleep(max(0, due - time.monotonic()))
        asked.append(asyncio.create_task(ask(len(asked), due)))
        due += draws.expovariate(rate_hz)
    await asyncio.gather(*asked)
    for channel in channels:
        await channel.close()
    return found


async def main():
    [command] = sys.argv[1:]
    for rate_hz in RATES_HZ:
        figures = {False: [], True: []}
        for seed in range(ROUND_LEN):
            for is_orca, found in figures.items():
                with Hosts(command, [FAST, FAST, SLOW], is_orca) as hosts:
                    await hosts.wait_for_all()
                    times = await latencies_ms(hosts, rate_hz, seed)
                found.append((numpy.mean(times), *numpy.percentile(times, [50, 99])))
        # The round that the machine disturbed least.
        least, orca = (min(found) for found in figures.values())
        for name, (mean, p50, p99) in [("least requests", least), ("load reports", orca)]:
            print(f"{rate_hz}/s, {name}: mean {mean:.1f} ms, p50 {p50:.1f}, p99 {p99:.1f}")
        ratios = ", ".join(f"{other / one:.2f}" for one, other in zip(least, orca))
        print(f"{rate_hz}/s, load reports over least requests: {ratios}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
