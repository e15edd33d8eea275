"""Thrift's compact protocol, in which footer and pages of a Parquet file say what they hold: read value by value.

Nothing is kept of what is only passed over, and nothing that the bytes promise is allocated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

#: Types of values.
TRUE, FALSE, BYTE, INT16, INT32, INT64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
_BITS = {INT16: 16, INT32: 32, INT64: 64}
#: How deep values that are passed over may lie in one another: real ones are below five.
_DEEPEST = 16


class BadThriftError(ValueError):
    """Bytes that are no Thrift, or none that a sound file has."""


class Thrift:
    """Reads values from where a stream stands.

    Args:
        stream: The file.
        left: Bytes that there may be.
        most: Bytes of them that may be anything but text, which alone take time.
    """

    def __init__(self, stream: BinaryIO, left: int, most: int) -> None:
        self._stream, self._left, self._most = stream, left, most

    def fields(self) -> Iterator[tuple[int, int]]:
        """Number and type of each value of a struct; whoever asks reads it or skips it before the next."""
        number = 0
        while kind := (head := self._byte()) & 0x0F:
            number = number + (head >> 4) if head >> 4 else self.number(INT16)
            if not 0 < number < 1 << 15:
                raise BadThriftError(f"a field {number}")
            yield number, kind

    def elements(self) -> Iterator[int]:
        """The type of each value of a list or set, to be read or skipped before the next."""
        head = self._byte()
        count = self._natural() if head >> 4 == 0x0F else head >> 4
        yield from _each(count, [head & 0x0F])

    def number(self, kind: int) -> int:
        """A whole number of a type."""
        folded = self._natural()
        value = (folded >> 1) ^ -(folded & 1)
        if not -1 << (_BITS[kind] - 1) <= value < 1 << (_BITS[kind] - 1):
            # Thrift itself would cut it.
            raise BadThriftError(f"the number {value}")
        return value

    def text(self, most: int) -> str:
        """The beginning of a text."""
        length = self._natural()
        self._take(length)
        text = self._stream.read(min(length, most))
        self._stream.seek(length - len(text), 1)
        return text.decode(errors="replace")

    def skip(self, kind: int, depth: int = 0) -> None:
        """Pass over a value and whatever it holds."""
        if depth > _DEEPEST:
            raise BadThriftError(f"values {depth} deep")
        if kind in _BITS:
            self._natural()
        elif kind in {BYTE, DOUBLE, BINARY}:
            length = self._natural() if kind == BINARY else 8 if kind == DOUBLE else 1
            self._take(length)
            self._stream.seek(length, 1)
        elif kind == STRUCT:
            for _, inner in self.fields():
                self.skip(inner, depth + 1)
        elif kind in {LIST, SET}:
            for inner in self.elements():
                self.skip(inner, depth + 1)
        elif kind == MAP:
            count = self._natural()
            kinds = self._byte() if count else 0
            for inner in _each(count, [kinds >> 4, kinds & 0x0F]):
                self.skip(inner, depth + 1)
        elif kind not in {TRUE, FALSE}:
            raise BadThriftError(f"a value of type {kind}")

    def _natural(self) -> int:
        value = 0
        for place in range(10):
            byte = self._byte()
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                return value
        raise BadThriftError("a number without end")

    def _byte(self) -> int:
        self._take(1)
        self._most -= 1
        byte = self._stream.read(1)
        if not byte or self._most < 0:
            raise BadThriftError("it does not end")
        return byte[0]

    def _take(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise BadThriftError("it does not end")


def _each(count: int, kinds: list[int]) -> Iterator[int]:
    for _ in range(count):
        for kind in kinds:
            # In a struct the type of a truth says it; here it has a byte.
            yield BYTE if kind in {TRUE, FALSE} else kind
