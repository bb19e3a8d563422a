"""A head and a body leave together; what comes alone leaves, too."""

import asyncio
from typing import cast

from stream.http_transport import PairedWrites


class _Transport:
    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.closed = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.sent.append(data)

    def writelines(self, data: tuple[bytes, ...]) -> None:
        self.write(b"".join(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def _paired() -> tuple[PairedWrites, _Transport]:
    transport = _Transport()
    loop = asyncio.get_running_loop()
    return PairedWrites(cast(asyncio.Transport, transport), loop), transport


def test_head_and_body_are_one_write() -> None:
    async def answer() -> list[bytes]:
        paired, transport = _paired()
        for data in (b"head1 ", b"body1", b"head2 ", b""):
            paired.write(data)
        await asyncio.sleep(0)
        return transport.sent

    assert asyncio.run(answer()) == [b"head1 body1", b"head2 "]


def test_a_head_whose_body_takes_long_leaves_in_the_next_turn() -> None:
    async def answer() -> list[bytes]:
        paired, transport = _paired()
        paired.write(b"100 Continue")
        assert not transport.sent
        await asyncio.sleep(0)
        return transport.sent

    assert asyncio.run(answer()) == [b"100 Continue"]


def test_what_is_held_is_sent_before_the_end() -> None:
    async def answer() -> tuple[list[bytes], bool]:
        paired, transport = _paired()
        paired.write(b"400")
        paired.close()
        await asyncio.sleep(0)
        return transport.sent, paired.is_closing()

    assert asyncio.run(answer()) == ([b"400"], True)
