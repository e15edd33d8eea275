"""Values of masks that cannot be what they seem to be, each with the map that would settle it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from fewlabel.core.errors import Fault
from fewlabel.data.catalog import Case
from fewlabel.data.io.catalog_paths import files_behind, shown

#: A value of at most this many voxels, in one mask alone, is a stray one.
_STRAY = 10
#: From so many values on, up to a high one, masks may have been saved with loss: most values are rare, or lie this near
#: to 0 or to a value that fills at least a share of the foreground.
_MANY, _HIGH, _MOST, _RARE, _NEAR, _MAIN = 12, 128, 0.8, 0.1, 24, 0.05
_LOSSY = (".jpg", ".jpeg")
#: A value that fills this share of all masks, and background this little, says that nobody looked.
_FILLS, _LEFT = 0.8, 0.1
#: 255 beside values up to this is what natural-image sets call void.
_SMALL = 100
_MOST_NAMED = 3


@dataclass(frozen=True)
class MaskValues:
    """The values in one mask: raw value → voxels."""

    case: Case
    counts: Mapping[int, int]

    @property
    def foreground(self) -> set[int]:
        """All values but 0."""
        return set(self.counts) - {0}

    @property
    def name(self) -> str:
        """The mask's file as a person reads it."""
        return shown(self.case.label) if self.case.label is not None else self.case.id


def mask_value_faults(
    masks: Sequence[MaskValues], counts: Mapping[int, int], known: Collection[int], told: Mapping[int, str], where: str
) -> list[Fault]:
    """A fault for each value, or kind of values, that is no class for sure.

    Args:
        masks: Values of each mask.
        counts: Raw value → voxels over all masks.
        known: Values whose meaning is given: declared, ignored, or said by the user.
        told: Foreground values that are declared, or that the user maps others to → name.
        where: The data set, for messages.
    """
    if lossy := _lossy(masks, counts, known, where):
        return lossy
    unknown = sorted(set(counts) - set(known))
    filled = [mask for mask in masks if mask.foreground]
    faults = [_negative(value, masks, where) for value in unknown if value < 0]
    unknown = [value for value in unknown if value >= 0]
    strays = [value for value in unknown if _is_stray(value, counts, filled)]
    faults += [_stray(value, counts, filled) for value in strays]
    unknown = [value for value in unknown if value not in strays]
    if told:
        missing = sorted(value for value in told if value not in counts)
        return [*faults, *_undeclared(unknown, missing, told, masks, where)]
    return [*faults, *_undeclared_sets(unknown, counts, filled, masks, where)]


def proposal(values: Mapping[int, int | str]) -> str:
    """The setting that says what values stand for, quoted for a shell."""
    inner = ", ".join(f"{raw}: {meaning}" for raw, meaning in values.items())
    return f'"labels={{{inner}}}"'


def _undeclared(
    unknown: Sequence[int], missing: Sequence[int], told: Mapping[int, str], masks: Sequence[MaskValues], where: str
) -> list[Fault]:
    """Values that a data set does not declare, though it declares others."""
    if not unknown:
        return []
    names = ", ".join(f"{value} ({name})" if name else str(value) for value, name in sorted(told.items()))
    faults = []
    held = sorted({value for mask in masks for value in mask.foreground if value in told or value in unknown})
    shifts = {value - meaning for value, meaning in zip(held, sorted(told), strict=False)}
    if len(unknown) == len(missing):
        # Where all values are off by as much, all are meant.
        shifted = len(held) == len(told) and len(shifts) == 1
        pairs = dict(zip(held, sorted(told), strict=True) if shifted else zip(unknown, missing, strict=True))
        values = ", ".join(map(str, unknown))
        lacking = ", ".join(f"{value} ({told[value]})" if told[value] else str(value) for value in missing)
        problem = (
            f"masks hold {values} ({_in(masks, unknown)}), which is not declared, and none holds {lacking}, which is"
        )
        meant = ", ".join(f"{raw} stands for {meaning}" for raw, meaning in pairs.items())
        more = _leave_out(unknown) if 255 in unknown and len(unknown) < len(told) else ""
        remedy = f"If {meant}, prepare with {proposal(pairs)}{more}"
        return [Fault(problem, where, remedy)]
    for value in unknown:
        problem = f"masks hold {value} ({_in(masks, [value])}), which is not declared; declared are {names}"
        remedy = f"Say what it stands for: {_choices(value, missing)}"
        faults.append(Fault(problem, where, remedy))
    return faults


def _undeclared_sets(
    unknown: Sequence[int],
    counts: Mapping[int, int],
    filled: Sequence[MaskValues],
    masks: Sequence[MaskValues],
    where: str,
) -> list[Fault]:
    """What is odd about values of a data set that declares none."""
    faults: list[Fault] = []
    total = sum(counts.values())
    asked: set[int] = set()
    for value in unknown:
        together = any(value in mask.counts and mask.foreground - {value} for mask in filled)
        others = set(unknown) - {value}
        everywhere = all(value in mask.counts for mask in masks)
        if others and everywhere and counts[value] > _FILLS * total and counts.get(0, 0) < _LEFT * total:
            problem = (
                f"{value} fills {counts[value] / total:.0%} of the masks, as a value for what nobody annotated does"
            )
            remedy = f"Say what it is: {_choices(value, [], keep=True, first='ignore')}"
        elif value == 255 and others and max(others) <= _SMALL and together:
            problem = f"masks hold 255 beside {_listed(sorted(others))} ({_in(masks, [255])}), as a value for void does"
            remedy = f"Say what it is: {_choices(255, [], keep=True, first='ignore')}"
        elif value == 255 and others and max(others) <= _SMALL:
            meant = min(others)
            problem = f"some masks hold 255 ({_in(masks, [255])}), others {meant} ({_in(masks, [meant])}), none both"
            remedy = f"If 255 stands for {meant}, prepare with {proposal({255: meant})}; if not, {proposal({255: 255})}"
        else:
            continue
        asked.add(value)
        faults.append(Fault(problem, where, remedy))
    for value in unknown:
        holders = [mask for mask in filled if value in mask.counts]
        if value in asked or len(filled) < 3 or len(holders) != 1 or not (set(unknown) - {value}):
            continue
        common = set.intersection(*(mask.foreground for mask in filled if mask is not holders[0]))
        missing = sorted(common - holders[0].foreground)
        if not missing and len(holders[0].foreground) == 1 and not common:
            # Masks of one structure each: which of them there is differs from scan to scan.
            continue
        problem = f"holds {value} ({counts[value]} voxels), which none of the other {len(filled) - 1} masks holds"
        faults.append(Fault(problem, holders[0].name, f"Say what it stands for: {_choices(value, missing, keep=True)}"))
    return faults


def _lossy(masks: Sequence[MaskValues], counts: Mapping[int, int], known: Collection[int], where: str) -> list[Fault]:
    pictures = [mask for mask in masks if is_jpeg(mask) and len(mask.counts) > 2 and set(mask.counts) - set(known)]
    if pictures:
        most = max(pictures, key=lambda mask: len(mask.counts))
        many = "one mask is a JPEG picture" if len(pictures) == 1 else f"{len(pictures)} masks are JPEG pictures"
        problem = f"{many}, which does not keep values: {most.name} holds {len(most.counts)} of them"
        return [Fault(problem, where, "Save masks as PNG or NIfTI, from the original annotation")]
    unknown = sorted(set(counts) - set(known), key=lambda value: counts[value])
    if len(unknown) < _MANY or max(unknown) < _HIGH:
        return []
    voxels = sum(count for value, count in counts.items() if value != 0)
    rare = sum(counts[value] for value in unknown[: int(_MOST * len(unknown))])
    main = {0, *(value for value in unknown if counts[value] >= _MAIN * voxels)}
    near = sum(min(abs(value - other) for other in main) <= _NEAR for value in unknown)
    if rare > _RARE * voxels and near < _MOST * len(unknown):
        return []
    most = max(masks, key=lambda mask: len(mask.counts))
    problem = (
        f"masks hold {len(counts)} values, most of them in few voxels ({most.name} alone {len(most.counts)}): probably "
        "they were saved with loss, as JPEG, or interpolated"
    )
    return [Fault(problem, where, "Save masks without loss, and resample them with nearest neighbour")]


def _negative(value: int, masks: Sequence[MaskValues], where: str) -> Fault:
    problem = f"masks hold {value} ({_in(masks, [value])}), and no class is below 0"
    return Fault(problem, where, f"Say what it is: {_choices(value, [], first='ignore')}")


def _is_stray(value: int, counts: Mapping[int, int], filled: Sequence[MaskValues]) -> bool:
    holders = [mask for mask in filled if value in mask.counts]
    largest = max((voxels for other, voxels in counts.items() if other not in (0, value)), default=0)
    return len(holders) == 1 and len(filled) > 1 and counts[value] <= _STRAY and counts[value] * 10 <= largest


def _stray(value: int, counts: Mapping[int, int], filled: Sequence[MaskValues]) -> Fault:
    holder = next(mask for mask in filled if value in mask.counts)
    voxels = "1 voxel" if counts[value] == 1 else f"{counts[value]} voxels"
    problem = f"holds {value} in {voxels} and no other mask does: probably a stray value"
    return Fault(problem, holder.name, f"Correct the mask, or say what it is: {_choices(value, [], keep=True)}")


def _choices(value: int, missing: Sequence[int], *, keep: bool = False, first: int | str = 0) -> str:
    """Every map that may be meant, the likeliest first."""
    told: dict[int | str, str] = {0: "makes it background", "ignore": "leaves it out"}
    options = [f"{proposal({value: other})} takes it for {other}" for other in missing[:_MOST_NAMED]]
    options += [f"{proposal({value: what})} {told[what]}" for what in sorted(told, key=lambda what: what != first)]
    options += [f"{proposal({value: value})} keeps it as a class"] if keep else []
    return f"{', '.join(options[:-1])}, {options[-1]}"


def _leave_out(values: Iterable[int]) -> str:
    return f"; {proposal(dict.fromkeys(values, 'ignore'))} leaves it out"


def _in(masks: Sequence[MaskValues], values: Sequence[int]) -> str:
    """``in 2 of 5 masks: a.nii.gz, b.nii.gz``."""
    holders = [mask.name for mask in masks if not mask.foreground.isdisjoint(values)]
    more = ", …" if len(holders) > _MOST_NAMED else ""
    return f"in {len(holders)} of {len(masks)} masks: {', '.join(holders[:_MOST_NAMED])}{more}"


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values[:5])) + (", …" if len(values) > 5 else "")


def is_jpeg(mask: MaskValues) -> bool:
    """Whether a mask is in pictures that do not keep values."""
    return mask.case.label is not None and any(
        file.name.lower().endswith(_LOSSY) for file in files_behind(mask.case.label)
    )
