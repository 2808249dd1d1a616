"""Fields of a catalogue's stars with known truth: turned, mirrored, anywhere, with missing and with wrong stars."""

from typing import NamedTuple

import numpy as np

RADIAN = 180 / np.pi


class SkyField(NamedTuple):
    """Stars of an image and of a catalogue, both the brightest first, and the true projection."""

    xy: np.ndarray
    ra: np.ndarray
    dec: np.ndarray
    patch: tuple[float, float]
    shape: tuple[int, int]
    scale: float
    noise: float
    contact: np.ndarray  # unit vectors to east, north and the centre of the image
    turn: np.ndarray
    common: int

    def pixels(self, ra, dec):
        """True positions, NaN behind the observer."""
        east, north, front = self.contact @ vectors(ra, dec)
        front = np.where(front > 0, front, np.nan)
        plane = np.stack([east, north], axis=1) / front[:, None] * RADIAN * 3600 / self.scale
        return plane @ self.turn.T + self.middle

    def sky(self, xy):
        """True sky of pixels, in degrees."""
        plane = ((xy - self.middle) @ self.turn) * self.scale / 3600 / RADIAN  # the turn is orthogonal
        v = plane @ self.contact[:2] + self.contact[2]
        return np.degrees(np.arctan2(v[:, 1], v[:, 0])) % 360, np.degrees(np.arctan2(v[:, 2], np.hypot(*v.T[:2])))

    @property
    def middle(self):
        return np.array([(self.shape[1] - 1) / 2, (self.shape[0] - 1) / 2])


def vectors(ra, dec):
    a, d = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)])


def axes(ra, dec):
    a, d = np.radians(ra), np.radians(dec)
    return np.array(
        [
            [-np.sin(a), np.cos(a), 0],
            [-np.sin(d) * np.cos(a), -np.sin(d) * np.sin(a), np.cos(d)],
            [np.cos(d) * np.cos(a), np.cos(d) * np.sin(a), np.sin(d)],
        ]
    )


def around(rng, place, radius, count):
    """Random positions within a circle of a few degrees, in degrees."""
    z = 1 - rng.uniform(0, 1 - np.cos(np.radians(radius)), count)
    t, s = rng.uniform(0, 2 * np.pi, count), np.sqrt(1 - z**2)
    v = np.stack([s * np.cos(t), s * np.sin(t), z], axis=1) @ axes(*place)
    return np.degrees(np.arctan2(v[:, 1], v[:, 0])) % 360, np.degrees(np.arctan2(v[:, 2], np.hypot(*v.T[:2])))


def sky_field(seed, *, dec=0.0, stars=100, radius=1.0, missing=0.5, spurious=0.5, noise=0.2, scale=1.0, size=1024):
    """A field with so many stars of the catalogue in the frame; ``missing`` of them are not seen, and ``spurious`` of
    those that are seen are in no catalogue."""
    rng = np.random.default_rng(seed)
    shape = (size, size)
    patch = float(rng.uniform(0, 360)), dec
    frame = (size * scale / 3600) ** 2
    cap = 2 * np.pi * (1 - np.cos(np.radians(radius))) * RADIAN**2
    count = int(stars / frame * cap)
    ra, de = around(rng, patch, radius, count)
    magnitude = 18 + np.log10(rng.uniform(size=count)) / 0.4
    order = np.argsort(magnitude)
    ra, de, magnitude = ra[order], de[order], magnitude[order]
    at = around(rng, patch, 0.5 * radius, 1)
    angle, mirror = rng.uniform(0, 2 * np.pi), rng.choice([-1, 1])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ np.diag([mirror, 1])
    made = SkyField(np.empty((0, 2)), ra, de, patch, shape, scale, noise, axes(at[0][0], at[1][0]), turn, 0)
    true = made.pixels(ra, de)
    with np.errstate(invalid="ignore"):
        inside = np.flatnonzero(((true >= 0) & (true < size)).all(axis=1))
    seen = inside[rng.uniform(size=len(inside)) >= missing]
    wrong = round(len(seen) * spurious / (1 - spurious))
    xy = np.concatenate([true[seen] + rng.normal(0, noise, (len(seen), 2)), rng.uniform(0, size, (wrong, 2))])
    bright = np.concatenate([magnitude[seen] + rng.normal(0, 0.2, len(seen)), rng.choice(magnitude[inside], wrong)])
    return made._replace(xy=xy[np.argsort(bright)], common=len(seen))
