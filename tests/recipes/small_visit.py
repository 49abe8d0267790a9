"""A visit of two detectors made of numbers: images, preliminary summary, stars, and final components."""

from __future__ import annotations

from dataclasses import dataclass, replace

import astropy.units as u
import numpy as np
from astropy.table import Table
from lsst.images import Box, VisitImage

from quality import make
from zeropoint.datamodel.background import BackgroundComponent, BackgroundList
from zeropoint.datamodel.exposure import Exposure, PhotoCalib
from zeropoint.datamodel.exposure_catalog import ExposureCatalog, ExposureRow
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.psf_model import GaussianPsf
from zeropoint.datamodel.visit_image import visit_image
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.photometry.calibrate import calibrate_pixels_in_place
from zeropoint.psf.piff_io import to_lsst_psf
from zeropoint.quality.summary import ComputeExposureSummaryStats
from zeropoint.quality.visit_summary import DetectorSummary, make_visit_summary

VISIT = 7
DETECTORS = (3, 5)
SHAPE = (120, 160)
BOX = Box.factory[0 : SHAPE[0], 0 : SHAPE[1]]
#: The preliminary and the final PSF, pixels.
SIGMA, FINAL_SIGMA = make.SIGMA, 2.1
SKY = 400.0


def detector_wcs(detector: int, *, shift_arcsec: float = 0.0) -> SkyWcs:
    """Return the WCS of a detector; the two lie 40 arcsec apart in declination."""
    dec = 2.2 + (detector - 4) * 20.0 / 3600.0 + shift_arcsec / 3600.0
    x, y = 0.5 * (SHAPE[1] - 1), 0.5 * (SHAPE[0] - 1)
    return SkyWcs.from_boresight(150.1, dec, x=x, y=y, pixel_scale_arcsec=0.2, rotation_deg=20.0)


def detector_exposure(detector: int) -> Exposure:
    """Return noise in electrons with preliminary calibrations; the noise of each detector is its own."""
    exposure = make.exposure(SHAPE, seed=detector, calibrated=False)
    exposure.detector = replace(exposure.detector, id=detector, name=f"S{detector:02d}")
    exposure.wcs = detector_wcs(detector)
    return exposure


def background(level: float = SKY, slope: float = 0.0) -> BackgroundList:
    """Return a background with a level, which rises along x by ``slope`` from edge to edge."""
    width, height = SHAPE[1], SHAPE[0]
    polynomial = ChebyshevPolynomial(width, height, np.array([[level, 0.5 * slope]]))
    x, y = np.linspace(20.0, width - 21.0, 3), np.linspace(20.0, height - 21.0, 3)
    values = polynomial(x=x[None, :], y=y[:, None])
    style = "CHEBYSHEV"
    return BackgroundList(
        [BackgroundComponent(values, values, x, y, width, height, style, polynomial=polynomial)]
    )


def stars(sigma: float = FINAL_SIGMA) -> Table:
    """Return six stars on each detector, four of them used for the PSF, rounder and larger than it by a little."""
    rng = np.random.default_rng(17)
    n = 6 * len(DETECTORS)
    coordinates = np.empty((2, n))
    variance = sigma**2 * (1.0 + 0.02 * rng.normal(size=(3, n)))
    table = Table()
    table["detector"] = np.repeat(np.array(DETECTORS, np.int32), 6)
    for part, row in zip(("xx", "yy"), variance):
        table[f"slot_Shape_{part}"] = row
        table[f"slot_PsfShape_{part}"] = np.full(n, sigma**2)
    table["slot_Shape_xy"], table["slot_PsfShape_xy"] = 0.02 * variance[2], np.zeros(n)
    table["slot_Centroid_x"] = rng.uniform(5, SHAPE[1] - 5, n)
    table["slot_Centroid_y"] = rng.uniform(5, SHAPE[0] - 5, n)
    for detector in DETECTORS:
        own = table["detector"] == detector
        sky = detector_wcs(detector).pixel_to_sky(
            x=table["slot_Centroid_x"][own], y=table["slot_Centroid_y"][own]
        )
        coordinates[:, own] = sky
    table["coord_ra"], table["coord_dec"] = coordinates
    table["slot_PsfFlux_instFlux"], table["slot_PsfFlux_instFluxErr"] = np.full(n, 1e5), np.full(n, 1e3)
    table["calib_psf_used"] = np.tile([True, True, True, True, False, False], len(DETECTORS))
    for name in ("slot_Shape_flag", "slot_PsfFlux_flag"):
        table[name] = np.zeros(n, bool)
    return table


def of_detector(table: Table, detector: int) -> Table:
    """Return the stars of one detector."""
    return table[table["detector"] == detector]


def final_ap_corr() -> dict[str, ChebyshevPolynomial]:
    """Return aperture corrections that vary more than the preliminary ones."""
    field = ChebyshevPolynomial(SHAPE[1], SHAPE[0], np.array([[1.04, 0.02], [0.01, 0.0]]))
    return {"base_PsfFlux_instFlux": field}


def final_psfs(detectors: tuple[int, ...] = DETECTORS, visit: int = VISIT) -> ExposureCatalog:
    """Return the catalogue of final PSFs and aperture corrections."""
    psf = to_lsst_psf(GaussianPsf(FINAL_SIGMA, 25), BOX)
    return ExposureCatalog.from_rows(
        [ExposureRow(d, visit, bbox=BOX, psf=psf, ap_corr_map=final_ap_corr()) for d in detectors]
    )


def wcs_catalog(wcs: dict[int, SkyWcs | None], *, bbox: Box | None = BOX) -> ExposureCatalog:
    """Return a catalogue of WCSs."""
    return ExposureCatalog.from_rows([ExposureRow(d, VISIT, bbox=bbox, wcs=w) for d, w in wcs.items()])


@dataclass(frozen=True)
class SmallVisit:
    """The visit.

    Parameters
    ----------
    exposures
        Working exposures in electrons, with the preliminary calibrations.
    images
        The same as calibrated images.
    summary
        Preliminary summary.
    """

    exposures: dict[int, Exposure]
    images: dict[int, VisitImage]
    summary: ExposureCatalog


def make_small_visit(*, nanojansky: bool) -> SmallVisit:
    """Return the visit with images in nJy or in electrons."""
    exposures, images, parts = {}, {}, []
    for detector in DETECTORS:
        exposure = detector_exposure(detector)
        statistics = ComputeExposureSummaryStats().run(
            exposure, of_detector(stars(SIGMA), detector), background()
        )
        exposures[detector], pixels, subtracted = exposure, exposure.copy(), background()
        calib = exposure.photo_calib
        assert calib is not None
        if nanojansky:
            subtracted = calibrate_pixels_in_place(pixels, subtracted, calib)
        image = visit_image(
            pixels,
            psf=to_lsst_psf(exposure.psf, BOX),
            unit=u.nJy if nanojansky else u.electron,
            summary=statistics,
            background=subtracted,
            applied=PhotoCalib(calib.calibration_mean),
        )
        images[detector] = image
        parts.append(
            DetectorSummary(
                detector,
                image.bbox,
                image.physical_filter,
                image.band,
                image.obs_info,
                image.sky_projection,
                image.photometric_scaling,
                statistics,
            )
        )
    return SmallVisit(exposures, images, make_visit_summary(VISIT, parts))


def black_visit(wcs: dict[int, SkyWcs], box: Box) -> SmallVisit:
    """Return a visit of black images in electrons without statistics, photometric calibration or corrections."""
    images, parts = {}, []
    shape = (box.y.size, box.x.size)
    for detector, each in wcs.items():
        black = np.zeros(shape, np.float32)
        exposure = replace(
            detector_exposure(DETECTORS[0]),
            image=black,
            variance=black + np.float32(1),
            mask=black.astype(np.int32),
            wcs=each,
            ap_corr_map=None,
        )
        exposure.detector = replace(exposure.detector, id=detector, width=shape[1], height=shape[0])
        image = visit_image(exposure, psf=to_lsst_psf(exposure.psf, box), unit=u.electron)
        images[detector] = image
        parts.append(
            DetectorSummary(detector, box, "r_sim", "r", image.obs_info, image.sky_projection, None, None)
        )
    return SmallVisit({}, images, make_visit_summary(VISIT, parts))
