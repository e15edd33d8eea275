"""The ground suites by name."""

from __future__ import annotations

from suites import acdc_ground, hippocampus_ground, la_ground
from suites.ground import Ground

GROUNDS: dict[str, Ground] = {
    ground.suite: ground for ground in (acdc_ground.GROUND, hippocampus_ground.GROUND, la_ground.GROUND)
}
