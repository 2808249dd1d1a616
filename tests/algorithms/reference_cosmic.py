"""L.A.Cosmic as in larun.algorithms.cosmic, written plainly: whole planes, NaN for missing pixels, no shortcuts."""

import math

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage


def shifted(image, dy, dx):
    """The plane whose pixel (y, x) holds image[y + dy, x + dx]; NaN beyond the edge."""
    reach = max(abs(dy), abs(dx), 1)
    padded = np.pad(image, reach, constant_values=np.nan)
    return padded[reach + dy : reach + dy + image.shape[0], reach + dx : reach + dx + image.shape[1]]


def quantile(stack, fraction):
    """Quantile along the last axis without NaN pixels; NaN where there are no others."""
    ordered = np.sort(stack, axis=-1)
    count = np.isfinite(ordered).sum(axis=-1)
    position = fraction * np.maximum(count - 1, 0)
    low = position.astype(int)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    below, above = (np.take_along_axis(ordered, index[..., None], axis=-1)[..., 0] for index in (low, high))
    return below + (position - low) * (above - below)


def median(image, reach):
    padded = np.pad(image, reach, constant_values=np.nan)
    windows = sliding_window_view(padded, (2 * reach + 1, 2 * reach + 1))
    return quantile(windows.reshape(*image.shape, -1), 0.5)


def laplacian(image):
    """By subsampling for real: twice the pixels, four-point Laplacian, positive part, average over each pixel."""

    def other(first, second):
        return np.where(np.isnan(first), np.where(np.isnan(second), image, second), first)

    left, right, down, up = (shifted(image, *step) for step in ((0, -1), (0, 1), (-1, 0), (1, 0)))
    left, right, down, up = other(left, right), other(right, left), other(down, up), other(up, down)
    fine = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)
    second = np.empty_like(fine)
    second[0::2, 0::2] = 4 * image - 2 * image - left - down
    second[0::2, 1::2] = 4 * image - 2 * image - right - down
    second[1::2, 0::2] = 4 * image - 2 * image - left - up
    second[1::2, 1::2] = 4 * image - 2 * image - right - up
    positive = np.maximum(second, 0)
    return (positive[0::2, 0::2] + positive[1::2, 0::2] + positive[0::2, 1::2] + positive[1::2, 1::2]) / 4


def significance(image, noise):
    smooth = laplacian(image)
    smooth[np.isnan(image)] = np.nan
    return (smooth - median(smooth, 2)) / (2 * np.sqrt(median(noise, 2)))


def sharper_than_stars(image, noise, fwhm, margin=2.0, reach=10):
    sigma = 0.85 * min(fwhm, 4.0) / math.sqrt(8 * math.log(2))
    border = [(dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)]
    border = [step for step in border if max(map(abs, step)) == reach]
    ring = np.stack([shifted(image, *step) for step in border], axis=-1)
    height = image - quantile(ring, 0.25)
    error = margin * np.sqrt(noise)
    sharp = np.zeros(image.shape, bool)
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        # Heights of the neighbours above the sky of this pixel, not of their own.
        first = np.maximum(shifted(image, dy, dx) - (image - height), 0) + shifted(error, dy, dx)
        second = np.maximum(shifted(image, -dy, -dx) - (image - height), 0) + shifted(error, -dy, -dx)
        sharp |= (height - error > 0) & (
            height - error > math.exp((dy * dy + dx * dx) / (2 * sigma**2)) * np.sqrt(first * second)
        )
    return sharp


def fine_structure(image, noise):
    smooth = median(image, 1)
    return np.maximum((smooth - median(smooth, 3)) / np.sqrt(median(noise, 2)), 0.01)


def lacosmic(data, variance, unusable, saturated, protected, *, options):
    image, noise = data.astype(float), variance.astype(float)
    missing = unusable | saturated | ~np.isfinite(image) | ~(noise > 0)
    image[missing], noise[missing] = np.nan, np.nan
    mask = np.zeros(image.shape, bool)
    for _ in range(options.iterations):
        level = significance(image, noise)
        seeds = (level > options.sigma) & ~protected
        if options.fwhm is not None:
            seeds &= sharper_than_stars(image, noise, options.fwhm)
        contrast = options.contrast or (5.0 if options.fwhm is None else 2.0)
        seeds &= level > contrast * fine_structure(image, noise)
        if not seeds.any():
            break
        image[seeds], noise[seeds] = np.nan, np.nan
        level = significance(image, noise)
        near = ndimage.binary_dilation(seeds, np.ones((3, 3))) & ~protected
        grown = near & (level > options.sigma_fraction * options.sigma)
        image[grown], noise[grown] = np.nan, np.nan
        mask |= seeds | grown
    return mask


def replaced(data, variance, mask, unusable):
    """Median, and scatter or mean variance, of the good pixels in the least odd square that has three of them."""
    good = ~(mask | unusable) & np.isfinite(data) & (variance > 0)
    cleaned, error = data.astype(float), variance.astype(float)
    for y, x in np.argwhere(mask):
        for reach in range(2, max(data.shape)):
            window = np.s_[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
            values = data[window][good[window]].astype(float)
            if values.size >= 3:
                break
        cleaned[y, x] = np.median(values)
        error[y, x] = max(values.var(ddof=1), variance[window][good[window]].mean(dtype=float))
    return cleaned, error
