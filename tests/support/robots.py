"""Serves robots over TCP in this process."""

import asyncio

from sensorseq.prediction.serving import serve


def served(make_stream, act, **options):
    """Serve while `act`, a coroutine function of the port, runs; return its result and messages."""
    texts = []

    async def everything():
        port = asyncio.get_running_loop().create_future()
        say = {"say": texts.append, "ready": port.set_result}
        server = asyncio.ensure_future(serve(make_stream, "0", **say, **options))
        try:
            return await act(await port)
        finally:
            server.cancel()
            await asyncio.sleep(0.3)  # by now, all connections are closed

    return asyncio.run(asyncio.wait_for(everything(), 60)), texts
