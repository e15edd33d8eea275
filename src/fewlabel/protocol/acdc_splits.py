"""Splits of the ACDC training set (patients 001 to 100) used by the literature, as plain lists."""

from __future__ import annotations

from typing import Any


def _ids(text: str) -> list[str]:
    return [f"patient{number}" for number in text.split()]


_ALL = [f"patient{number:03d}" for number in range(1, 101)]


def chaitanya() -> dict[str, Any]:
    """The split of Chaitanya et al. (NeurIPS 2020; GLCL), which the GCL paper follows.

    Test: 20 patients. Labelled draws for M = 1, 2 and 8 come with two validation patients each. The authors
    list 52 unlabelled patients for pre-training, among them 072, which serves as validation in some draws. Here all
    four patients that validate anywhere (011, 031, 071, 072) stay out of pre-training and training, so 51 are left:
    a validation patient's image enters no training. The train part is everything but test and validation.
    """
    test = _ids("007 008 009 010 027 028 029 030 047 048 049 050 067 068 069 070 087 088 089 090")
    validation = _ids("011 031 071 072")
    listed = _ids(
        "001 002 003 004 005 006 012 017 018 019 020 021 022 023 024 025 026 037 038 039 040 041 042 043 044 045 046 "
        "057 058 059 060 061 062 063 064 065 066 072 077 078 079 080 081 082 083 084 085 086 097 098 099 100"
    )
    held = set(test) | set(validation)
    draws = {
        "1": [("002", "011 071"), ("042", "031 072"), ("095", "011 071"), ("022", "011 071"), ("062", "011 071")],
        "2": [
            ("042 062", "031 072"),
            ("002 042", "011 071"),
            ("042 095", "031 072"),
            ("002 022", "011 071"),
            ("002 095", "011 071"),
        ],
        "8": [
            ("002 022 042 062 095 003 023 043", "011 071"),
            ("002 022 042 062 095 063 094 043", "031 072"),
            ("002 022 042 062 095 003 094 023", "011 071"),
        ],
    }
    return {
        "parts": {
            "pretrain": [subject for subject in listed if subject not in held],
            "train": [subject for subject in _ALL if subject not in held],
            "validation": validation,
            "test": test,
        },
        "draws": {
            count: [{"labelled": _ids(labelled), "validation": _ids(validating)} for labelled, validating in rows]
            for count, rows in draws.items()
        },
    }


def ssl4mis() -> dict[str, Any]:
    """The split of SSL4MIS, which ARCO and most semi-supervised work follow: 70 train, 10 validation, 20 test.

    One draw of each M from 1 to 14, nested: the first M patients of the authors' ``train.list``, which is how their
    code takes labelled patients (they use M = 1, 3, 7 and 14). Not comparable with :func:`chaitanya`.
    """
    test = _ids("001 007 008 011 013 022 024 033 052 059 064 065 066 068 075 080 081 083 084 093")
    validation = _ids("002 019 028 030 039 045 078 082 085 087")
    held = set(test) | set(validation)
    train = [subject for subject in _ALL if subject not in held]
    order = _ids("099 038 050 100 058 021 049 020 072 040 060 089 004 056")
    return {
        "parts": {"pretrain": list(train), "train": train, "validation": validation, "test": test},
        "draws": {
            str(count): [{"labelled": order[:count], "validation": validation}] for count in range(1, len(order) + 1)
        },
    }


def develop() -> dict[str, Any]:
    """A split to make choices on: the 63 patients that neither :func:`chaitanya` nor :func:`ssl4mis` tests on.

    Of each of ACDC's five groups of diagnosis four patients are scored (every third by number, and 079); the other 43
    train. Each draw of one labelled patient has another diagnosis. The labelled patients are none that the literature
    labels at M = 1 to 3. There is no validation part: lengths are fixed.
    """
    held = {subject for split in (chaitanya(), ssl4mis()) for subject in split["parts"]["test"]}
    test = _ids("004 012 016 019 025 032 036 039 043 046 055 058 063 073 077 079 086 094 097 100")
    train = [subject for subject in _ALL if subject not in held and subject not in test]
    draws = {
        "1": ["006", "026", "054", "074", "091"],
        "2": ["006 074", "026 091", "054 074", "006 026", "054 091"],
        "8": [
            "003 006 023 026 054 056 074 091",
            "005 006 026 031 045 054 076 092",
            "014 017 034 040 053 060 074 091",
        ],
    }
    return {
        "parts": {"pretrain": list(train), "train": train, "validation": [], "test": test},
        "draws": {
            count: [{"labelled": _ids(labelled), "validation": []} for labelled in rows]
            for count, rows in draws.items()
        },
    }


NAMED = {"chaitanya": chaitanya, "develop": develop, "ssl4mis": ssl4mis}
