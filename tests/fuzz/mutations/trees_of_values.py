"""JSON and YAML: types swapped, keys dropped, doubled and renamed, values that no field expects."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import yaml

from fuzz.mutations import values

#: Documents, or parts of some, that only YAML knows.
_YAML = (
    *(b"!!python/object/apply:os.getpid []", b"&a [*a]", b"? {a: b}\n: c", b"a: *b", b"- x\n- y", b"%YAML 9.9\n---\n"),
    *(b"a: 1\na: 2\n", b"\t\n", b"{" * 2000, b"<<: {a: 1}\n", b"x: !!float x\n", b"3: y\n", b"x: !!int 1_x\n"),
    *(
        b"a: &a [x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\nd: [*c,*c,*c,*c]\n",
        b"x: !!timestamp 9\n",
        b"x: !!set a\n",
    ),
)


def json_document(content: bytes, rng: Random) -> tuple[bytes, str]:
    """One node of a document, or the document as a whole."""
    if rng.random() < 0.08:
        return _whole(content, rng)
    document, what = _changed(json.loads(content), rng)
    return _as_json(document, rng).encode(errors="surrogatepass"), what


def json_lines(content: bytes, rng: Random) -> tuple[bytes, str]:
    """One line of several documents."""
    rows = content.decode().splitlines()
    at = rng.randrange(len(rows))
    if rng.random() < 0.2:
        rows[at] = rng.choice(("", "null", "[]", "3", rows[at][: len(rows[at]) // 2], f"{rows[at]}{rows[at]}"))
        return ("\n".join(rows) + "\n").encode(), f"line {at}: {rows[at][:40]!r}"
    document, what = _changed(json.loads(rows[at]), rng)
    rows[at] = json.dumps(document)
    return ("\n".join(rows) + "\n").encode(errors="surrogatepass"), f"line {at}: {what}"


def yaml_document(content: bytes, rng: Random) -> tuple[bytes, str]:
    """One node of a document, or text of YAML's own."""
    if rng.random() < 0.15:
        odd = rng.choice(_YAML)
        return rng.choice((odd, content + b"\n" + odd, odd + b"\n" + content)), f"{odd[:40]!r}"
    document, what = _changed(yaml.safe_load(content), rng)
    return yaml.safe_dump(document, allow_unicode=True, sort_keys=False).encode(errors="surrogatepass"), what


def _nodes(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every node but the root."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in inside:
        yield (*path, key)
        yield from _nodes(child, (*path, key))


def _changed(document: Any, rng: Random) -> tuple[Any, str]:
    ways = list(_nodes(document))
    if not ways or rng.random() < 0.03:
        return values.value(rng), "another document"
    way = rng.choice(ways)
    *above, key = way
    holder = document
    for step in above:
        holder = holder[step]
    where = ".".join(map(str, way))[:80]
    done = rng.randrange(10)
    if done == 0:
        del holder[key]
        return document, f"without {where}"
    if done == 1 and isinstance(holder, dict):
        holder[values.text(rng)] = holder.pop(key)
        return document, f"{where} named otherwise"
    if done == 1 or (done == 2 and isinstance(holder, list)):
        holder.append(holder[key]) if isinstance(holder, list) else None
        return document, f"{where} twice"
    if done == 2:
        holder[values.text(rng)] = values.value(rng)
        return document, f"a key beside {where}"
    if done == 3:
        other = document
        for step in rng.choice(ways):
            other = other[step]
        holder[key] = json.loads(json.dumps(other, default=str))
        return document, f"{where} as another one"
    if done == 4:
        holder[key] = _wrapped(holder[key], rng)
        return document, f"{where} of another shape"
    holder[key] = values.value(rng)
    return document, f"{where} = {holder[key]!r}"[:120]


def _wrapped(value: Any, rng: Random) -> Any:
    if isinstance(value, str):
        return rng.choice((value + values.text(rng), value.upper(), [value], value * 2, value.encode().hex()))
    if isinstance(value, bool | int | float):
        return rng.choice((str(value), -value, value + 1, [value], float(value), bool(value)))
    return rng.choice(([value], {"x": value}, json.dumps(value, default=str)))


def _as_json(document: Any, rng: Random) -> str:
    text = json.dumps(document, indent=rng.choice((None, 2)), ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.06 and text.startswith("{") and len(text) > 2:
        # A key twice.
        first = text[1:].partition(",")[0].rstrip("}\n ")
        text = "{" + first + "," + text[1:]
    return text


def _whole(content: bytes, rng: Random) -> tuple[bytes, str]:
    text = content.decode()
    done = rng.randrange(7)
    if done == 0:
        deep = rng.choice((500, 5000, 200000))
        return b"[" * deep + b"]" * deep, f"{deep} lists inside each other"
    if done == 1:
        return text.encode(rng.choice(("utf-16", "utf-8-sig", "utf-32"))), "in another encoding"
    if done == 2:
        return content + content, "twice"
    if done == 3:
        return rng.choice((b"", b"null", b"[]", b"{}", b"3", b'"text"', b"NaN", b"\xff\xfe")), "next to nothing"
    if done == 4:
        return content[: rng.randrange(len(content))], "cut short"
    if done == 5:
        return (b'{"a":' * 3000) + b"1" + b"}" * 3000, "3000 objects inside each other"
    return b"9" * rng.choice((400, 5000)), "a number of many digits"
