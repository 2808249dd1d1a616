"""Records for tests: a night in numbers, without pixels."""

from __future__ import annotations

import attrs

from larun.provenance import Parent, Provenance, Root, Step


def raw(name, pixels=None, **facts):
    """A raw file; its digest follows from its name unless it is given."""
    return Provenance(root=Root(kind="file", name=name, pixels=pixels or f"{hash_of(name)}", header="head", **facts))


def hash_of(text):
    return f"{sum(ord(c) * 257**n for n, c in enumerate(text)) % 16**16:016x}" * 4


def made(operation, *parents, version=1, fitted=None, substeps=(), **parameters):
    """A step; parents are (role, record)."""
    step = Step(
        operation=operation, version=version, parameters=parameters, fitted=fitted or {}, substeps=tuple(substeps)
    )
    return Provenance(step=step, parents=tuple(Parent(role, record) for role, record in parents))


@attrs.frozen(kw_only=True)
class Night:
    """What differs from one night to another."""

    biases: tuple = tuple(f"b{n}.fits" for n in range(1, 5))
    flats: tuple = ("f1.fits", "f2.fits")
    bias_sigma: float = 5
    clean_sigma: float = 4.5
    clean_version: int = 3
    given: dict = attrs.field(factory=dict)
    fwhm: float = 3.0
    dark: bool = False

    def bias(self):
        frames = (("frame", raw(name, given=self.given)) for name in self.biases)
        return made(
            "master_bias", *frames, version=2, sigma=self.bias_sigma, options={"overscan": {"method": "median"}}
        )

    def flat(self):
        frames = (("frame", raw(name, given=self.given)) for name in self.flats)
        return made("master_flat", *frames, ("bias", self.bias()), version=3, sigma=5)

    def frame(self, name="d1.fits"):
        masters = [("bias", self.bias()), ("flat", self.flat())]
        if self.dark:
            masters.append(("dark", made("master_dark", *(("frame", raw(f"k{n}.fits")) for n in range(3)))))
        calibrated = made("calibrate", ("self", raw(name, given=self.given)), *masters, without=[])
        return made("clean", ("self", calibrated), version=self.clean_version, sigma=self.clean_sigma, engine="larun")

    def catalog(self, name="d1.fits"):
        return made("detect", ("self", self.frame(name)), fitted={"fwhm": self.fwhm}, threshold=5)

    def stack(self, count=40):
        frames = (("frame", self.frame(f"d{n}.fits")) for n in range(count))
        return made("stack", *frames, method="mean")
