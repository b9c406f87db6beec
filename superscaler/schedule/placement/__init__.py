"""Placement: stage cuts and stage-to-device maps, decided together with the order."""

from superscaler.schedule.placement.layers import Cut, Job, LayerCost, balanced_cuts, even_cuts
from superscaler.schedule.placement.layers import problem_of as placement_problem
from superscaler.schedule.placement.place import KINDS, PlacedSchedule, place

__all__ = [
    "KINDS",
    "Cut",
    "Job",
    "LayerCost",
    "PlacedSchedule",
    "balanced_cuts",
    "even_cuts",
    "place",
    "placement_problem",
]
