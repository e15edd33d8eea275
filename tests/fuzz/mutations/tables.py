"""Tables and lists: cells, columns, rows, delimiters, encodings, parts of workbooks."""

from __future__ import annotations

import io
import zipfile
from random import Random

from fuzz.mutations import values
from fuzz.mutations.arrays import zipped

_CODES = ("utf-16", "utf-8-sig", "latin-1", "utf-32", "utf-16-be")


def delimited(content: bytes, rng: Random) -> tuple[bytes, str]:
    """A cell, a column, a row, or how all of it is written."""
    text = content.decode()
    sign = "\t" if "\t" in text else ","
    rows = [line.split(sign) for line in text.splitlines()]
    done = rng.randrange(12)
    row = rng.randrange(len(rows))
    column = rng.randrange(len(rows[row]))
    if done <= 3:
        rows[row][column] = values.text(rng) if rng.random() < 0.6 else str(values.number(rng))
        what = f"cell {row}, {column}: {rows[row][column][:60]!r}"
    elif done == 4:
        rows[0][column % len(rows[0])] = rng.choice(rows[0])
        what = "two columns of one name"
    elif done == 5:
        rows = [[cell for at, cell in enumerate(each) if at != column] for each in rows]
        what = f"without column {column}"
    elif done == 6:
        rows.insert(row, list(rows[row]))
        what = f"row {row} twice"
    elif done == 7:
        rows[row].extend([values.text(rng)] * rng.choice((1, 3, 200)))
        what = f"row {row} too long"
    elif done == 8:
        del rows[row]
        what = f"without row {row}"
    elif done == 9:
        other = rng.choice((";", "|", "\t", " ", ","))
        return other.join(rows[0]).encode() + b"\n" + text.partition("\n")[2].encode(), f"a header split by {other!r}"
    elif done == 10:
        code = rng.choice(_CODES)
        return text.encode(code, errors="replace"), f"in {code}"
    else:
        rows[row][column] = f'"{rows[row][column]}'
        what = "a quotation mark that nothing ends"
    return "\n".join(sign.join(each) for each in rows).encode(errors="surrogatepass") + b"\n", what


def lines(content: bytes, rng: Random) -> tuple[bytes, str]:
    """A line of a list or of keys and values."""
    rows = content.decode().split("\n")
    at = rng.randrange(len(rows))
    done = rng.randrange(6)
    if done <= 1:
        key, colon, _ = rows[at].partition(":")
        given = values.text(rng) if rng.random() < 0.6 else str(values.number(rng))
        rows[at] = f"{key}: {given}" if colon else given
        what = f"line {at}: {given[:60]!r}"
    elif done == 2:
        rows.insert(at, rows[at])
        what = f"line {at} twice"
    elif done == 3:
        del rows[at]
        what = f"without line {at}"
    elif done == 4:
        code = rng.choice(_CODES)
        return "\n".join(rows).encode(code, errors="replace"), f"in {code}"
    else:
        rows[at] += values.text(rng)
        what = f"more in line {at}"
    return "\n".join(rows).encode(errors="surrogatepass"), what


def workbook(content: bytes, rng: Random) -> tuple[bytes, str]:
    """A part of an Excel workbook: its XML, its name, gone; or a cell."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = rng.randrange(len(members))
    sheet = next((n for n, (name, _) in enumerate(members) if "sheet1.xml" in name), at)
    name, data = members[at]
    done = rng.randrange(7)
    if done <= 2:
        name, data = members[sheet]
        pieces = data.split(b"<v>")
        if len(pieces) > 1:
            place = rng.randrange(1, len(pieces))
            given = (
                str(values.number(rng)).encode() if rng.random() < 0.7 else values.text(rng).encode(errors="replace")
            )
            pieces[place] = given.replace(b"<", b"&lt;") + pieces[place][pieces[place].find(b"</v>") :]
        members[sheet] = name, b"<v>".join(pieces)
        what = "a cell"
    elif done == 3:
        del members[at]
        what = f"without {name}"
    elif done == 4:
        words = data.split(b'"')
        if len(words) > 2:
            words[1 + 2 * rng.randrange(len(words) // 2)] = values.text(rng).encode(errors="replace")
        members[at] = name, b'"'.join(words)
        what = f"an attribute in {name}"
    elif done == 5:
        bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
        members[at] = name, data.replace(b"?>", b"?>" + bomb, 1)
        what = f"entities in {name}"
    else:
        from fuzz.mutations.blind import blind

        changed, what = blind(data, rng)
        members[at] = name, changed
        what = f"{name}: {what}"
    return zipped(members, zipfile.ZIP_DEFLATED), what


def parquet(content: bytes, rng: Random) -> tuple[bytes, str]:
    """A column gone, of another name or type, or with odd values; fewer rows."""
    import pandas as pd

    table = pd.read_parquet(io.BytesIO(content))
    column = rng.choice(list(table))
    done = rng.randrange(6)
    if done == 0:
        table = table.drop(columns=column)
        what = f"without {column}"
    elif done == 1:
        table = table.rename(columns={column: values.text(rng).encode(errors="replace").decode()})
        what = f"{column} named otherwise"
    elif done == 2:
        table[column] = [rng.choice((None, "x", "-1", "1e9")) for _ in range(len(table))]
        what = f"{column} of text"
    elif done == 3:
        table[column] = [float(rng.choice(values.REAL)) for _ in range(len(table))]
        what = f"{column} of numbers"
    elif done == 4:
        table = table.iloc[: rng.randrange(len(table))]
        what = f"{len(table)} rows"
    else:
        table = pd.concat([table, table.iloc[: rng.randrange(1, 3)]])
        what = "rows twice"
    stream = io.BytesIO()
    table.to_parquet(stream)
    return stream.getvalue(), what
