"""Faults planted in data sets of many layouts, and whether one ``check`` of each names them all.

    python benchmarks/planted_faults.py [LAYOUT ...] [--missed] [--keep FOLDER]

All faults of a layout are planted together in as few data sets as can hold them, and ``check`` looks at each once. A
fault is named if one message holds its file, row or folder, its cause, and a remedy. Prints a line for each fault
(``--missed``: only those that are not named) and the sums; messages that belong to no planted fault are counted too.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from fewlabel.core.errors import Fault
from fewlabel.stages.prepare import PrepareSettings, check
from planting.arrays import spoilt_h5, spoilt_pictures
from planting.folders import spoilt_acdc, spoilt_bids, spoilt_decathlon, spoilt_nnunet
from planting.planted import CRASHED, NAMED, DataSet, Outcome, judge
from planting.tables import spoilt_files
from planting.texts import empty_masks, spoilt_columns, spoilt_text

LAYOUTS: dict[str, Callable[[Path], DataSet]] = {
    "files": spoilt_files,
    "text": spoilt_text,
    "columns": spoilt_columns,
    "empty-masks": empty_masks,
    "nnunet": spoilt_nnunet,
    "msd": spoilt_decathlon,
    "acdc": spoilt_acdc,
    "bids": spoilt_bids,
    "h5": spoilt_h5,
    "pictures": spoilt_pictures,
}


def outcomes_of(data: DataSet) -> tuple[list[Outcome], list[Fault]]:
    """What one look at a data set says of each planted fault, and all that it said."""
    try:
        # In a process of its own: a library that aborts takes no more than that with it.
        with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
            faults, notes = pool.submit(_look_at, data.path).result()
    except Exception as error:  # noqa: BLE001  # a crash is a result
        why = f"{type(error).__name__}: {error}"
        return [Outcome(planted, CRASHED, why) for planted in data.planted], []
    return [judge(planted, faults, notes) for planted in data.planted], faults


def _look_at(path: Path) -> tuple[list[Fault], list[str]]:
    """Faults, and all other lines."""
    report = check(PrepareSettings(data=path, out=path.parent / "unused", workers=1))
    return list(report.faults), [*(text for _, text in report.rows), *report.odd]


def unasked(data: DataSet, faults: Sequence[Fault]) -> list[Fault]:
    """Messages that hold the place of no planted fault."""
    return [fault for fault in faults if not any(planted.place in str(fault) for planted in data.planted)]


def main(words: Sequence[str] | None = None) -> int:
    """Plant, look, print; 0 if every fault is named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("layouts", nargs="*", metavar="LAYOUT", help=f"of {', '.join(LAYOUTS)}; all by default")
    parser.add_argument("--missed", action="store_true", help="print only what is not named")
    parser.add_argument("--keep", type=Path, help="make the data sets here, and leave them")
    given = parser.parse_args(words)
    if unknown := set(given.layouts) - set(LAYOUTS):
        parser.error(f"no such layout: {', '.join(sorted(unknown))}")
    total: Counter[str] = Counter()
    kinds: set[str] = set()
    with tempfile.TemporaryDirectory() as folder:
        for name in given.layouts or LAYOUTS:
            data = LAYOUTS[name]((given.keep or Path(folder)) / name)
            outcomes, faults = outcomes_of(data)
            found = Counter(outcome.verdict for outcome in outcomes)
            total += found
            kinds |= {outcome.planted.kind for outcome in outcomes}
            for outcome in outcomes:
                if not given.missed or outcome.verdict != NAMED:
                    why = f"  ({outcome.why[:200]})" if outcome.why else ""
                    print(f"{outcome.verdict:8}{name:12}{outcome.planted.kind}{why}")
            other = unasked(data, faults)
            for fault in other:
                print(f"{'other':8}{name:12}{str(fault)[:200]}")
            print(f"{name}: {found[NAMED]} of {len(outcomes)} named, {len(other)} other messages")
    print(
        f"{sum(total.values())} faults of {len(kinds)} kinds planted: {total[NAMED]} named, {total['missed']} missed, "
        f"{total[CRASHED]} crashed"
    )
    return 0 if total[NAMED] == sum(total.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
