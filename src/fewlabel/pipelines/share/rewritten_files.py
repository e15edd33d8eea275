"""Files of artifacts with numbers in place of names: JSON, tables, weights."""

from __future__ import annotations

import io
import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from fewlabel.core.errors import ArtifactError, Fault
from fewlabel.core.output_paths import as_file_name
from fewlabel.pipelines.share.identifying_names import Names

#: In place of what a copy does not hold.
LEFT_OUT = "left out"
#: Keys whose values, or what is below them, are ids of scans or of subjects.
_CASES = frozenset({"id", "case", "cases"})
_SUBJECTS = frozenset(
    {
        *("subject", "subjects", "labelled_subjects", "validation_subjects", "image_subjects"),
        *("parts", "draws", "lowest", "left_out", "unseen"),
    }
)
#: Keys whose own keys are such ids.
_BY_CASE, _BY_SUBJECT = frozenset({"masks"}), frozenset({"subjects", "before", "after", "unseen"})
#: What is told in words of the data, and what says where they were.
_DROPPED = frozenset({"notes", "warnings", "source", "asked", "words", "command"})
#: What the program goes by.
_KEPT = frozenset({"architecture", "orient", "normalise", "regime", "method", "selection", "kind", "versions"})


@dataclass(frozen=True)
class Rewriter:
    """Puts numbers in place of names, and the hashes of a copy in place of those of the original.

    Attributes:
        names: What is replaced by what.
        hashes: Content hash of an artifact → that of its copy; grows as artifacts are copied.
    """

    names: Names
    hashes: dict[str, str] = field(default_factory=dict)

    def json(self, value: Any, context: str = "", below: Mapping[str, str] | None = None) -> Any:
        """A JSON value.

        Args:
            value: The value.
            context: The key it lies under.
            below: What ids are replaced by there; None where there are none.
        """
        if context in _KEPT:
            return value
        if context in _CASES or context in _SUBJECTS:
            below = self.names.cases if context in _CASES else self.names.subjects
        elif context == "classes":
            below = None
        if isinstance(value, Mapping):
            return self._mapping(value, context, below)
        if isinstance(value, list):
            if context == "columns" and all(isinstance(one, Mapping) for one in value):
                return [self._column(one) for one in value]
            return [self.json(one, context, below) for one in value]
        return self._word(value, context, below) if isinstance(value, str) else value

    def _mapping(self, value: Mapping[str, Any], context: str, below: Mapping[str, str] | None) -> dict[str, Any]:
        keys = {
            **(self.names.cases if context in _BY_CASE else {}),
            **(self.names.subjects if context in _BY_SUBJECT else {}),
            **(self.names.columns if context == "meta_labels" else {}),
            **(self.names.datasets if context == "merged" else {}),
        }
        return {
            keys.get(key, self.text(key)): self._dropped(inner) if key in _DROPPED else self.json(inner, key, below)
            for key, inner in value.items()
        }

    def _word(self, value: str, context: str, below: Mapping[str, str] | None) -> str:
        if context in ("meta_labels", "labels"):
            return self.names.columns.get(value, self.text(value))
        if context in ("dataset", "data_set"):
            return "+".join(self.names.datasets.get(name, self.text(name)) for name in value.split("+"))
        return (below or {}).get(value) or self.text(value)

    def text(self, value: str) -> str:
        """A text without the words that tell, and with the hashes of the copy."""
        if value in self.hashes:
            return self.hashes[value]
        return value if self._words is None else self._words.sub(self._instead, value)

    def settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Settings of a stage: paths out of the run, and what a reader was told of files, are left out."""
        made: dict[str, Any] = {}
        for key, value in values.items():
            if key == "identity":
                made[key] = self.settings(value)
            elif isinstance(value, str) and (value.startswith("..") or "/" in value):
                made[key] = value if PurePosixPath(value).parts[:2] in _WITHIN else LEFT_OUT
            elif key == "reader" and isinstance(value, Mapping):
                made[key] = value.get("name", "auto")
            elif key == "others":
                made[key] = [LEFT_OUT for _ in value]
            else:
                made[key] = self.json(value, key)
        return made

    def path(self, name: str) -> str:
        """Name of a file in an artifact: what left a patient out is called by that patient."""
        parts = []
        for part in PurePosixPath(name).parts:
            owner = next((i for i in self.names.subjects if part == f"left-out-{as_file_name(i)}"), None)
            parts.append(part if owner is None else f"left-out-{as_file_name(self.names.subjects[owner])}")
        return "/".join(parts)

    def table(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table with columns of ids; of a catalog nothing else is kept."""
        made = table.copy()
        if "images" in made:
            made = made[["case", "subject", "part"]]
            made["images"] = pd.Series([[] for _ in range(len(made))], index=made.index, dtype=object)
            made["label"] = None
        for column, names in (("case", self.names.cases), ("subject", self.names.subjects)):
            if column in made:
                made[column] = made[column].astype(str).map(names)
        if "phase" in made:
            made["phase"] = made["phase"].map(lambda value: self.text(value) if isinstance(value, str) else value)
        metas = {f"meta_{name}": f"meta_{number}" for name, number in self.names.columns.items()}
        return made.rename(columns=metas)

    def file(self, name: str, content: bytes, where: Path) -> bytes:
        """The content of a file in an artifact.

        Args:
            name: Of the file.
            content: Of the file.
            where: For messages.

        Raises:
            ArtifactError: If it is of a kind that nobody here knows.
        """
        kinds = {
            "cases.json": lambda: _dumped([self._case(row) for row in json.loads(content)]),
            ".json": lambda: _dumped(self.json(json.loads(content))),
            ".jsonl": lambda: "".join(map(self._row, content.decode().splitlines())).encode(),
            ".parquet": lambda: self.table(pd.read_parquet(io.BytesIO(content))).to_parquet(index=False),
            # Numbers stay as they are written.
            ".csv": lambda: (
                self.table(pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False))
                .to_csv(index=False)
                .encode()
            ),
            ".safetensors": lambda: _without_metadata(content),
        }
        kind = next((kind for kind in kinds if name.endswith(kind)), None)
        if kind is None:
            fault = Fault("is a file of a kind that cannot be shared", str(where), "Take it out, or report this")
            raise ArtifactError("The run cannot be shared:", [fault])
        return bytes(kinds[kind]())

    def _row(self, line: str) -> str:
        """A row of a record."""
        return json.dumps({self._measure(key): value for key, value in self.json(json.loads(line)).items()}) + "\n"

    def _case(self, row: Mapping[str, Any]) -> dict[str, Any]:
        number = self.names.cases[row["id"]]
        return {
            **row,
            "id": number,
            "subject": self.names.subjects[row["subject"]],
            "images": [f"{LEFT_OUT}/{number}" for _ in row["images"]],
            "label": None if row["label"] is None else f"{LEFT_OUT}/label/{number}",
        }

    def _column(self, column: Mapping[str, Any]) -> dict[str, Any]:
        """A column of metadata: how many values there are, and not which."""
        made = {"name": self.names.columns.get(column["name"], column["name"]), "kind": column["kind"], "source": ""}
        if "values" in column:
            made["values"] = [f"value-{number}" for number in range(1, len(column["values"]) + 1)]
        if "edges" in column:
            made["edges"] = [float(number) for number in range(1, len(column["edges"]) + 1)]
        return made

    def _measure(self, key: str) -> str:
        """A key of a record, such as ``cosine/patient|phase``."""
        head, slash, tail = key.partition("/")
        return f"{head}{slash}{'|'.join(self.names.columns.get(part, part) for part in tail.split('|'))}"

    def _dropped(self, value: Any) -> Any:
        return type(value)() if isinstance(value, Mapping | list | str) else None

    @cached_property
    def _words(self) -> re.Pattern[str] | None:
        words = sorted(self.names.words, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, words))) if words else None

    def _instead(self, match: re.Match[str]) -> str:
        word = match[0]
        known = (self.names.cases, self.names.subjects, self.names.columns, self.names.datasets)
        return next((names[word] for names in known if word in names), "…")


#: How paths within a run begin, as an artifact of it has them.
_WITHIN = {("..", name) for name in ("prepared", "encoder", "segmenter", "segmenter-control", "scores")}


def _dumped(value: Any) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def _without_metadata(content: bytes) -> bytes:
    """A safetensors file with nothing in its header but the tensors'."""
    (length,) = struct.unpack("<Q", content[:8])
    header = {key: value for key, value in json.loads(content[8 : 8 + length]).items() if key != "__metadata__"}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + content[8 + length :]
