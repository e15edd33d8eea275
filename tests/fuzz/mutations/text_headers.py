"""NRRD and MetaImage: lines of their text headers."""

from __future__ import annotations

from random import Random

from fuzz.mutations import values

_NRRD = {
    "type": ("float", "double", "int8", "uint8", "int64", "block", "half", "unsigned char", "struct"),
    "dimension": ("0", "1", "2", "3", "4", "5", "16", "17", "-1", "999999999"),
    "encoding": ("raw", "gzip", "gz", "ascii", "hex", "bzip2", "text", "zrl"),
    "endian": ("little", "big", "middle"),
    "data file": (
        "../elsewhere.raw",
        "LIST\n../elsewhere.raw",
        "/etc/passwd",
        "LIST",
        "LIST 2\na\nb",
        "x%03d.raw 1 9 1",
        "image.nrrd",
        "SKIPLIST",
    ),
    "byte skip": ("0", "-1", "-2", "99999999", "352"),
    "line skip": ("0", "1", "99999999", "-1"),
    "space": ("left-posterior-superior", "RAS", "scanner-xyz", "3D-right-handed", "LPST", "nowhere"),
    "kinds": ("domain domain domain", "list domain domain domain", "RGB-color domain domain", "none none none", "x"),
    "space directions": (
        "none none none",
        "(1,0,0) (0,1,0)",
        "(nan,0,0) (0,nan,0) (0,0,nan)",
        "(0,0,0) (0,0,0) (0,0,0)",
    ),
    "space origin": ("(0,0)", "(nan,nan,nan)", "(1e300,0,0)", "none"),
    "sizes": ("0 0 0", "99999 99999 99999", "4294967296 1 1", "-1 8 8", "8 8", "8 8 8 8", "2147483647 2147483647 3"),
    "Segment0_LabelValue:": ("0", "-1", "256", "x", "1.5"),
    "Segment0_Layer:": ("0", "1", "99", "-1"),
    "Segment0_Extent:": ("0 0 0 0 0 0", "9 1 9 1 9 1", "a b", "-5 99 -5 99 -5 99"),
    "Segment0_Name:": values.TEXT,
    "Segmentation_ReferenceImageExtentOffset:": ("0 0 0", "99 99 99", "-9 -9 -9", "x"),
}
_META = {
    "ObjectType": ("Image", "Tube", "Scene", ""),
    "NDims": ("0", "1", "2", "3", "4", "10", "11", "-3", "99999"),
    "BinaryData": ("True", "False", "x"),
    "BinaryDataByteOrderMSB": ("True", "False"),
    "CompressedData": ("True", "False"),
    "CompressedDataSize": ("0", "1", "-1", "99999999999", "4294967296"),
    "TransformMatrix": ("1 0 0 0 1 0 0 0 1", "0 0 0 0 0 0 0 0 0", "nan 0 0 0 1 0 0 0 1", "1 0 0", "1 1 1 1 1 1 1 1 1"),
    "Offset": ("0 0 0", "nan nan nan", "1e300 0 0", "0"),
    "ElementSpacing": ("0 0 0", "-1 1 1", "nan 1 1", "1e30 1e30 1e30", "1e-30 1 1", "1"),
    "ElementNumberOfChannels": ("0", "1", "3", "-1", "99999", "2147483647"),
    "DimSize": ("0 0 0", "99999 99999 99999", "4294967296 1 1", "-1 8 8", "8 8", "8 8 8 8", "2147483647 2147483647 3"),
    "ElementType": (
        "MET_FLOAT",
        "MET_UCHAR",
        "MET_DOUBLE",
        "MET_STRING",
        "MET_NONE",
        "MET_LONG_LONG",
        "MET_FLOAT_ARRAY",
    ),
    "HeaderSize": ("0", "-1", "-2", "99999999", "100"),
    "ElementDataFile": (
        "LOCAL",
        "LIST",
        "../elsewhere.raw",
        "LIST\n../elsewhere.raw",
        "/etc/passwd",
        "image.mhd",
        "x%d.raw 1 3 1",
        "Local",
        "nothing.raw",
    ),
}


def nrrd(content: bytes, rng: Random) -> tuple[bytes, str]:
    """A line of an NRRD header."""
    head, blank, data = content.partition(b"\n\n")
    lines, what = _changed(head.split(b"\n"), b": ", _NRRD, rng, fixed=1)
    return b"\n".join(lines) + blank + data, what


def metaimage(content: bytes, rng: Random) -> tuple[bytes, str]:
    """A line of a MetaImage header."""
    at = content.find(b"ElementDataFile")
    end = content.find(b"\n", at) if at >= 0 else -1
    head, data = (content[:end], content[end:]) if end >= 0 else (content, b"")
    lines, what = _changed(head.split(b"\n"), b" = ", _META, rng, fixed=0)
    return b"\n".join(lines) + data, what


def _changed(
    lines: list[bytes], between: bytes, known: dict[str, tuple[str, ...]], rng: Random, fixed: int
) -> tuple[list[bytes], str]:
    """Lines with one changed; the first ``fixed`` stay as they are."""
    lines = list(lines)
    at = rng.randrange(fixed, len(lines)) if len(lines) > fixed else 0
    key, _, old = lines[at].partition(between)
    done = rng.randrange(8)
    if done == 0:
        return lines[:at] + lines[at + 1 :], f"without {key.decode(errors='replace')}"
    if done == 1:
        return [*lines[:at], lines[at], *lines[at:]], f"{key.decode(errors='replace')} twice"
    if done == 2:
        field = rng.choice(list(known))
        new = rng.choice(known[field]).encode(errors="replace")
        place = next((n for n, line in enumerate(lines) if line.startswith(field.encode())), rng.randrange(len(lines)))
        lines[place] = field.encode() + (b"=" if field.endswith(":") else between) + new
        return lines, f"{field} {new!r}"
    if done == 3:
        rng.shuffle(rest := lines[fixed:])
        return lines[:fixed] + rest, "lines in another order"
    if done == 4:
        lines.insert(rng.randrange(fixed, len(lines) + 1), values.text(rng).encode(errors="replace"))
        return lines, "a line of nonsense"
    options = known.get(key.decode(errors="replace"))
    if options and done < 7:
        new = rng.choice(options)
    else:
        words = old.decode(errors="replace").split(" ")
        words[rng.randrange(len(words))] = str(values.number(rng)) if rng.random() < 0.6 else values.text(rng)
        new = " ".join(words)
    lines[at] = key + between + new.encode(errors="replace")
    return lines, f"{key.decode(errors='replace')} {new[:60]!r}"
