"""What earlier calls of ``predict`` left where this one writes: masks that stay, and masks that are in the way."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from fewlabel.core.artifact.files import append_line, file_hash, read_json
from fewlabel.core.artifact.own_files import PREDICT_JOURNAL, PREDICT_REPORT
from fewlabel.core.errors import ArtifactError
from fewlabel.core.named_files import file_is_there
from fewlabel.core.output_paths import leads_out
from fewlabel.core.printable import is_utf8
from fewlabel.data.io.catalog_paths import files_behind
from fewlabel.stages.predict.mask_names import Scan
from fewlabel.stages.predict.output_destination import Destination

TABLE = "predictions.csv"
#: What its rows are told apart by.
_COLUMNS = frozenset({"input", "output", "status"})


@dataclass(frozen=True)
class MaskRecord:
    """How a mask was made.

    Attributes:
        model: Content hash of the segmenter.
        settings: Those that change the mask.
        scan: Hash of the files of its scan.
        beside: What was written beside the mask: ``probabilities``, ``uncertainty``.
        files: The mask and what lies beside it → SHA-256; paths below the output folder.
    """

    model: str
    settings: Mapping[str, Any]
    scan: str
    beside: Sequence[str] = ()
    files: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, values: Any) -> MaskRecord | None:
        """A record as JSON has it; None if it is none."""
        try:
            record = cls(**values)
        except TypeError:
            return None
        texts = (record.model, record.scan)
        shaped = (
            isinstance(record.settings, dict) and isinstance(record.beside, list) and isinstance(record.files, dict)
        )
        if not shaped or not all(isinstance(text, str) for text in (*texts, *record.beside, *record.files.values())):
            return None
        # What lies elsewhere is not of this folder.
        return None if any(leads_out(name) for name in record.files) else record

    def unlike(self, other: MaskRecord) -> str:
        """In what a mask of this record is not the mask of another, as the end of a sentence; empty if they are one."""
        if self.scan != other.scan:
            return "was made before its scan changed"
        if self.model != other.model:
            return f"was made by another model, {self.model[:12]}"
        differing = [key for key in other.settings if self.settings.get(key) != other.settings[key]]
        return f"was made with another {', '.join(differing)}" if differing else ""


def scan_hash(scan: Scan) -> str:
    """Hash of the files of a scan, and of the name of an array where a file holds several; empty if one is closed."""
    try:
        content = [[path.name, *map(file_hash, files_behind(path))] for path in scan.images]
    except OSError:
        return ""
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


class Earlier:
    """What lies at a destination.

    Attributes:
        folder: The folder of the masks.
        records: Mask, relative to the folder → how it was made.
        begun: Masks that a call had begun when it was killed.
        table: The rows about them, those of the killed call among them.
        home: From where the table names scans; None for their paths as they were given.
    """

    def __init__(self, destination: Destination, *, of_store: bool = False) -> None:
        self.folder = destination.folder
        # Of a prepared folder nobody gave a path, and what lies beside it moves with it.
        self.home = destination.folder if of_store else None
        self._journal = destination.beside(PREDICT_JOURNAL)
        lines = list(_lines(self._journal))
        self.begun: set[str] = set()
        for line in lines:
            if "begun" in line:
                self.begun.add(str(line["begun"]))
            else:
                self.begun.discard(str(line["output"]))
        self.records: dict[str, MaskRecord] = {}
        for output, values in (*_recorded(destination.beside(PREDICT_REPORT)), *_finished(lines)):
            if (record := MaskRecord.parse(values)) is not None:
                self.records[output] = record
        rows = [row for line in lines for row in line.get("rows", ())]
        self.table = with_rows(_table(destination.beside(TABLE)), pd.DataFrame(rows))

    def kept(self, output: str, wanted: MaskRecord, standing: Sequence[Path], in_the_way: dict[Path, str]) -> bool:
        """Whether a mask is there already as it would be made now.

        Args:
            output: The mask, relative to the folder.
            wanted: How it would be made.
            standing: What is there of the files that would be written.
            in_the_way: Takes those that must not be replaced → why, as the end of a sentence.
        """
        record = self.records.get(output)
        if output in self.begun or not wanted.scan:
            # Of a scan that cannot be read nothing is written.
            return False
        if record is None:
            in_the_way.update(dict.fromkeys(standing, "is there already"))
            return False
        recorded = (self.folder / name for name in record.files)
        there = {*standing, *(path for path in recorded if file_is_there(path))}
        names = {path: path.relative_to(self.folder).as_posix() for path in sorted(there)}
        for path, name in names.items():
            if name not in record.files:
                in_the_way[path] = "is there already"
            elif file_hash(path) != record.files[name]:
                in_the_way[path] = "has changed since it was written"
            elif why := record.unlike(wanted):
                in_the_way[path] = why
        whole = set(names.values()) >= set(record.files) and set(wanted.beside) <= set(record.beside)
        return whole and not in_the_way.keys() & names.keys() and bool((self.table["output"] == output).any())

    def begin(self, scan: Scan) -> None:
        """Note that the mask of a scan is about to be written."""
        self._append({"begun": scan.output.as_posix()})

    def finish(self, scan: Scan, record: MaskRecord, files: Sequence[Path], rows: Sequence[Mapping[str, Any]]) -> None:
        """Note that it is written.

        Args:
            scan: The scan.
            record: How its mask was made.
            files: What was written.
            rows: Of the table.
        """
        output = scan.output.as_posix()
        record = replace(record, files={path.relative_to(self.folder).as_posix(): file_hash(path) for path in files})
        self._append({"output": output, **asdict(record), "rows": list(rows)})
        self.records[output] = record

    def close(self) -> None:
        """Forget the notes, once all is in table, report and manifest."""
        self._journal.unlink(missing_ok=True)

    def _append(self, line: Mapping[str, Any]) -> None:
        self._journal.parent.mkdir(parents=True, exist_ok=True)
        # A line that a kill cut short ends here.
        append_line(self._journal, f"\n{json.dumps(line)}", sync=True)


def with_rows(before: pd.DataFrame, rows: pd.DataFrame, tried: Iterable[str] = ()) -> pd.DataFrame:
    """Rows of earlier calls that are still true, then others.

    A mask that was made again, and a failure of a scan that was tried again, have new rows. The row of a mask that is
    still there stays where its scan failed this time.

    Args:
        before: The earlier rows.
        rows: The new ones.
        tried: The ``input`` of all scans that were tried, or had their masks already.
    """
    if len(before):
        made = set(rows.loc[rows["status"] == "ok", "output"]) if len(rows) else set()
        retried = (before["status"] != "ok") & before["input"].isin({*tried, *(rows["input"] if len(rows) else ())})
        before = before[~before["output"].isin(made) & ~retried]
    if not len(before) or not len(rows):
        return rows if len(rows) else before
    return pd.concat([before, rows])


def _table(path: Path) -> pd.DataFrame:
    """The rows of a table; none where it is not there or is no longer one of predictions."""
    try:
        table = pd.read_csv(io.BytesIO(path.read_bytes()))
    except (OSError, ValueError):
        table = pd.DataFrame()
    return table if set(table) >= _COLUMNS else pd.DataFrame(columns=sorted(_COLUMNS))


def _recorded(report: Path) -> Iterator[tuple[str, Any]]:
    try:
        values = read_json(report)
    except ArtifactError:
        return
    masks = values.get("masks") if isinstance(values, dict) else None
    if isinstance(masks, dict):
        yield from masks.items()


def _finished(lines: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, Any]]:
    for line in lines:
        if "begun" not in line:
            yield str(line["output"]), {key: value for key, value in line.items() if key not in {"output", "rows"}}


def _lines(journal: Path) -> Iterator[dict[str, Any]]:
    """The notes of a call that was killed; a line that was cut short is none."""
    try:
        text = journal.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return
    for line in text.splitlines():
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and _is_text(value) and (isinstance(value.get("begun"), str) or _is_finish(value)):
            yield value


def _is_text(note: Mapping[str, Any]) -> bool:
    """Whether all of a note can be written: JSON has escapes for halves of characters, which no table takes."""
    return is_utf8(json.dumps(note, ensure_ascii=False))


def _is_finish(note: Mapping[str, Any]) -> bool:
    """Whether a note says that a mask is written, with its rows of the table."""
    rows = note.get("rows")
    return (
        "begun" not in note
        and isinstance(note.get("output"), str)
        and isinstance(rows, list)
        and all(isinstance(row, dict) and all(isinstance(row.get(key), str) for key in _COLUMNS) for row in rows)
    )
