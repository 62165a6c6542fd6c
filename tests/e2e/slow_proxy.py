"""Passes connections on, and whatever a client says some seconds late; for the end-to-end tests.

Its arguments: the port to listen on, host and port to pass to, and the seconds.
"""

import asyncio
import sys


async def passed_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float
) -> None:
    """Write what is read until its end, each part so much later."""
    loop = asyncio.get_running_loop()
    try:
        while data := await reader.read(2**16):
            loop.call_later(seconds, writer.write, data)
    except ConnectionError:
        pass
    finally:
        loop.call_later(seconds, writer.close)


async def main(port: int, host: str, target: int, seconds: float) -> None:
    """Serve for ever."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(host, target)
        await asyncio.gather(passed_on(reader, there[1], seconds), passed_on(there[0], writer, 0))

    async with await asyncio.start_server(serve, "0.0.0.0", port) as server:
        await server.serve_forever()


asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
