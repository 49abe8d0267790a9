"""Absolute calibration after the fit: what standard stars and a reference catalogue differ by in each band."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import hpgeom
import numpy as np
import numpy.typing as npt
from astropy.table import Column, Table

from zeropoint.catalogs.references import ReferenceCatalog, ReferenceObjectLoader
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.exposure import DetectorInfo, Exposure, VisitInfo
from zeropoint.errors import MatcherFailure, NoReferenceOffsetsError, NoReferenceSourcesError
from zeropoint.fgcm.accounting import META_KEY, Accounting
from zeropoint.fgcm.magnitudes import MAG_PER_LN
from zeropoint.fgcm.outputs.config import FgcmOutputProductsConfigBase
from zeropoint.fgcm.outputs.tables import bands_of, require_columns
from zeropoint.fgcm.progress import OnProgress
from zeropoint.fgcm.reference_loading import pixel_circle
from zeropoint.fgcm.terms.groups import MAD_TO_SIGMA

__all__ = ["ReferenceOffsets", "reference_offsets"]

_log = logging.getLogger(__name__)

#: Seed of the choice of pixels.
_SEED = 64
_FILLER = 90.0
_ARCSEC_PER_DEG = 3600.0
_NO_MATCH = "no_match"

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class ReferenceOffsets:
    """What is to be added to the magnitudes of each band.

    Parameters
    ----------
    bands
        Bands.
    offset, sigma : float64, shape (n_bands,)
        Median of the pixels' zeropoints, and its standard error: from their scatter or from their own errors, whichever is
        larger; mag.
    n_pixels, n_matches : int64, shape (n_bands,)
        Pixels that count, and the stars in them that have a reference.
    accounting
        Stages ``reference_pixels_BAND``.
    """

    bands: tuple[str, ...]
    offset: FloatArray
    sigma: FloatArray
    n_pixels: IntArray
    n_matches: IntArray
    accounting: Accounting = field(default_factory=Accounting)

    def by_band(self) -> dict[str, float]:
        """Return band -> offset."""
        return dict(zip(self.bands, self.offset.tolist(), strict=True))

    def to_table(self) -> Table:
        """Return ``fgcmReferenceCalibrationOffsets``: one row for each band."""
        return Table(
            [
                Column(self.offset, "offset", unit="mag", description="To be added to magnitudes"),
                Column(list(self.bands), "band", description="Band"),
                Column(self.sigma, "offsetErr", unit="mag", description="Standard error of offset"),
                Column(self.n_pixels, "nPixel", description="HEALPix pixels that count"),
                Column(self.n_matches, "nMatch", description="Stars with a reference in these pixels"),
            ],
            meta={META_KEY: self.accounting.to_meta()},
        )


@dataclass(frozen=True)
class _Stars:
    """Standard stars seen in all bands."""

    ra: FloatArray
    dec: FloatArray
    flux: FloatArray
    flux_err: FloatArray
    bad: npt.NDArray[np.bool_]

    def catalog(self, rows: IntArray, band: int, schema: Schema) -> SourceCatalog:
        """Return some of the stars with the fluxes of a band."""
        values = {
            "coord_ra": self.ra[rows],
            "coord_dec": self.dec[rows],
            "instFlux": self.flux[rows, band],
            "instFluxErr": self.flux_err[rows, band],
            "flag_badStar": self.bad[rows, band],
        }
        columns = {spec.name: values.get(spec.name, spec.empty(len(rows))) for spec in schema}
        return SourceCatalog(schema, columns=columns)


def reference_offsets(
    stars: Table,
    loader: ReferenceObjectLoader,
    config: FgcmOutputProductsConfigBase,
    *,
    standard_filters: Mapping[str, str],
    mjd: float = float("nan"),
    on_progress: OnProgress | None = None,
) -> ReferenceOffsets:
    """Compare standard stars with a reference catalogue in a sample of HEALPix pixels.

    Parameters
    ----------
    stars
        ``fgcm_Cycle{N}_StandardStars``, with its metadata. Stars with a good observation in every band are used.
    loader
        Reference catalogue.
    config
        Sizes and numbers of pixels, and the comparison.
    standard_filters
        Band -> physical filter of its standard passband, by which colour terms are looked up.
    mjd
        Time (MJD, TAI) to which the references' positions are moved; NaN: they stay.
    on_progress
        Told of the pixels done.

    Raises
    ------
    NoReferenceOffsetsError
        If in a band no pixel has enough stars with a reference.
    InvalidInputError
        If columns are missing, or the catalogue lacks a band or what colour terms need.

    Notes
    -----
    The median of the pixels' zeropoints is the offset of a band, the same pixels being used for all bands.  The choice of
    pixels, where there are more than ``referencePixelizationNPixels``, is always the same.
    """
    require_columns(
        stars, "standard stars", ("coord_ra", "coord_dec", "ngood", "mag_std_noabs", "magErr_std")
    )
    bands = bands_of(stars)
    chosen = _seen_in_all(stars, len(bands))
    groups = _pixels(chosen, config)
    comparison = [_Comparison(config, k, band, standard_filters[band]) for k, band in enumerate(bands)]
    for done, (pixel, rows) in enumerate(groups):
        for each in comparison:
            each.add(chosen, rows, pixel, config.referencePixelizationNside, loader, mjd)
        if on_progress is not None:
            on_progress("reference offsets", done + 1, len(groups))
    return _summary(comparison, config)


def _seen_in_all(stars: Table, n_bands: int) -> _Stars:
    """Return the stars with a good observation in every band."""
    shape = (len(stars), n_bands)
    rows = (np.asarray(stars["ngood"]).reshape(shape) >= 1).all(axis=1)
    mag, err = (
        np.asarray(stars[name], np.float64).reshape(shape)[rows] for name in ("mag_std_noabs", "magErr_std")
    )
    bad = ~(np.isfinite(mag) & (mag < _FILLER) & np.isfinite(err))
    flux = np.where(bad, 1.0, 10.0 ** (-0.4 * np.where(bad, 0.0, mag)))
    ra, dec = (np.asarray(stars[name], np.float64)[rows] for name in ("coord_ra", "coord_dec"))
    _log.info("%d of %d standard stars have a good observation in each band.", rows.sum(), len(stars))
    return _Stars(ra, dec, flux, flux * np.where(bad, 1.0, err) / MAG_PER_LN, bad)


def _pixels(stars: _Stars, config: FgcmOutputProductsConfigBase) -> list[tuple[int, IntArray]]:
    """Return the pixels in which stars are compared, ascending, and the rows of their stars."""
    pixel = hpgeom.angle_to_pixel(
        config.referencePixelizationNside, np.rad2deg(stars.ra) % 360.0, np.rad2deg(stars.dec), nest=False
    )
    order = np.argsort(pixel, kind="stable")
    numbers, start, count = np.unique(pixel[order], return_index=True, return_counts=True)
    enough = np.flatnonzero(count >= config.referencePixelizationMinStars)
    wanted = config.referencePixelizationNPixels
    if len(enough) > wanted:
        enough = np.sort(np.random.default_rng(_SEED).choice(enough, size=wanted, replace=False))
    else:
        _log.info(
            "%d pixels (nside %d) have %d stars or more.",
            len(enough),
            config.referencePixelizationNside,
            config.referencePixelizationMinStars,
        )
    return [(int(numbers[k]), np.sort(order[start[k] : start[k] + count[k]])) for k in enough]


class _Comparison:
    """The zeropoints of one band's pixels."""

    def __init__(
        self, config: FgcmOutputProductsConfigBase, index: int, band: str, physical_filter: str
    ) -> None:
        self.config, self.index, self.band, self.physical_filter = config, index, band, physical_filter
        self.zeropoint: list[float] = []
        self.sigma: list[float] = []
        self.n_matched: list[int] = []

    def add(
        self,
        stars: _Stars,
        rows: IntArray,
        pixel: int,
        nside: int,
        loader: ReferenceObjectLoader,
        mjd: float,
    ) -> None:
        """Compare the stars of a pixel; one without matches gets none."""
        ra, dec, radius = pixel_circle(nside, pixel, nest=False)
        margin = float(self.config.photoCal.match.matchRadius) / _ARCSEC_PER_DEG
        try:
            references = loader.load_circle(
                ra=np.deg2rad(ra),
                dec=np.deg2rad(dec),
                radius=np.deg2rad(radius + margin),
                band=self.band,
                mjd_tai=mjd,
            )
            result = self._compare(stars, rows, references)
        except (MatcherFailure, NoReferenceSourcesError) as failure:
            _log.debug("Pixel %d, %s: %s", pixel, self.band, failure)
            self.zeropoint.append(np.nan)
            self.sigma.append(np.nan)
            self.n_matched.append(0)
            return
        self.zeropoint.append(result.zp)
        self.sigma.append(result.sigma)
        self.n_matched.append(len(result.match_src))

    def _compare(self, stars: _Stars, rows: IntArray, references: ReferenceCatalog) -> Any:
        photo_cal = copy.deepcopy(self.config.photoCal.value)
        limits = photo_cal.match.referenceSelection.signalToNoise
        limits.fluxField, limits.errField = references.flux_field, f"{references.flux_field}Err"
        schema = Schema()
        schema.add(
            ColumnSpec("coord_ra", "f8", "rad", "Right ascension, ICRS"),
            ColumnSpec("coord_dec", "f8", "rad", "Declination, ICRS"),
            ColumnSpec("instFlux", "f8", "count", "Flux of the standard magnitude"),
            ColumnSpec("instFluxErr", "f8", "count", "Its error"),
            ColumnSpec("flag_badStar", "bool", "", "Set if there is no magnitude"),
        )
        step = self.config.photoCal.target(photo_cal, schema=schema)
        return step.run(
            _no_exposure(self.band, self.physical_filter), stars.catalog(rows, self.index, schema), references
        )


def _no_exposure(band: str, physical_filter: str) -> Exposure:
    """Return an exposure that says nothing but its filter, for the comparison."""
    image = np.zeros((1, 1), np.float32)
    detector = DetectorInfo("", "", 0, 1, 1, ())
    visit = VisitInfo(0, np.nan, np.nan, physical_filter, band)
    return Exposure(image, image, np.zeros((1, 1), np.int32), detector, visit)


def _summary(comparison: Sequence[_Comparison], config: FgcmOutputProductsConfigBase) -> ReferenceOffsets:
    """Return the medians of the pixels that count.

    Raises
    ------
    NoReferenceOffsetsError
        If a band has none.
    """
    accounting = Accounting()
    rows = []
    for each in comparison:
        matched, zeropoint = np.array(each.n_matched, np.int64), np.array(each.zeropoint, np.float64)
        good = (matched >= config.referenceMinMatch) & np.isfinite(zeropoint)
        none = int(np.count_nonzero(matched == 0))
        rejected = {_NO_MATCH: none, "few_matches": int(len(good) - good.sum()) - none}
        stage = f"reference_pixels_{each.band}"
        accounting.add(stage, read=len(good), kept=int(good.sum()), rejected=rejected)
        if not good.any():
            raise NoReferenceOffsetsError(
                f"Band {each.band}: none of {len(good)} HEALPix pixels has {config.referenceMinMatch} standard stars in the "
                "reference catalogue; does it cover the survey? Else make referencePixelizationNside, "
                "referencePixelizationMinStars or referenceMinMatch smaller.",
                band=each.band,
                nPixels=len(good),
                nMatches=int(matched.sum()),
            )
        values = zeropoint[good]
        offset = float(np.median(values))
        # both of a mean, widened by what a median is worse by; the scatter of a few pixels may be too small by chance
        widen = np.sqrt(0.5 * np.pi / len(values))
        scatter = MAD_TO_SIGMA * float(np.median(np.abs(values - offset)))
        error = float(widen * max(scatter, float(np.sqrt(np.mean(np.square(np.array(each.sigma)[good]))))))
        rows.append((offset, error, int(good.sum()), int(matched[good].sum())))
        _log.info("Reference offset of %s: %.4f +- %.4f mag from %d pixels.", each.band, *rows[-1][:3])
    offsets, errors, n_pixels, n_matches = zip(*rows, strict=True)
    return ReferenceOffsets(
        tuple(each.band for each in comparison),
        np.array(offsets, np.float64),
        np.array(errors, np.float64),
        np.array(n_pixels, np.int64),
        np.array(n_matches, np.int64),
        accounting,
    )
