"""Raw frames and whole nights with known truth: the demo, the tests and the benchmarks use them."""

from larun.simulate.camera import Camera, Chip, Grain
from larun.simulate.cosmics import cosmic_rays
from larun.simulate.drawing import render_profile
from larun.simulate.faults import (
    Telegraph,
    Trail,
    amplifier_glow,
    bad_columns,
    bayer,
    crosstalk,
    fringes,
    light_leak,
    pickup,
    shutter_delay,
    smooth_field,
    telegraph_pixels,
    trail_light,
    trails_light,
)
from larun.simulate.frames import Scene, noisy, raw_bias, raw_dark, raw_flat, raw_science
from larun.simulate.geometry import Distortion, Pointing, dithers, drift, place
from larun.simulate.night import simulate_night
from larun.simulate.options import Conditions, Faults, NightOptions, Optics, Pulsation, Tracking, Transit
from larun.simulate.profiles import Donut, Function, Gaussian, Moffat, Profile, Stretched, Trailed, Varying, shear
from larun.simulate.readout import RawFrame, photons, raw_frame, read_out
from larun.simulate.series import airmass, altitude, extinction, red_noise, sinusoid, sky_plane, transit
from larun.simulate.stars import StarField, draw_stars, render
from larun.simulate.truth import FrameTruth, NewSource, NightTruth, read_truth

__all__ = [
    "Camera",
    "Chip",
    "Conditions",
    "Distortion",
    "Donut",
    "Faults",
    "FrameTruth",
    "Function",
    "Gaussian",
    "Grain",
    "Moffat",
    "NewSource",
    "NightOptions",
    "NightTruth",
    "Optics",
    "Pointing",
    "Profile",
    "Pulsation",
    "RawFrame",
    "Scene",
    "StarField",
    "Stretched",
    "Telegraph",
    "Tracking",
    "Trail",
    "Trailed",
    "Transit",
    "Varying",
    "airmass",
    "altitude",
    "amplifier_glow",
    "bad_columns",
    "bayer",
    "cosmic_rays",
    "crosstalk",
    "dithers",
    "draw_stars",
    "drift",
    "extinction",
    "fringes",
    "light_leak",
    "noisy",
    "photons",
    "pickup",
    "place",
    "raw_bias",
    "raw_dark",
    "raw_flat",
    "raw_frame",
    "raw_science",
    "read_out",
    "read_truth",
    "red_noise",
    "render",
    "render_profile",
    "shear",
    "shutter_delay",
    "simulate_night",
    "sinusoid",
    "sky_plane",
    "smooth_field",
    "telegraph_pixels",
    "trail_light",
    "trails_light",
    "transit",
]
