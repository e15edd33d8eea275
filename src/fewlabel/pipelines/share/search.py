"""A last look at a copy: none of the words that tell whose scans they are may be in any byte of it."""

from __future__ import annotations

import base64
import io
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import BinaryIO

import pandas as pd

_DATA = re.compile(rb"base64,([A-Za-z0-9+/=]+)")
#: Words shorter than this are met by chance among the bytes of numbers.
_AMONG_NUMBERS = 7


def found_in(folder: Path, words: Iterable[str]) -> dict[str, list[str]]:
    """File → words in it, in its name, or in what is packed in it; empty where nothing was found.

    Args:
        folder: The copy.
        words: What to look for, whatever its case.
    """
    wanted = sorted(set(words))
    if not wanted:
        return {}
    anywhere = _pattern(wanted)
    among_numbers = _pattern([word for word in wanted if len(word) >= _AMONG_NUMBERS])
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        hits = _hits(anywhere, name.encode())
        if path.is_file():
            numbers = path.suffix in (".npy", ".safetensors", ".parquet")
            with path.open("rb") as stream, _mapped(stream) as content:
                hits |= _hits(among_numbers if numbers else anywhere, content)
            for text in _unpacked(path):
                hits |= _hits(anywhere, text)
        if hits:
            found[name] = sorted(hits)
    return found


def _pattern(words: Iterable[str]) -> re.Pattern[bytes] | None:
    parts = []
    for word in words:
        text = re.escape(word.encode())
        parts.append(rb"(?<![0-9.])" + text + rb"(?![0-9])" if word.isdigit() else text)
    return re.compile(b"|".join(parts), re.IGNORECASE) if parts else None


def _mapped(stream: BinaryIO) -> AbstractContextManager[bytes | mmap]:
    """The content of a file, which may be larger than the memory; an empty one cannot be mapped."""
    empty = os.fstat(stream.fileno()).st_size == 0
    return nullcontext(b"") if empty else mmap(stream.fileno(), 0, access=ACCESS_READ)


def _hits(pattern: re.Pattern[bytes] | None, content: bytes | mmap) -> set[str]:
    if pattern is None:
        return set()
    return {match[0].decode(errors="replace") for match in pattern.finditer(content)}


def _unpacked(path: Path) -> Iterator[bytes]:
    """What lies packed in a file: pictures of a page, cells of a table, the header of weights or of an array."""
    if path.suffix == ".html":
        for match in _DATA.finditer(path.read_bytes()):
            yield base64.b64decode(match[1])
    elif path.suffix == ".parquet":
        table = pd.read_parquet(io.BytesIO(path.read_bytes()))
        texts = table.select_dtypes(exclude="number")
        yield " ".join([*map(str, table.columns), *map(str, texts.to_numpy().ravel())]).encode()
    elif path.suffix in (".npy", ".safetensors"):
        with path.open("rb") as stream:
            head = stream.read(1 << 20)
        length = int.from_bytes(head[:8], "little") + 8 if path.suffix == ".safetensors" else 128
        yield head[: min(length, len(head))]
