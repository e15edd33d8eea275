"""Try mutated inputs, and say how many held: ``python tests/fuzz [TARGET ...] --inputs 1000``.

Every input follows from its target, a seed and its number: odd numbers are aware of the structure, even ones blind.
Held is an input that the product takes as sound or answers by its own errors. Failed is one at which another exception
reaches the surface, something is written outside of the given folder, more than four times the declared size is taken
in memory, nothing ends within 20 seconds of computing, the process dies, or a sealed artifact is taken although it is
another. A failure is printed with the words that make it again: ``python tests/fuzz --again TARGET SEED NUMBER``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
for _place in (ROOT / "tests", ROOT / "src"):
    sys.path.insert(0, str(_place))
# The folder of this file is no place for modules: they are those of the package.
sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != Path(__file__).resolve().parent]

# Before libraries count cores: one input at a time, and a process for each core that is to be used.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
    os.environ[_name] = "1"

from fuzz.outcomes import Outcome  # noqa: E402


def main(words: Sequence[str] | None = None) -> int:
    """Try, print, keep; 0 if all held."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="or the beginning of some; all by default")
    parser.add_argument("--inputs", type=int, default=200, help="of each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", type=Path, help="results are appended to this file, and what it has is not repeated")
    parser.add_argument("--part", type=int, default=2500, help="inputs between two rows")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="nothing is begun after so long")
    parser.add_argument("--list", action="store_true", help="print the names of all targets")
    parser.add_argument("--again", nargs=3, metavar=("TARGET", "SEED", "NUMBER"), help="one input, in this process")
    parser.add_argument("--keep", type=Path, help="with --again: leave the input in this folder")
    given = parser.parse_args(words)
    from fuzz.targets import TARGETS

    if given.list:
        print("\n".join(TARGETS))
        return 0
    if given.again:
        name, seed, number = given.again
        return _again(name, int(seed), int(number), given.keep)
    chosen = [name for name in TARGETS if not given.targets or any(name.startswith(word) for word in given.targets)]
    if not chosen:
        parser.error(f"no target begins with {' or '.join(given.targets)}")
    return _all(chosen, given)


def _all(chosen: Sequence[str], given: argparse.Namespace) -> int:
    from fuzz.rows import append, tried_until
    from fuzz.workers import run

    begun, total, failed = time.monotonic(), 0, 0
    for start in range(0, given.inputs, given.part):
        for name in chosen:
            first = max(start, tried_until(given.rows, name, given.seed))
            stop = min(start + given.part, given.inputs)
            if first >= stop or time.monotonic() - begun > 60 * given.minutes:
                continue
            tally = run(
                name, given.seed, first, stop, lambda index, outcome, name=name: _tell(name, given.seed, index, outcome)
            )
            if given.rows:
                append(given.rows, tally)
            total += tally.tried
            failed += tally.failed
            speed = tally.tried / max(tally.seconds, 1e-9)
            held = tally.tried - tally.failed
            print(f"{name}: {tally.tried} tried, {held} held, {tally.failed} failed ({speed:.0f} a second)", flush=True)
    print(f"{total} tried, {total - failed} held, {failed} failed")
    return 1 if failed else 0


def _tell(name: str, seed: int, index: int, outcome: Outcome) -> None:
    print(f"FAILED {outcome.verdict}: {outcome.why}\n    {outcome.done[:300]}", flush=True)
    print(f"    python tests/fuzz --again {name} {seed} {index}", flush=True)


def _again(name: str, seed: int, number: int, keep: Path | None) -> int:
    from fuzz.mutations import mutated
    from fuzz.one_input import Bench
    from fuzz.targets import TARGETS
    from fuzz.trees import write_tree
    from fuzz.watching import Writes

    target = TARGETS[name]
    if keep is not None:
        tree, done = mutated(target.base(), name, seed, number, target.spare)
        write_tree(keep, tree)
        print(f"{keep}: {done}")
        return 0
    bench = Bench(target, Writes())
    try:
        outcome = bench.try_one(seed, number)
    finally:
        bench.close()
    print(outcome.verdict, outcome.why, outcome.done, sep="\n    ")
    return 1 if outcome.failed else 0


if __name__ == "__main__":
    sys.exit(main())
