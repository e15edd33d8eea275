"""One mutation of a folder in memory, decided by a seed and a number alone."""

from __future__ import annotations

from random import Random

from fuzz.mutations.aware import aware
from fuzz.mutations.blind import blind
from fuzz.mutations.places import moved
from fuzz.trees import Tree

#: Of the mutations that are aware of the structure, how many are of names and places, not of contents.
_PLACES = 0.12


def mutated(base: Tree, target: str, seed: int, index: int, spare: frozenset[str] = frozenset()) -> tuple[Tree, str]:
    """A tree with one mutation, now and then with two or three, and what was done in words.

    Args:
        base: The sound tree.
        target: What it is for; with seed and number it decides everything.
        seed: Of a run.
        index: Number of the input; odd ones are aware of the structure, even ones blind.
        spare: Files that are left alone.
    """
    rng = Random(f"{target}/{seed}/{index}")
    tree, done = dict(base), []
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3))):
        names = [name for name, entry in tree.items() if isinstance(entry, bytes) and name not in spare]
        if not names:
            break
        name = rng.choice(names)
        content = tree[name]
        if index % 2 == 0:
            other = tree[rng.choice(names)]
            tree[name], what = blind(content, rng, other)
        elif rng.random() < _PLACES:
            what = moved(tree, name, rng)
        else:
            tree[name], what = aware(name, content, rng)
        done.append(f"{name}: {what}")
    return tree, "; ".join(done)
