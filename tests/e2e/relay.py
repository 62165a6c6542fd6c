"""Passes connections on, and what clients say late or changed once; for the end-to-end tests.

Its arguments: the port to listen on, host and port to pass to, how many seconds late, and which
bytes take the place of which, the first time that they come.
"""

import asyncio
import sys
from collections.abc import Callable

Change = Callable[[bytes], bytes]


async def passed_on(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float, change: Change
) -> None:
    """Copy a stream until its end, each part so many seconds later."""
    loop = asyncio.get_running_loop()
    try:
        while data := await reader.read(2**16):
            loop.call_later(seconds, writer.write, change(data))
    except ConnectionError:
        pass
    finally:
        loop.call_later(seconds, writer.close)


def once(old: bytes, new: bytes) -> Change:
    """Puts one in the place of the other where that comes first."""
    waits = bool(old)

    def change(data: bytes) -> bytes:
        nonlocal waits
        if waits and old in data:
            waits = False
            return data.replace(old, new, 1)
        return data

    return change


async def main(
    port: str, host: str, target: str, seconds: str, old: str = "", new: str = ""
) -> None:
    """Serve for ever."""
    change = once(old.encode(), new.encode())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(host, int(target))
        await asyncio.gather(
            passed_on(reader, there[1], float(seconds), change),
            passed_on(there[0], writer, 0, bytes),
        )

    async with await asyncio.start_server(serve, "127.0.0.1", int(port)) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
