"""Pictures of images, with flags and catalogues on top. Needs the extra ``plots``; matplotlib loads on first use."""

from larun.plots.image import show

__all__ = ["show"]
