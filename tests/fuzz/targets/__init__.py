"""What is fuzzed: every reader, kind of file and kind of artifact, with sound inputs to begin from."""

from __future__ import annotations

from fuzz.targets.artifacts import ARTIFACTS
from fuzz.targets.base import Target
from fuzz.targets.commands import COMMANDS
from fuzz.targets.files import FILES
from fuzz.targets.readers import READERS

TARGETS: dict[str, Target] = {target.name: target for target in (*READERS, *FILES, *ARTIFACTS, *COMMANDS)}
