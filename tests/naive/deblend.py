"""Slow, obvious versions of the deblender's stages, and small scenes to run it on."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from zeropoint.datamodel.catalog import Schema, SourceCatalog
from zeropoint.datamodel.exposure import Amplifier, DetectorInfo, Exposure, VisitInfo
from zeropoint.datamodel.footprints import FootprintSet
from zeropoint.datamodel.psf_model import GaussianPsf


def symmetric_template(pix, inside, cx, cy):
    """Dictionary (y, x) -> value over the pixels whose mirror image is inside too."""
    h, w = pix.shape
    result = {}
    for y in range(h):
        for x in range(w):
            my, mx = 2 * cy - y, 2 * cx - x
            if 0 <= my < h and 0 <= mx < w and inside[y, x] and inside[my, mx]:
                result[y, x] = max(0.0, min(pix[y, x], pix[my, mx]))
    return result


def median_smooth(values):
    """5 x 5 median with two border pixels left alone."""
    result = values.copy()
    h, w = values.shape
    for y in range(2, h - 2):
        for x in range(2, w - 2):
            result[y, x] = np.median(values[y - 2 : y + 3, x - 2 : x + 3])
    return result


def make_monotonic(values, cx, cy):
    """Rings cast shadows 5 pixels long, renewed every 5 rings."""
    result = values.copy()
    h, w = values.shape
    ys, xs = np.mgrid[:h, :w]
    ring = np.maximum(abs(xs - cx), abs(ys - cy))
    for start in range(1, ring.max() + 1, 5):
        source = result.copy()
        for y, x in np.argwhere((ring >= start) & (ring < start + 5)):
            dx, dy = x - cx, y - cy
            for step in range(1, 6):
                behind = []
                if abs(dx) >= abs(dy):
                    low, high = (np.floor(step * (dy / dx + s) + 0.5) for s in (-0.3, 0.3))
                    behind += [
                        (y + np.sign(dx) * k, x + np.sign(dx) * step) for k in np.arange(low, high + 1)
                    ]
                if abs(dy) >= abs(dx):
                    low, high = (np.floor(step * (dx / dy + s) + 0.5) for s in (-0.3, 0.3))
                    behind += [
                        (y + np.sign(dy) * step, x + np.sign(dy) * k) for k in np.arange(low, high + 1)
                    ]
                for j, i in behind:
                    j, i = int(j), int(i)
                    if 0 <= j < h and 0 <= i < w:
                        result[j, i] = min(result[j, i], source[y, x])
    return result


def shifted(stamp, dx, dy):
    """The stamp moved by whole pixels, zeros coming in."""
    return ndimage.shift(stamp, (dy, dx), order=0, mode="constant", cval=0.0)


def point_source_fit(image, variance, inside, peak, others, fwhm, psf, moving):
    """Weighted least squares by `numpy.linalg.lstsq`; returns chi2/dof and parameters.

    ``image``, ``variance``, ``inside`` are the parent's box; ``psf`` a square stamp for every peak.
    """
    h, w = image.shape
    half = psf.shape[0] // 2
    ys, xs = np.mgrid[:h, :w]

    def place(stamp, x, y):
        out = np.zeros((h, w))
        for j in range(h):
            for i in range(w):
                v, u = j - y + half, i - x + half
                if 0 <= v < 2 * half + 1 and 0 <= u < 2 * half + 1:
                    out[j, i] = stamp[v, u]
        return out

    cx, cy = peak
    inner, outer = np.ceil(fwhm), np.ceil(1.5 * fwhm)
    r = np.hypot(xs - cx, ys - cy)
    good = inside & (r <= outer) & (variance > 0) & np.isfinite(image)
    columns = [place(psf, cx, cy), np.ones((h, w)), xs - cx, ys - cy]
    for x, y in others:
        if np.hypot(x - cx, y - cy) < outer + psf.shape[0] / 2:
            columns.append(place(psf, x, y))
    if moving:
        columns += [
            place(0.5 * (shifted(psf, 1, 0) - shifted(psf, -1, 0)), cx, cy),
            place(0.5 * (shifted(psf, 0, 1) - shifted(psf, 0, -1)), cx, cy),
        ]
    ramp = np.clip((outer - r) / (outer - inner), 0, 1)[good]
    weight = np.sqrt(ramp / variance[good])
    design = np.stack([c[good] for c in columns], axis=1) * weight[:, None]
    target = image[good] * weight
    solution = np.linalg.lstsq(design, target, rcond=None)[0]
    chi2 = np.sum((target - design @ solution) ** 2)
    return chi2 / (ramp.sum() - len(columns)), solution


def make_exposure(image, variance=None, mask=None, psf=None):
    """Wrap arrays as an exposure."""
    h, w = image.shape
    amplifier = Amplifier("A", (0, 0, w - 1, h - 1))
    return Exposure(
        image=image.astype(np.float32),
        variance=np.ones((h, w), np.float32) if variance is None else variance,
        mask=np.zeros((h, w), np.int32) if mask is None else mask,
        detector=DetectorInfo("test", "d", 0, w, h, (amplifier,)),
        visit_info=VisitInfo(1, 30.0, 60000.0, "r", "r"),
        psf=GaussianPsf(2.0, 25) if psf is None else psf,
    )


def footprints_of(regions, peaks):
    """Footprints from boolean images and lists of (x, y) peaks."""
    offsets, spans, peak_offsets, px, py = [0], [], [0], [], []
    for region, own in zip(regions, peaks):
        for y in np.flatnonzero(region.any(axis=1)):
            padded = np.concatenate([[False], region[y], [False]]).astype(int)
            starts, stops = np.flatnonzero(np.diff(padded) == 1), np.flatnonzero(np.diff(padded) == -1)
            spans += [(y, a, b - 1) for a, b in zip(starts, stops)]
        offsets.append(len(spans))
        px += [p[0] for p in own]
        py += [p[1] for p in own]
        peak_offsets.append(len(px))
    spans = np.array(spans, np.int32).reshape(-1, 3)
    return FootprintSet.build(
        np.array(offsets), *spans.T, peak_offsets=np.array(peak_offsets), peak_x=px, peak_y=py,
        peak_value=np.arange(len(px), 0, -1), peak_significance=np.arange(len(px), 0, -1),
    )  # fmt: skip


def make_catalog(footprints):
    """A catalogue of footprints without columns."""
    return SourceCatalog(Schema(), len(footprints), footprints=footprints)


def detect(image, sigma, noise, threshold=5.0, grow=3):
    """Footprints and peaks of an image by smoothing, labelling and local maxima."""
    smooth = ndimage.gaussian_filter(image, sigma)
    smooth_noise = noise / (2 * sigma * np.sqrt(np.pi))
    above = ndimage.binary_dilation(smooth > threshold * smooth_noise, iterations=grow)
    labels, _ = ndimage.label(above, np.ones((3, 3)))
    top = (smooth == ndimage.maximum_filter(smooth, 3)) & (smooth > threshold * smooth_noise)
    ys, xs = np.nonzero(top)
    order = np.argsort(-smooth[ys, xs], kind="stable")
    ys, xs = ys[order], xs[order]
    owner = labels[ys, xs]
    offsets, spans, peak_offsets, px, py = [0], [], [0], [], []
    for i, box in enumerate(ndimage.find_objects(labels), 1):
        region = labels[box] == i
        padded = np.pad(region, ((0, 0), (1, 1))).astype(np.int8)
        sy, sx = np.nonzero(np.diff(padded, axis=1) == 1)
        _, ex = np.nonzero(np.diff(padded, axis=1) == -1)
        y0, x0 = box[0].start, box[1].start
        spans.append(np.stack([sy + y0, sx + x0, ex - 1 + x0], axis=1))
        offsets.append(offsets[-1] + len(sy))
        own = owner == i
        px.append(xs[own])
        py.append(ys[own])
        peak_offsets.append(peak_offsets[-1] + int(own.sum()))
    if not spans:
        return FootprintSet.empty()
    spans, px, py = np.concatenate(spans), np.concatenate(px), np.concatenate(py)
    return FootprintSet.build(
        np.array(offsets), *spans.T, peak_offsets=np.array(peak_offsets), peak_x=px, peak_y=py,
        peak_value=smooth[py, px], peak_significance=smooth[py, px] / smooth_noise,
    )  # fmt: skip


def stars(shape, x, y, flux, sigma):
    """Noiseless Gaussian stars."""
    image = np.zeros(shape)
    r = int(6 * sigma) + 1
    for xi, yi, fi in zip(x, y, flux):
        x0, y0 = int(np.floor(xi + 0.5)), int(np.floor(yi + 0.5))
        ys = slice(max(y0 - r, 0), max(min(y0 + r + 1, shape[0]), 0))
        xs = slice(max(x0 - r, 0), max(min(x0 + r + 1, shape[1]), 0))
        gy = np.exp(-0.5 * ((np.arange(ys.start, ys.stop) - yi) / sigma) ** 2)
        gx = np.exp(-0.5 * ((np.arange(xs.start, xs.stop) - xi) / sigma) ** 2)
        image[ys, xs] += fi * gy[:, None] * gx[None, :] / (2 * np.pi * sigma**2)
    return image
