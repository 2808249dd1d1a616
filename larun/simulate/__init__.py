"""Raw frames and whole nights with known truth: the demo, the tests and the benchmarks use them."""

from larun.simulate.camera import Camera, Chip
from larun.simulate.cosmics import cosmic_rays
from larun.simulate.drawing import render_profile
from larun.simulate.frames import Scene, noisy, raw_bias, raw_dark, raw_flat, raw_science
from larun.simulate.night import simulate_night
from larun.simulate.profiles import (
    Donut,
    Function,
    Gaussian,
    Moffat,
    Profile,
    Stretched,
    Trailed,
    Varying,
    shear,
)
from larun.simulate.readout import RawFrame, photons, raw_frame, read_out
from larun.simulate.stars import StarField, draw_stars, render
from larun.simulate.truth import FrameTruth, NewSource, NightOptions, NightTruth, read_truth

__all__ = [
    "Camera",
    "Chip",
    "Donut",
    "FrameTruth",
    "Function",
    "Gaussian",
    "Moffat",
    "NewSource",
    "NightOptions",
    "NightTruth",
    "Profile",
    "RawFrame",
    "Scene",
    "StarField",
    "Stretched",
    "Trailed",
    "Varying",
    "cosmic_rays",
    "draw_stars",
    "noisy",
    "photons",
    "raw_bias",
    "raw_dark",
    "raw_flat",
    "raw_frame",
    "raw_science",
    "read_out",
    "read_truth",
    "render",
    "render_profile",
    "shear",
    "simulate_night",
]
