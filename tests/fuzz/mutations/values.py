"""Values that programs stumble over."""

from __future__ import annotations

import math
from random import Random
from typing import Any

WHOLE = (
    *(0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 100, 127, 128, 255, 256, 1000, 4096, 32767, 32768, 65535, 65536, -32768),
    *(10**6, 10**9, 2**31 - 1, 2**31, -(2**31), 2**32 - 1, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63), 10**40),
)
REAL = (
    *(0.0, -0.0, 0.5, -1.0, 1.5, 1e-3, 1e-9, 1e-30, 1e-45, 1e-320, 1e4, 1e9, 1e12, 1e30, 3.5e38, 1e300, 1.7e308),
    *(math.nan, math.inf, -math.inf, -1e-9, -2.5, 179.99, 1e18),
)
#: Text for cells, keys, names of files and of classes.
TEXT = (
    *("", " ", ".", "..", "-", "0", "-1", "1e999", "nan", "NaN", "inf", "None", "null", "true", "=1+1", "~", "$HOME"),
    *("../x", "../../../../../../tmp/fewlabel-fuzz", "/etc/passwd", "/dev/zero", "a/../../b", "..\\..\\x", "C:\\x.nii"),
    *(
        "x.nii.gz/",
        "a//b",
        "CON",
        "aux.nii",
        "a\nb",
        "a\rb",
        "a\tb",
        "a\0b",
        "\x1b[31mred",
        "\x7f",
        "\u202etxt",
        "\ufeff",
    ),
    *("e\u0301", "\u00e9", "\U0001f9e0", "\udc80", "%s%n", "{", "}", "{0}", "${x}", "$\\frac{$", "<script>", "&amp;"),
    *(
        '"',
        "'",
        ",",
        ";",
        "\\",
        "a,b",
        "x" * 255,
        "x" * 300,
        "x" * 5000,
        "0" * 400,
        "9" * 30,
        "\u0660",
        "1_000",
        "0x10",
    ),
)


def number(rng: Random) -> Any:
    """A whole or real number, most often an extreme one."""
    pick = rng.random()
    if pick < 0.5:
        return rng.choice(WHOLE)
    return rng.choice(REAL) if pick < 0.9 else rng.uniform(-1000, 1000)


def text(rng: Random) -> str:
    """A text."""
    return rng.choice(TEXT)


def value(rng: Random, depth: int = 0) -> Any:
    """A JSON value of any type."""
    pick = rng.randrange(8 if depth < 2 else 6)
    if pick < 2:
        return number(rng)
    if pick < 4:
        return text(rng)
    if pick < 6:
        return rng.choice((None, True, False))
    if pick == 6:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {text(rng): value(rng, depth + 1) for _ in range(rng.randrange(4))}
