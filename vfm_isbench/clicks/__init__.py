"""Simulated clicks: where they are placed in evaluation and training, and how they are encoded for the network."""

from vfm_isbench.clicks.clicker import next_click
from vfm_isbench.clicks.encoding import click_maps, disk_maps, points_tensor
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
    "add_click",
    "click_maps",
    "disk_maps",
    "error_region",
    "first_clicks",
    "next_click",
    "next_training_click",
    "next_training_clicks",
    "points_tensor",
]
