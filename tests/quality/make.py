"""A calibrated image made of numbers: plain tables with known residuals, no pipeline behind them."""

from __future__ import annotations

import numpy as np
from astropy.table import Table
from lsst.images import ObservationSummaryStats

from zeropoint.datamodel.background import BackgroundComponent, BackgroundList
from zeropoint.datamodel.exposure import AB_FLUX_NJY, Amplifier, DetectorInfo, Exposure, PhotoCalib, VisitInfo
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.psf_model import GaussianPsf
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.quality.report_data import ReportData

ARCSEC = np.pi / 648000.0
SIGMA = 1.8
SKY, READ_NOISE = 400.0, 5.0
ZEROPOINT = 31.0


def exposure(shape=(300, 320), seed=5, calibrated=True):
    """Return noise on nothing, with every calibration attached."""
    rng = np.random.default_rng(seed)
    height, width = shape
    noise = np.sqrt(SKY + READ_NOISE**2)
    image = rng.normal(0.0, noise, shape).astype(np.float32)
    detector = DetectorInfo(
        "SimCam", "S00", 0, width, height, (Amplifier("A", (0, 0, width - 1, height - 1), 1.5, READ_NOISE),)
    )
    info = VisitInfo(7, 30.0, 61000.25, "r_sim", "r", airmass=1.1)
    wcs = SkyWcs.from_boresight(
        150.1,
        2.2,
        x=0.5 * (width - 1),
        y=0.5 * (height - 1),
        pixel_scale_arcsec=0.2,
        rotation_deg=20.0,
    )
    made = Exposure(
        image,
        np.full(shape, noise**2, np.float32),
        np.zeros(shape, np.int32),
        detector,
        info,
        psf=GaussianPsf(SIGMA, 25),
        wcs=wcs,
        photo_calib=PhotoCalib(AB_FLUX_NJY * 10 ** (-0.4 * ZEROPOINT), 1.0e-3),
        ap_corr_map={
            "base_PsfFlux_instFlux": ChebyshevPolynomial(
                width, height, np.array([[1.02, 0.005], [0.0, 0.0]])
            ),
            "base_PsfFlux_instFluxErr": ChebyshevPolynomial.constant(width, height, 0.004),
        },
    )
    made.mask[10:14, 20:26] |= 2
    made.mask[100, 50] |= 8
    if calibrated:
        scale = AB_FLUX_NJY * 10 ** (-0.4 * ZEROPOINT)
        made.image *= np.float32(scale)
        made.variance *= np.float32(scale**2)
        made.photo_calib = PhotoCalib(1.0, 0.002 * np.log(10) / 2.5)
    return made


def photo_calib(shape):
    """Return a calibration that varies by 4 % from left to right."""
    mean = float(AB_FLUX_NJY * 10 ** (-0.4 * ZEROPOINT))
    field = ChebyshevPolynomial(shape[1], shape[0], mean * np.array([[1.0, 0.02], [0.0, 0.0]]))
    return PhotoCalib(mean, 0.002 * mean, field)


def stars(exposure, n=200, seed=6, n_sky=20):
    """Return a catalogue of isolated stars; sizes are 0.4 % above the PSF's, ellipticities exact."""
    rng = np.random.default_rng(seed)
    height, width = exposure.shape
    total = n + n_sky
    table = Table()
    table["id"] = np.arange(1, total + 1)
    x, y = rng.uniform(5, width - 6, total), rng.uniform(5, height - 6, total)
    mag = np.sort(rng.uniform(17.0, 23.0, total))
    flux = 10 ** (0.4 * (ZEROPOINT - mag))
    err = np.sqrt(flux + 4 * np.pi * SIGMA**2 * (SKY + READ_NOISE**2))
    table["slot_Centroid_x"], table["slot_Centroid_y"] = x, y
    ra, dec = exposure.wcs.pixel_to_sky(x=x, y=y)
    table["coord_ra"], table["coord_dec"] = ra, dec
    for slot in ("slot_PsfFlux", "slot_CalibFlux"):
        table[f"{slot}_instFlux"], table[f"{slot}_instFluxErr"] = flux, err
    shape = SIGMA**2 * (1.004 + rng.normal(0, 0.3, total) * err / flux)
    table["slot_Shape_xx"], table["slot_Shape_yy"], table["slot_Shape_xy"] = shape, shape, 0.0 * shape
    table["slot_PsfShape_xx"] = table["slot_PsfShape_yy"] = np.full(total, SIGMA**2)
    table["slot_PsfShape_xy"] = np.zeros(total)
    index = np.arange(total)
    sky = index >= n
    table["sky_source"] = sky
    table["detect_isPrimary"] = ~sky
    table["calib_psf_candidate"] = (index < 80) & ~sky
    table["calib_psf_reserved"] = (index < 80) & (index % 8 == 0)
    table["calib_psf_used"] = table["calib_psf_candidate"] & ~table["calib_psf_reserved"]
    table["calib_astrometry_used"] = index < 60
    table["base_CircularApertureFlux_12_0_instFlux"] = np.where(sky, rng.normal(0, 400, total), flux)
    return table


def matches(stars, rows, rng, *, position_error=0.01, magnitude_error=0.02):
    """Return matches of some rows: references scatter about the truth, in two bands, colour term 0."""
    n = len(rows)
    table = Table()
    east, north = rng.normal(0, position_error, (2, n)) * ARCSEC
    dec = np.asarray(stars["coord_dec"])[rows] + north
    table["ref_coord_ra"] = np.asarray(stars["coord_ra"])[rows] + east / np.cos(dec)
    table["ref_coord_dec"] = dec
    mag = ZEROPOINT - 2.5 * np.log10(np.asarray(stars["slot_PsfFlux_instFlux"])[rows])
    for band, color in (("g", rng.uniform(0.3, 1.5, n)), ("r", 0.0)):
        noisy = mag + color + (rng.normal(0, magnitude_error, n) if band == "r" else 0.0)
        table[f"ref_{band}_flux"] = AB_FLUX_NJY * 10 ** (-0.4 * noisy)
        table[f"ref_{band}_fluxErr"] = table[f"ref_{band}_flux"] * magnitude_error * 0.92
    for name in stars.colnames:
        table[f"src_{name}"] = stars[name][rows]
    table["distance"] = np.hypot(east, north)
    table["used"] = np.ones(n, bool)
    return table


def summary(**values):
    """Return a summary in closed form."""
    known = {
        "psfSigma": SIGMA,
        "psfArea": 4 * np.pi * SIGMA**2,
        "pixelScale": 0.2,
        "ra": 150.1,
        "dec": 2.2,
        "expTime": 30.0,
        "zeroPoint": ZEROPOINT,
        "skyBg": SKY,
        "skyNoise": float(np.sqrt(SKY + READ_NOISE**2)),
        "meanVar": SKY + READ_NOISE**2,
        "starEMedian": 0.02,
        "psfTraceRadiusDelta": 0.05,
        "magLim": 24.4,
        "effTime": 27.0,
        "nPsfStar": 70,
        "astromOffsetMean": 0.014,
        "astromOffsetStd": 0.007,
    }
    return ObservationSummaryStats(**(known | values))


GOOD_EXTRA = {
    "hold_out_east": 0.011,
    "hold_out_north": 0.012,
    "n_chance_expected": 0.4,
    "log10_false_probability": -60.0,
    "n_sources": 70,
    "n_references": 90,
    "hold_out_scatter": 0.021,
    "hold_out_zp_std": 0.003,
    "zeropoint_err": 0.002,
    "zeropoint_field_order": 1,
    "zeropoint_field_range_mag": 0.0434,
    "zeropoint_field_max_error_mag": 0.004,
    "zeropoint_field_hold_out_0": 0.017,
    "zeropoint_field_hold_out_1": 0.012,
}


def report_data(shape=(300, 320), seed=5, **changes):
    """Return a good image's data; keyword arguments replace fields."""
    rng = np.random.default_rng([seed, 1])
    exp = exposure(shape, seed)
    table = stars(exp)
    component = BackgroundComponent(
        np.full((3, 3), 400.0),
        np.ones((3, 3)),
        np.array([50.0, 150.0, 250.0]),
        np.array([50.0, 150.0, 250.0]),
        shape[1],
        shape[0],
        "CHEBYSHEV",
        ChebyshevPolynomial(shape[1], shape[0], np.array([[400.0, 5.0], [3.0, 0.0]])),
    )
    values = {
        "stem": "made-r-007",
        "image_path": "night1/made-r-007.fits",
        "exposure": exp,
        "unit": "nJy",
        "summary": summary(),
        "stars": table,
        "psf_stars": table[:100],
        "astrometry_matches": matches(table, np.arange(60), rng),
        "photometry_matches": matches(table, np.arange(120), rng),
        "background": BackgroundList([component]),
        "metadata": {"cosmic_ray_count": 12, "initial_to_final_wcs": 2.9},
        "stages": [
            ("background", 0.4, 0.45, {"sky": 400.0}),
            ("detection", 0.8, 0.9, {"sources": 210}),
            ("psf", 1.1, 1.2, {"sigma_pix": SIGMA}),
            ("photometry", 0.1, 0.1, {"zeropoint": ZEROPOINT}),
        ],
        "config_changes": [("psf_detection.thresholdValue", 8.0, 10.0)],
        "versions": {"zeropoint": "0.1.0", "numpy": "2.1"},
        "camera": "SimCam",
        "band": "r",
        "references": "made-up stars",
        "extra": dict(GOOD_EXTRA),
        "flux_scale": float(AB_FLUX_NJY * 10 ** (-0.4 * ZEROPOINT)),
        "photo_calib": photo_calib(shape),
    }
    return ReportData(**(values | changes))
