"""Which draws of labelled patients a study takes: different ones, so that none counts twice."""

from __future__ import annotations

from fewlabel.core.errors import FewlabelError, SettingsError
from fewlabel.core.progress import say
from fewlabel.data.store import PreparedStore
from fewlabel.engine.embedding import pixel_embedding
from fewlabel.pipelines.study.spec import Budget, Study, numbers_of
from fewlabel.protocol.training_eligibility import drawn_labels
from fewlabel.scoring.scans_worth_annotating import pick_to_cover, scan_distances

#: Draws that are looked at for each that is wanted: of few patients many draws are alike.
LOOKED_AT = 50


def different_draws(store: PreparedStore, labelled: int, asked: int | tuple[int, ...]) -> tuple[int, ...]:
    """Numbers of draws with different labelled patients.

    Two draws of the same patients would be one training counted as two.

    Args:
        store: The prepared data.
        labelled: Number of labelled patients.
        asked: How many, or which. Of a number, as many as there are: a named split may have fewer, and so may a train
            part of few patients. That is said.

    Raises:
        FewlabelError: If there is no such draw.
    """
    taken: dict[frozenset[str], int] = {}
    if not isinstance(asked, int):
        for draw in asked:
            taken.setdefault(frozenset(drawn_labels(store, labelled, draw).labelled), draw)
        if len(taken) < len(asked):
            alike = [draw for draw in asked if draw not in taken.values()]
            say(f"M={labelled}: draw {', '.join(map(str, alike))} has the patients of another draw and is left out.")
        return tuple(taken.values())
    for draw in range(asked * LOOKED_AT):
        try:
            patients = frozenset(drawn_labels(store, labelled, draw).labelled)
        except SettingsError:
            # A named split has no more of its own.
            break
        except FewlabelError:
            # The draw itself is at fault: it is told where its cell is checked.
            patients = frozenset({f"draw {draw}"})
        taken.setdefault(patients, draw)
        if len(taken) == asked:
            break
    if len(taken) < asked:
        say(f"M={labelled}: there are {len(taken)} different draws, not {asked}.")
    return tuple(taken.values())


def every_budget(study: Study) -> list[Budget]:
    """All numbers of labelled patients, rising, last all of them."""
    asked = {budget for arm in study.arms for budget in study.budgets_of(arm)}
    numbers: list[Budget] = sorted(budget for budget in asked if budget != "all")
    return [*numbers, *(["all"] if "all" in asked else [])]  # type: ignore[list-item]


def draws_of(study: Study, store: PreparedStore, budget: Budget) -> tuple[int, ...]:
    """Draws at a number of labelled patients, the same for all arms.

    Args:
        study: The study.
        store: The prepared data of an arm; all have the same split.
        budget: Number of labelled patients.

    Raises:
        FewlabelError: If there is no such draw.
    """
    asked = study.settings.draws
    if study.settings.resplit:
        return numbers_of(asked)
    # All patients are one draw.
    return (0,) if budget == "all" else different_draws(store, budget, asked)


def covering_patients(store: PreparedStore, count: int) -> tuple[str, ...]:
    """The patients of the train part whose scans most others are near to, by small pictures of the scans.

    Args:
        store: The prepared data.
        count: How many.
    """
    train = set(store.split["parts"]["train"])
    cases = [case for case in store.cases if case.subject in train]
    owners = [case.subject for case in cases]
    distances = scan_distances(pixel_embedding(store, cases))
    # A subject gives a second scan only once every other one gave one.
    picks = pick_to_cover(distances, [], range(len(cases)), owners, count)
    return tuple(dict.fromkeys(owners[pick.index] for pick in picks))
