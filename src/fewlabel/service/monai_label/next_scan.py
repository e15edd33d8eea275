"""The scan to annotate next: the first of those that ``suggest`` ranks which nobody has annotated since."""

from __future__ import annotations

import csv
import threading
from pathlib import Path

from fewlabel.core.errors import DataError
from fewlabel.core.progress import silence
from fewlabel.data.io.catalog_paths import is_there
from fewlabel.engine.runtime import Device
from fewlabel.service.monai_label.run_scans import FINAL, RunScans
from fewlabel.stages import suggest

#: Strategy of the protocol → what it does, in words.
STRATEGIES = {
    "suggest": "coverage of all scans, and disagreement of the networks where there is more than one",
    "coverage": "scans that most others are near to",
    "disagreement": "scans that the networks disagree on",
    "random": "any scan that nobody annotated",
}
#: Scans that are ranked at once: networks are asked of all scans each time.
RANKED = 10


class NextScan:
    """Ranks scans, and ranks them anew once another network is in use or all of the last ones are annotated.

    Args:
        scans: Of the run.
        device: Where to compute.
    """

    def __init__(self, scans: RunScans, device: Device) -> None:
        self.scans, self.device = scans, device
        self._ranked: dict[tuple[str, str], list[str]] = {}
        self._alone = threading.Lock()

    def choose(self, strategy: str, folder: Path) -> str | None:
        """Id of the scan; None where all are annotated, but for those whose files are gone.

        Args:
            strategy: One of :data:`STRATEGIES`.
            folder: For the table that is asked of ``suggest``.

        Raises:
            KeyError: If there is no such strategy.
            FewlabelError: As ``suggest`` does.
        """
        if strategy not in STRATEGIES:
            raise KeyError(f"There is no strategy {strategy!r}. Choose from {', '.join(STRATEGIES)}")
        with self._alone:
            key = (strategy, self.scans.state().segmenter)
            scan = self._first(self._ranked.get(key, []))
            if scan is None:
                self._ranked = {key: self._rank(strategy, folder)}
                scan = self._first(self._ranked[key])
            return scan

    def _first(self, ranked: list[str]) -> str | None:
        masks, gone = self.scans.masks(), self._gone()
        return next((scan for scan in ranked if FINAL not in masks[scan] and scan not in gone), None)

    def _gone(self) -> set[str]:
        """Scans that nobody could open: a file of them is no longer there."""
        return {case.id for case in self.scans.state().store.cases if not all(map(is_there, map(Path, case.images)))}

    def _rank(self, strategy: str, folder: Path) -> list[str]:
        rule = {"suggest": "auto", "random": "coverage"}.get(strategy, strategy)
        table = folder / "suggestions.csv"
        count = RANKED + len(self._gone())
        given = {"run": self.scans.run, "out": table, "count": count, "rule": rule, "device": self.device}
        # The control of another seed each time: who asks for any scan wants another one than the last time.
        given |= {"seed": len(self.scans.masks()) + sum(FINAL in kinds for kinds in self.scans.masks().values())}
        try:
            with silence():
                suggest.run(suggest.SETTINGS.parse(given))
        except DataError as error:
            if "every training scan is annotated" in str(error):
                return []
            raise
        choice = "random" if strategy == "random" else "suggested"
        with table.open(encoding="utf-8") as file:
            return [row["case"] for row in csv.DictReader(file) if row["choice"] == choice]
