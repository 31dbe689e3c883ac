"""Bytes as a bad disk, a bad merge or a neighbour leaves them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

INTRUDERS = (
    *(
        b"\0",
        b"\n",
        b"\r",
        b"\xff",
        b"\xed\xa0\x80",
        b'"',
        b"'",
        b"\\",
        b"{",
        b"}",
        b"[",
        b"(",
        b"'''",
        b"$x$",
        b"\\N{x}",
    ),
    *(b"1e999", b"-1", b"NaN", b"null", b"9" * 40, b"0" * 5_000, b"..", b"/", b"#", b"=", b":", b"@", b"%", b";", b","),
)
MOST = 2_000  # times that a piece is repeated


@st.composite
def damaged(draw: Callable[[st.SearchStrategy[int]], int], data: bytes) -> bytes:
    """`data` with a few pieces cut out, put in, or repeated."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        piece = data[start : start + draw(st.integers(0, 20))]
        intruder = INTRUDERS[draw(st.integers(0, len(INTRUDERS) - 1))]
        kind = draw(st.integers(0, 3))
        middle = (b"", intruder + piece, piece * draw(st.integers(2, 9)), intruder * MOST + piece)[kind]
        data = data[:start] + middle + data[start + len(piece) :]
    return data
