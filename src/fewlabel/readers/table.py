"""A table of scans: one row per scan, slice or frame, with free metadata columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from fewlabel.core.errors import DataError, Fault
from fewlabel.core.settings.base import setting
from fewlabel.data.catalog import Case, Catalog, Column, Value
from fewlabel.data.column_types import infer_columns
from fewlabel.data.io.catalog_paths import is_file_path
from fewlabel.data.io.dicom.address import dicom_roots
from fewlabel.data.io.dicom.data_set_index import keep_beside_the_data
from fewlabel.data.io.file_names import is_scan
from fewlabel.data.io.volume_reading import read_geometry
from fewlabel.data.subjects_from_names import guess_subjects
from fewlabel.readers.base import Match, Reader
from fewlabel.readers.cine_frames import FourthAxis, with_frames
from fewlabel.readers.column_names import meanings
from fewlabel.readers.default_channel_names import channel_names
from fewlabel.readers.labels_json import LABELS, read_label_names
from fewlabel.readers.listing import scans_below
from fewlabel.readers.pairing import pair_files
from fewlabel.readers.slice_number_detection import patients_by_case
from fewlabel.readers.table_cell_paths import CellFiles
from fewlabel.readers.table_file import EXCEL_SUFFIXES, TABLE_SUFFIXES, can_read_excel, read_table
from fewlabel.readers.table_frames import with_named_frames
from fewlabel.readers.table_picture_stacks import with_stacks
from fewlabel.readers.table_row_reading import scan_rows
from fewlabel.readers.table_scan_rows import ScanRow, case_ids

_PEEKED = 20


class TableReader(Reader):
    """A CSV, TSV, Excel or Parquet table, or a folder with one that has a column of images.

    Columns: ``image`` (path relative to the table; several channels as ``image``, ``image_2``, … or separated by
    ``;``), and where wanted ``label`` (empty: unlabelled; several files separated by ``;`` are one mask per structure,
    whose names become those of the classes), ``subject``, ``case`` (a name; else the file's), ``part``
    (``validation`` and ``test`` keep the scan for that; ``train`` or empty) and any metadata. These names are known in
    any case, and so are their usual synonyms, such as ``filename`` and ``path``, ``mask`` and ``segmentation``,
    ``patient_id`` and ``participant_id``; what was taken for what is noted.

    Rows with a number in ``slice`` (or ``z``, ``instance``) that name pictures of one scan are its slices, in the order
    of the numbers; ``spacing_z`` and ``pixel_spacing`` give voxel sizes in mm. A row with a number in ``frame`` is that
    frame of a 4D image; without it every frame is a scan.

    Kinds of metadata columns, and what counts as a missing value in all of them, follow
    :func:`fewlabel.data.column_types.infer_columns`. Without a ``subject`` the rule of
    :func:`fewlabel.data.subjects_from_names.guess_subjects` finds siblings by case name. Encoding and
    separator are recognised. Excel workbooks need the extra ``excel``. A file ``labels.json``
    beside the table may name the label values, ``{"1": "left ventricle"}``, or the colours of masks,
    ``{"#ff0000": "left ventricle"}``; a value called ``ignore`` is left out of training and scoring.
    """

    class Config(Reader.Config):
        """Settings of the reader."""

        name: str = "table"
        fourth_axis: FourthAxis = setting(
            "auto", "What the fourth axis of an image holds: time, so that each frame is a scan, channels, or auto."
        )

    config: Config
    summary: ClassVar[str] = "a CSV, TSV, Excel or Parquet table with columns image, label, subject and any metadata"

    @classmethod
    def match(cls, root: Path) -> Match:
        """By a column of images in the first rows."""
        if root.is_file():
            return _match_file(root)
        tables = _tables(root)
        fitting = {path: column for path in tables if (column := _image_column(path))}
        if len(fitting) == 1:
            ((path, column),) = fitting.items()
            masks = 0 if "label" in _known_columns(path) else pair_files(scans_below(root)).labelled
            if masks:
                reason = f"{path.name} names images in its column {column}, but not the masks of {masks} of them"
                return Match(0.45, (reason,))
            # Under another name it could be a list of files that belongs to another layout.
            return Match(0.85 if column.lower() == "image" else 0.7, (f"{path.name} has a column {column}",))
        if fitting:
            return Match(0.4, (f"several tables: {', '.join(path.name for path in fitting)}; give one of them",))
        workbooks = [path for path in tables if _unreadable(path)]
        if len(workbooks) == 1:
            return Match(0.5, (f"{workbooks[0].name} is an Excel workbook",))
        return _no_column(tables[0]) if tables else Match(0.0, ("no .csv, .tsv, .xlsx or .parquet table",))

    def settle(self, catalog: Catalog) -> Catalog:
        """Of series of DICOM in the table, the key and the table of pseudonyms are moved beside their data."""
        for root in dicom_roots(path for case in catalog.cases for path in case.images):
            keep_beside_the_data(root)
        return catalog

    def collect(self, root: Path) -> Catalog:
        """One case per row, stack of slices or frame."""
        path = _table_of(root)
        faults: list[Fault] = []
        notes: list[str] = []
        table = read_table(path, faults, notes)
        if not table.columns:
            raise DataError("The table cannot be read:", faults or [Fault(f"{path} is empty")])
        if not table.rows:
            faults.append(Fault(f"{path} has no rows, but needs one per scan"))
        labels = read_label_names(path.with_name(LABELS), faults)
        names = dict(labels.names)
        files = CellFiles(path, faults, notes)
        meaning, rows = scan_rows(path, table, files, labels, names, faults, notes)
        files.say()
        rows = with_stacks(rows, meaning.get("slice", ""), _slices, path, faults, notes)
        rows = with_named_frames(rows, meaning.get("frame", ""), path, faults, notes)
        if "label" not in meaning:
            notes.extend(_masks_beside(rows, path))
        cases, columns = _cases(rows, path, notes)
        remedy = "reader.name=table reader.fourth_axis=time or channels says otherwise, a column frame whose a mask is"
        expanded = with_frames(cases, fourth_axis=self.config.fourth_axis, remedy=remedy)
        return Catalog(
            name=path.stem,
            root=path.parent,
            reader="table",
            cases=tuple(sorted(expanded.cases, key=lambda case: case.id)),
            columns=(*columns, *expanded.columns),
            label_names=names,
            channels=_channels(expanded.cases),
            notes=(*notes, *expanded.notes),
            faults=(*faults, *expanded.faults),
        )


def _match_file(path: Path) -> Match:
    if path.suffix.lower() in {".xls", ".ods"}:
        return Match(0.3, (f"{path.name} is a workbook of another kind: save it as .xlsx or .csv",))
    if path.suffix.lower() not in TABLE_SUFFIXES:
        return Match(0.0, ("not a .csv, .tsv, .xlsx or .parquet file",))
    if _unreadable(path):
        return Match(1.0, ("an Excel workbook",))
    return Match(1.0, ("a table with a column image",)) if _image_column(path) else _no_column(path)


def _cases(rows: Sequence[ScanRow], path: Path, notes: list[str]) -> tuple[list[Case], tuple[Column, ...]]:
    ids = case_ids(rows)
    sources = [row.source or name for row, name in zip(rows, ids, strict=True)]
    nameless = {source: row.images[0] for source, row in zip(sources, rows, strict=True) if not row.subject}
    subjects = {**guess_subjects(list(dict.fromkeys(sources))), **patients_by_case(nameless)}
    names = list(dict.fromkeys(name for row in rows for name in row.metadata))
    columns, typed = infer_columns(
        {name: [row.metadata.get(name, "") for row in rows] for name in names}, path.name, notes
    )
    without = sum(not row.subject for row in rows)
    if 0 < without < len(rows):
        notes.append(f"{path.name}: {without} scans have no subject, so the names of their files say who they show")
    cases = []
    for index, row in enumerate(rows):
        metadata: dict[str, Value] = {name: values[index] for name, values in typed.items()}
        subject = row.subject or subjects[sources[index]]
        cases.append(Case(ids[index], subject, row.images, row.label, metadata, row.part))
    return cases, columns


def _channels(cases: Sequence[Case]) -> tuple[str, ...]:
    most = max((len(case.images) for case in cases), default=1)
    return channel_names(cases) if most == 1 else tuple(f"channel {index}" for index in range(most))


def _slices(path: Path) -> int:
    """Slices of an image; 1 where it cannot be read, which is for others to name."""
    try:
        return read_geometry(path).shape[0]
    except DataError:
        return 1


def _tables(root: Path) -> list[Path]:
    files = (path for path in root.iterdir() if path.is_file() and not path.name.startswith((".", "~$")))
    return sorted(path for path in files if path.suffix.lower() in TABLE_SUFFIXES)


def _table_of(root: Path) -> Path:
    if root.is_file():
        return root
    tables = _tables(root)
    fitting = [path for path in tables if _image_column(path)] or [path for path in tables if _unreadable(path)]
    if len(fitting) != 1:
        names = ", ".join(path.name for path in fitting) or "none"
        problem = f"{root} must hold one table with a column image, but holds {names}"
        raise DataError("The table cannot be read:", [Fault(problem, remedy="Give the table file itself")])
    return fitting[0]


def _unreadable(path: Path) -> bool:
    """Whether a table is a workbook that nothing here can read."""
    return path.suffix.lower() in EXCEL_SUFFIXES and not can_read_excel()


def _no_column(path: Path) -> Match:
    return Match(0.2, (f"{path.name} has no column image",))


def _image_column(path: Path) -> str:
    """The column that names the images; empty without one."""
    return _known_columns(path).get("image", "")


def _known_columns(path: Path) -> dict[str, str]:
    """Meaning → column, by the first rows; empty where the table cannot be read."""
    if _unreadable(path):
        return {}
    table = read_table(path, [], [], most=_PEEKED)
    cells = {column: [row[column] for _, row in table.rows] for column in table.columns}
    return meanings(cells, "", [], [], CellFiles(path, [], []).is_file).known


def _masks_beside(rows: Sequence[ScanRow], path: Path) -> list[str]:
    """Masks by name in the folders of the images, where no column names masks."""
    images = {image for row in rows for image in row.images if is_file_path(image)}
    masks = {other for folder in {image.parent for image in images} for other in folder.iterdir() if is_scan(other)}
    masked = sum(bool(scan.masks) for scan in pair_files(sorted(images | masks)).scans)
    if not masked:
        return []
    return [
        f"{path.name}: no column names masks, but {masked} images have one beside them by its name: they are read as "
        "scans without a label. A column label names masks"
    ]
