"""Star stamps on which PSF determiners are compared: simulated with a known truth, and real.

A sample is an exposure (size, detector, filter, noise), candidates with stamps of 41 pixels, and for simulations the
true profile anywhere on the detector.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zeropoint.datamodel.exposure import Amplifier, DetectorInfo, Exposure, VisitInfo
from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.psf.candidates import PsfCandidates

#: The real data, as `real_data.DATA`, which is not imported here because it loads the whole pipeline.
DATA = Path(os.environ.get("ZEROPOINT_TESTDATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
#: Side of the stamps, pixels.
SIDE = 41
#: Side of simulated detectors, pixels.
WIDTH = 4000
#: Sky of the simulations, electrons.
SKY = 400.0
#: Stars of a simulation that are fitted, and that are set aside.
FITTED, RESERVED = 200, 60
#: Simulated samples: seeing (FWHM in pixels), and whether the PSF varies as a quadratic or as a random field.
SIMULATED = {
    "simulated": (4.0, "quadratic"),
    "simulated-rough": (4.0, "rough"),
    "simulated-sharp": (2.4, "quadratic"),
}
REAL = ("sdss-i", "ztf-r", "star-stamps")
#: What each sample is, for the table.
TITLES = {
    "simulated": "Simulated 4k, quadratic variation, FWHM 4 px",
    "simulated-rough": "Simulated 4k, rough variation (not polynomial), FWHM 4 px",
    "simulated-sharp": "Simulated 4k, quadratic variation, FWHM 2.4 px",
    "sdss-i": "SDSS i, field 4192-300",
    "ztf-r": "ZTF r, quadrant 655-c13-q3, FWHM 1.15 px",
    "star-stamps": "31 star stamps of Piff's tests (`testStarsRubin`)",
}
#: At most this many stars of a real image.
MOST_REAL = 300


@dataclass(frozen=True)
class Sample:
    """Stars of one exposure.

    Parameters
    ----------
    name
        One of `SIMULATED` or `REAL`.
    exposure
        Its size, detector, filter and noise.
    candidates
        All stars.
    reserved : bool, shape (n,)
        Stars that must not shape the model; for real samples those of one of several folds.
    truth
        For simulations: function of (x, y) that returns centred true stamps, float64, shape (n, 25, 25).
    """

    name: str
    exposure: Exposure
    candidates: PsfCandidates
    reserved: np.ndarray
    truth: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None


def _quadratic(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return relative size and the two ellipticities at positions."""
    u, v = 2 * x / WIDTH - 1, 2 * y / WIDTH - 1
    grow = 1 + 0.03 * u - 0.02 * v + 0.04 * u * u + 0.02 * u * v + 0.015 * v * v
    e1 = 0.04 + 0.03 * u + 0.02 * v * v - 0.015 * u * v
    e2 = 0.02 - 0.03 * v + 0.02 * u * v - 0.015 * u * u
    return grow, e1, e2


def _rough(rng: np.random.Generator) -> Callable[..., tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return the quadratic with random waves of 500 to 4000 pixels on it, as the atmosphere makes them."""
    waves = 40
    length = np.exp(rng.uniform(np.log(500.0), np.log(4000.0), waves))
    angle = rng.uniform(0, np.pi, waves)
    phase = rng.uniform(0, 2 * np.pi, (3, waves))
    power = length / np.sqrt((length**2).sum() / 2.0)

    def field(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        along = 2 * np.pi * (x[:, None] * np.cos(angle) + y[:, None] * np.sin(angle)) / length
        wave = [(power * np.cos(along + p)).sum(axis=1) for p in phase]
        grow, e1, e2 = _quadratic(x, y)
        return grow + 0.006 * wave[0], e1 + 0.012 * wave[1], e2 + 0.012 * wave[2]

    return field


def profile(
    side: int, fwhm: float, dx: np.ndarray, dy: np.ndarray, grow: np.ndarray, e1: np.ndarray, e2: np.ndarray
) -> np.ndarray:
    """Return sums of three elliptical Gaussians, sampled at pixel centres, sum 1 on the plane."""
    r = np.arange(side) - side // 2
    px, py = r[None, None, :] - dx[:, None, None], r[None, :, None] - dy[:, None, None]
    out = np.zeros((len(dx), side, side))
    for share, sigma in ((0.75, fwhm / 2.6), (0.22, fwhm / 1.8), (0.03, fwhm / 1.2)):
        area = (sigma * grow) ** 2
        xx, yy, xy = area * (1 + e1), area * (1 - e1), area * e2
        det = xx * yy - xy * xy
        xx, yy, xy = (a[:, None, None] for a in (xx, yy, xy))
        q = (yy * px * px - 2 * xy * px * py + xx * py * py) / det[:, None, None]
        out += share * np.exp(-0.5 * q) / (2 * np.pi * np.sqrt(det))[:, None, None]
    return out


def _blank(shape: tuple[int, int], band: str, sky: float, rng: np.random.Generator, gain: float) -> Exposure:
    """Return an exposure of noise."""
    height, width = shape
    detector = DetectorInfo(
        "Sim", "S0", 0, width, height, (Amplifier("A", (0, 0, width - 1, height - 1), gain, 5.0),)
    )
    image = rng.normal(size=shape).astype(np.float32) * np.float32(np.sqrt(sky))
    variance = np.full(shape, sky, np.float32)
    visit = VisitInfo(1, 30.0, 61000.0, band, band)
    return Exposure(image, variance, np.zeros(shape, np.int32), detector, visit)


def simulate(name: str, seed: int, n_fitted: int = FITTED) -> Sample:
    """Return a simulated sample; positions have the error of a good centroid."""
    fwhm, kind = SIMULATED[name]
    rng = np.random.default_rng([seed, sorted(SIMULATED).index(name), 0x95F])
    field = _quadratic if kind == "quadratic" else _rough(rng)
    n = n_fitted + RESERVED
    x, y = rng.uniform(25, WIDTH - 25, (2, n))
    flux = 10 ** rng.uniform(4.3, 6.0, n)
    model = profile(SIDE, fwhm, x - np.floor(x + 0.5), y - np.floor(y + 0.5), *field(x, y))
    model *= flux[:, None, None]
    signal_to_noise = np.sqrt((model * model / (SKY + model)).sum(axis=(1, 2)))
    image = model + rng.normal(size=model.shape) * np.sqrt(SKY + model)
    error = fwhm / 2.35 / signal_to_noise
    measured = [
        np.clip(p + error * rng.normal(size=n), np.floor(p + 0.5) - 0.5, np.floor(p + 0.5) + 0.4999)
        for p in (x, y)
    ]
    candidates = PsfCandidates(
        image.astype(np.float32), (SKY + np.maximum(image, -0.5 * SKY)).astype(np.float32),
        np.zeros(image.shape, np.int32), *measured, np.arange(n), np.full(n, np.nan),
    )  # fmt: skip

    def truth(tx: np.ndarray, ty: np.ndarray) -> np.ndarray:
        stamps = profile(25, fwhm, 0 * tx, 0 * ty, *field(tx, ty))
        return stamps / stamps.sum(axis=(1, 2), keepdims=True)

    exposure = _blank((WIDTH, WIDTH), "r", SKY, rng, 1.0)
    return Sample(name, exposure, candidates, np.arange(n) >= n_fitted, truth)


def _calibrated(name: str, data: Path) -> tuple[Exposure, PsfCandidates]:
    """Return the image and the candidates that the shipped pipeline chooses on it."""
    import real_data

    change = (
        ("psf_measure_psf.reserve.fraction", 0.0),
        ("psf_measure_psf.makePsfCandidates.kernelSize", SIDE),
    )
    if name == "sdss-i":
        done = real_data.sdss_frame("i", data, *change)
    else:
        done = real_data.calibrate(real_data.ztf_image(data), "ztf", real_data.ztf_references(data), *change)
    fit = done.run.result.psf_fit
    assert fit is not None
    exposure = done.run.result.exposure
    candidates = fit.candidates
    applied = done.run.result.applied_photo_calib
    if applied is not None:  # back to electrons
        scale = np.float32(applied.calibration_mean)
        exposure = Exposure(
            exposure.image / scale, exposure.variance / scale**2, exposure.mask, exposure.detector,
            exposure.visit_info, wcs=exposure.wcs,
        )  # fmt: skip
    return exposure, candidates


def _star_stamps(data: Path) -> tuple[Exposure, PsfCandidates]:
    """Return the stamps of Piff's test data.

    Their sky is over-subtracted by up to 100 counts, so the median of each frame is subtracted; their weights were
    already lowered for bright stars, so these get the typical variance, and photon noise at a gain of 1.
    """
    from astropy.io import fits

    row = fits.getdata(data / "des-psf-models" / "testStarsRubin.fits.gz", 1)[0]
    image, weight = np.array(row["IMAGE"], np.float64), np.array(row["WEIGHT"], np.float64)
    x, y = np.array(row["X"], np.float64), np.array(row["Y"], np.float64)
    side = image.shape[1]
    frame = np.ones((side, side), bool)
    frame[2:-2, 2:-2] = False
    image -= np.median(image[:, frame], axis=1)[:, None, None]
    sky = 1.0 / weight.max(axis=(1, 2))
    typical = float(np.median(sky))
    sky = np.where(sky > 1.5 * typical, typical, sky)
    # the stamps are around the pixel that holds the position, or the next one
    shift_x = np.floor(x + 0.5).astype(np.int64) - (np.array(row["XMIN"], np.int64) + side // 2)
    shift_y = np.floor(y + 0.5).astype(np.int64) - (np.array(row["YMIN"], np.int64) + side // 2)
    pad = (SIDE - side) // 2
    full = np.zeros((len(x), SIDE, SIDE))
    mask = np.full(full.shape, bitmask(["NO_DATA"]), np.int32)
    for k in range(len(x)):
        rows = slice(pad - shift_y[k], pad - shift_y[k] + side)
        cols = slice(pad - shift_x[k], pad - shift_x[k] + side)
        full[k, rows, cols] = image[k]
        mask[k, rows, cols] = np.where(weight[k] > 0, 0, bitmask(["BAD"]))
    variance = sky[:, None, None] + np.maximum(full, 0.0)
    candidates = PsfCandidates(
        full.astype(np.float32), variance.astype(np.float32), mask, x, y, np.arange(len(x)),
        np.full(len(x), np.nan),
    )  # fmt: skip
    return _blank((4096, 4096), "r", typical, np.random.default_rng(1), 1.0), candidates


def real(name: str, fold: int, n_folds: int, cache: Path, data: Path = DATA) -> Sample:
    """Return a real sample; the image is calibrated once, what is needed of it kept in ``cache``."""
    path = cache / f"{name}.pickle"
    if path.exists():
        exposure, candidates = pickle.loads(path.read_bytes())
    else:
        exposure, candidates = _star_stamps(data) if name == "star-stamps" else _calibrated(name, data)
        cache.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps((exposure, candidates)))
    order = np.random.default_rng(5).permutation(len(candidates))[:MOST_REAL]
    candidates = candidates.take(np.sort(order))
    folds = np.random.default_rng(7).permutation(len(candidates)) % n_folds
    return Sample(name, exposure, candidates, folds == fold)


def load(name: str, part: int, n_parts: int, cache: Path) -> Sample:
    """Return realization or fold ``part`` of a sample."""
    return simulate(name, part) if name in SIMULATED else real(name, part, n_parts, cache)
