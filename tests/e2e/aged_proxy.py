"""Passes connections on, and makes the first watch begin at the cluster's oldest state, which its
API no longer knows; for the end-to-end tests.

Its arguments: the port to listen on, host and port to pass to.
"""

import asyncio
import sys

NOW, OLDEST = b"resourceVersion=0", b"resourceVersion=1"
changed = False


async def passed_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Write what is read until its end."""
    global changed
    try:
        while data := await reader.read(2**16):
            if not changed and b"watch=True" in data and NOW in data:
                data, changed = data.replace(NOW, OLDEST), True
            writer.write(data)
    except ConnectionError:
        pass
    finally:
        writer.close()


async def main(port: int, host: str, target: int) -> None:
    """Serve for ever."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(host, target)
        await asyncio.gather(passed_on(reader, there[1]), passed_on(there[0], writer))

    async with await asyncio.start_server(serve, "127.0.0.1", port) as server:
        await server.serve_forever()


asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
