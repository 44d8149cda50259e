"""Simulated clicks: where they are placed in evaluation and training, and how they are encoded for the network."""

from vfm_isbench.clicks.clicker import next_click
from vfm_isbench.clicks.encoding import click_maps, disk_maps, points_tensor
from vfm_isbench.clicks.patterns import Scene, candidate_clicks, click_generator, place_click
from vfm_isbench.clicks.people import PeopleClicks, PeopleFile
from vfm_isbench.clicks.training import (
    FirstClickRule,
    add_click,
    error_region,
    first_clicks,
    next_training_click,
    next_training_clicks,
)

__all__ = [
    "FirstClickRule",
    "PeopleClicks",
    "PeopleFile",
    "Scene",
    "add_click",
    "candidate_clicks",
    "click_generator",
    "click_maps",
    "disk_maps",
    "error_region",
    "first_clicks",
    "next_click",
    "next_training_click",
    "next_training_clicks",
    "place_click",
    "points_tensor",
]
