"""Fit the WCS of an exposure: select, match, reject, fit, and again with the better WCS."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from zeropoint.astrometry.config import AstrometryConfig, FitSipApproximationConfig
from zeropoint.astrometry.fiducial_cull import fiducial_reference_cull
from zeropoint.astrometry.hold_out import hold_out_rms
from zeropoint.astrometry.matcher import MatchResult
from zeropoint.astrometry.sky_coords import clear_sky_coords, update_sky_coords
from zeropoint.astrometry.wcs_fit import MatchedStars, WcsFitResult, separation_arcsec
from zeropoint.catalogs.references import ReferenceCatalog
from zeropoint.datamodel.catalog import ColumnSpec, Schema, SourceCatalog
from zeropoint.datamodel.exposure import AB_FLUX_NJY, Exposure
from zeropoint.datamodel.wcs import SkyWcs, angular_separation
from zeropoint.errors import AstrometryError, BadAstrometryFit
from zeropoint.kernels.statistics import clipped_stats

__all__ = ["Astrometry", "AstrometryConfig", "AstrometryResult", "FitSipApproximationConfig"]

_log = logging.getLogger(__name__)
_ARCSEC = np.pi / 648000.0


@dataclass(frozen=True)
class AstrometryResult:
    """A fitted WCS and its matches.

    Parameters
    ----------
    wcs
        The WCS, also set on the exposure.
    match_ref, match_src : int64, shape (n,)
        Rows of the reference table and of the catalogue.
    distance_rad : float64, shape (n,)
        Separation of each match under ``wcs``, radians.
    used : bool, shape (n,)
        Matches that the fit used.
    offset_mean, offset_std, offset_median
        Clipped mean and standard deviation, and median, of the separations, arcsec.
    initial_to_final_wcs
        Separation of the image's middle under the initial and the final WCS, arcsec.
    hold_out_east, hold_out_north
        Robust rms of stars against fits without them, arcsec; NaN below ten matches.
    n_sources, n_references
        How many were selected; of the references, those on the image under ``wcs``.
    n_chance_expected, log10_false_probability
        See `zeropoint.astrometry.matcher.MatchOdds`.
    metadata
        All of it and the fitter's own, plain scalars.
    """

    wcs: SkyWcs
    match_ref: np.ndarray
    match_src: np.ndarray
    distance_rad: np.ndarray
    used: np.ndarray
    offset_mean: float
    offset_std: float
    offset_median: float
    initial_to_final_wcs: float
    hold_out_east: float
    hold_out_north: float
    n_sources: int
    n_references: int
    n_chance_expected: float
    log10_false_probability: float
    metadata: dict[str, int | float | str] = field(default_factory=dict)


@dataclass(frozen=True)
class _Inputs:
    """Selected rows as arrays."""

    source_rows: np.ndarray
    reference_rows: np.ndarray
    stars: dict[str, np.ndarray]
    references: dict[str, np.ndarray]


@dataclass(frozen=True)
class _Round:
    wcs: SkyWcs
    match: MatchResult
    stars: MatchedStars
    fit: WcsFitResult
    distance: np.ndarray


class Astrometry:
    """Fit the WCS of an exposure; `run` sets the exposure's WCS and the catalogue's coordinates in place.

    Parameters
    ----------
    config
        Configuration.
    schema
        If given, the flag ``calib_astrometry_used`` is appended.
    """

    ConfigClass = AstrometryConfig

    def __init__(self, config: AstrometryConfig | None = None, *, schema: Schema | None = None) -> None:
        self.config: Any = AstrometryConfig() if config is None else config
        self.matcher = self.config.matcher.apply()
        self.fitter = self.config.wcsFitter.apply()
        self.source_selector = self.config.sourceSelector.apply()
        self.reference_selector = self.config.referenceSelector.apply()
        if schema is not None:
            schema.add(
                ColumnSpec(
                    "calib_astrometry_used",
                    "bool",
                    "",
                    "Set if the source was used in astrometric calibration.",
                )
            )

    def run(
        self, exposure: Exposure, catalog: SourceCatalog, references: ReferenceCatalog
    ) -> AstrometryResult:
        """Fit the WCS; sets ``exposure.wcs``, header values, coordinates and ``calib_astrometry_used`` in place.

        Parameters
        ----------
        exposure
            With an initial WCS.
        catalog
            Measured sources.
        references
            Loaded references around the image.

        Raises
        ------
        AstrometryError
            If there is nothing to match, no match or no fit.  The exposure's WCS is then None, the catalogue's
            coordinates are NaN and the error's metadata has ``iterations``.
        """
        initial = exposure.wcs
        iterations = 0
        try:
            if initial is None:
                raise AstrometryError(
                    "The exposure has no initial WCS; give one in the camera card or the header."
                )
            inputs = self._inputs(exposure, catalog, references)
            current, last = initial, None
            while iterations < (1 if self.config.forceKnownWcs else self.config.maxIter):
                iterations += 1
                new = self._round(exposure, inputs, current)
                same = last is not None and np.array_equal(last.match.match_src, new.match.match_src)
                current, last = new.wcs, new
                mean, std, _ = clipped_stats(new.distance)
                if same or mean + self.config.matchDistanceSigma * std <= self.config.minMatchDistanceArcSec:
                    break
            assert last is not None
        except AstrometryError as error:
            clear_sky_coords(catalog)
            exposure.wcs = None
            error.metadata["iterations"] = iterations
            raise
        return self._finish(exposure, catalog, initial, inputs, last, iterations)

    def check(self, exposure: Exposure, catalog: SourceCatalog, n_matches: int) -> None:
        """Check the fit; clears ``exposure.wcs`` and the coordinates in place if it is bad.

        Raises
        ------
        BadAstrometryFit
            If the mean offset exceeds ``maxMeanDistanceArcsec`` or is unknown.
        """
        mean = float(exposure.metadata.get("SFM_ASTROM_OFFSET_MEAN", np.nan))
        limit = float(self.config.maxMeanDistanceArcsec)
        if mean <= limit:
            return
        exposure.wcs = None
        clear_sky_coords(catalog)
        raise BadAstrometryFit(
            f"The mean separation of {n_matches} matches is {mean:.3g} arcsec, above maxMeanDistanceArcsec = "
            f"{limit:g}; the WCS is not good enough.",
            nMatches=int(n_matches),
            distMean=mean,
            maxMeanDist=limit,
            distMedian=float(exposure.metadata.get("SFM_ASTROM_OFFSET_MEDIAN", np.nan)),
        )

    # -- parts ------------------------------------------------------------------------------------------

    def _inputs(self, exposure: Exposure, catalog: SourceCatalog, references: ReferenceCatalog) -> _Inputs:
        """Select sources and references and pull out their columns."""
        flux_field = f"slot_{self.config.sourceFluxType}Flux_instFlux"
        selection = self.source_selector.run(catalog, exposure=exposure)
        finite = np.isfinite(catalog["slot_Centroid_x"]) & np.isfinite(catalog["slot_Centroid_y"])
        source_rows = np.flatnonzero(selection.selected & finite)
        if len(source_rows) == 0:
            raise AstrometryError(
                f"None of {len(catalog)} sources is good enough for astrometry: "
                f"{self.source_selector.why_none(selection)}",
                lenSourceSelectionCat=0,
                n_sources=len(catalog),
            )
        stars = {
            "x": catalog["slot_Centroid_x"][source_rows].astype(np.float64),
            "y": catalog["slot_Centroid_y"][source_rows].astype(np.float64),
            "mag": _magnitude(catalog[flux_field][source_rows], 1.0),
        }
        for axis in ("x", "y"):
            name = f"slot_Centroid_{axis}Err"
            known = name in catalog
            stars[f"{axis}_err"] = (
                catalog[name][source_rows].astype(np.float64) if known else np.full(len(source_rows), np.nan)
            )
        reference_rows, columns = self._reference_columns(exposure, references, stars["mag"])
        return _Inputs(source_rows, reference_rows, stars, columns)

    def _reference_columns(
        self, exposure: Exposure, references: ReferenceCatalog, source_mag: np.ndarray
    ) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        table = references.table
        selection = self.reference_selector.run(table, exposure=exposure)
        selected = selection.selected
        if len(table) > 0 and not selected.any():
            raise AstrometryError(
                f"No reference is good enough for astrometry: {self.reference_selector.why_none(selection)}",
                n_references=len(table),
            )
        mag = _magnitude(np.asarray(table[references.flux_field], np.float64), AB_FLUX_NJY)
        if self.config.doFiducialZeroPointCull:
            selected = selected & self._fiducial_cull(exposure, source_mag, mag)
        rows = np.flatnonzero(selected)
        columns = {"mag": mag[rows]}
        for key, name in (
            ("ra", "coord_ra"),
            ("dec", "coord_dec"),
            ("ra_err", "coord_raErr"),
            ("dec_err", "coord_decErr"),
        ):
            columns[key] = (
                np.asarray(table[name], np.float64)[rows]
                if name in table.colnames
                else np.full(len(rows), np.nan)
            )
        return rows, columns

    def _fiducial_cull(self, exposure: Exposure, source_mag: np.ndarray, ref_mag: np.ndarray) -> np.ndarray:
        config, band = self.config, exposure.visit_info.band
        zero_points = config.fiducialZeroPoint
        if not zero_points or band not in zero_points:
            _log.debug("No fiducial zero point for band %r; references are not culled.", band)
            return np.ones(len(ref_mag), bool)
        zero_point = zero_points[band] + 2.5 * np.log10(exposure.visit_info.exposure_time)
        return fiducial_reference_cull(
            source_mag + zero_point,
            ref_mag,
            ref_color_delta=config.refColorDeltaDefaults.get(config.filterMap.get(band, band), 0.0),
            buffer=config.cullMagBuffer or 0.0,
            max_ref_to_source_ratio=config.maxRefToSourceRatio,
        )

    def _round(self, exposure: Exposure, inputs: _Inputs, wcs: SkyWcs) -> _Round:
        """Match with a WCS and fit the next one."""
        height, width = exposure.shape
        stars, references = inputs.stars, inputs.references
        middle_x, middle_y = 0.5 * (width - 1), 0.5 * (height - 1)
        ra, dec = wcs.pixel_to_sky(x=stars["x"], y=stars["y"])
        middle = wcs.pixel_to_sky(x=middle_x, y=middle_y)
        match = self.matcher.run(
            source_ra=ra,
            source_dec=dec,
            source_mag=stars["mag"],
            ref_ra=references["ra"],
            ref_dec=references["dec"],
            ref_mag=references["mag"],
            pixel_scale_arcsec=float(wcs.pixel_scale(x=middle_x, y=middle_y)),
            center=(float(middle[0]), float(middle[1])),
        )
        src, ref = match.match_src, match.match_ref
        if self.config.doMagnitudeOutlierRejection:
            keep = _usual_magnitudes(
                references["mag"][ref] - stars["mag"][src], self.config.magnitudeOutlierRejectionNSigma
            )
            src, ref = src[keep], ref[keep]
        matched = MatchedStars(
            x=stars["x"][src],
            y=stars["y"][src],
            ra=references["ra"][ref],
            dec=references["dec"][ref],
            x_err=stars["x_err"][src],
            y_err=stars["y_err"][src],
            ra_err=references["ra_err"][ref],
            dec_err=references["dec_err"][ref],
        )
        if self.config.forceKnownWcs:
            distance = separation_arcsec(matched, wcs)
            fit = WcsFitResult(
                wcs, np.ones(len(src), bool), float(np.median(distance)), 0.0, {"fitter": "none"}
            )
        else:
            fit = self.fitter.run(matched, wcs, shape=exposure.shape)
        kept = MatchResult(
            ref,
            src,
            np.empty(0),
            match.tolerance_pix,
            match.shift_pix,
            match.rotation_deg,
            match.odds,
            match.method,
        )
        return _Round(fit.wcs, kept, matched, fit, separation_arcsec(matched, fit.wcs))

    def _finish(
        self,
        exposure: Exposure,
        catalog: SourceCatalog,
        initial: SkyWcs,
        inputs: _Inputs,
        last: _Round,
        iterations: int,
    ) -> AstrometryResult:
        """Set what `run` promises to set, and gather the numbers."""
        wcs, match = last.wcs, last.match
        exposure.wcs = wcs
        update_sky_coords(catalog, wcs)
        rows = inputs.source_rows[match.match_src]
        if "calib_astrometry_used" in catalog:
            catalog["calib_astrometry_used"] = False
            used_rows = np.zeros(len(catalog), bool)
            used_rows[rows[last.fit.good]] = True
            catalog["calib_astrometry_used"] = used_rows
        mean, std, _ = clipped_stats(last.distance)
        median = last.fit.scatter_arcsec
        exposure.metadata["SFM_ASTROM_OFFSET_MEAN"] = mean
        exposure.metadata["SFM_ASTROM_OFFSET_STD"] = std
        exposure.metadata["SFM_ASTROM_OFFSET_MEDIAN"] = median
        east = north = float("nan")
        if not self.config.forceKnownWcs:
            east, north = hold_out_rms(
                last.stars, lambda stars: self.fitter.run(stars, wcs, shape=exposure.shape).wcs
            )
        height, width = exposure.shape
        middles = [w.pixel_to_sky(x=0.5 * (width - 1), y=0.5 * (height - 1)) for w in (initial, wcs)]
        moved = float(angular_separation(*middles[0], *middles[1])) / _ARCSEC
        metadata: dict[str, int | float | str] = {
            "astrometry_matches_count": len(rows),
            "initial_to_final_wcs": moved,
            "astrom_offset_mean": mean,
            "astrom_offset_std": std,
            "astrom_offset_median": median,
            "iterations": iterations,
            "match_method": match.method,
            "match_tolerance_pix": match.tolerance_pix,
            "n_chance_expected": match.odds.n_chance,
            "log10_false_probability": match.odds.log10_probability,
            "scatter_floor_arcsec": last.fit.floor_arcsec,
            "hold_out_east": east,
            "hold_out_north": north,
        }
        metadata.update(last.fit.metadata)
        _log.debug("Astrometry: %d matches, mean offset %.3f arcsec", len(rows), mean)
        return AstrometryResult(
            wcs=wcs,
            match_ref=inputs.reference_rows[match.match_ref],
            match_src=rows,
            distance_rad=last.distance * _ARCSEC,
            used=last.fit.good,
            offset_mean=mean,
            offset_std=std,
            offset_median=median,
            initial_to_final_wcs=moved,
            hold_out_east=east,
            hold_out_north=north,
            n_sources=len(inputs.source_rows),
            n_references=_n_on_image(wcs, inputs.references, exposure.shape),
            n_chance_expected=match.odds.n_chance,
            log10_false_probability=match.odds.log10_probability,
            metadata=metadata,
        )


def _n_on_image(wcs: SkyWcs, references: dict[str, np.ndarray], shape: tuple[int, int]) -> int:
    """Return how many references lie on the image."""
    x, y = wcs.sky_to_pixel(ra=references["ra"], dec=references["dec"])
    return int(np.count_nonzero((x > -0.5) & (x < shape[1] - 0.5) & (y > -0.5) & (y < shape[0] - 0.5)))


def _magnitude(flux: np.ndarray, zero: float) -> np.ndarray:
    """Return -2.5 log10(flux / zero), NaN where the flux is not positive."""
    flux = np.asarray(flux, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(flux > 0, -2.5 * np.log10(flux / zero), np.nan)


def _usual_magnitudes(difference: np.ndarray, n_sigma: float) -> np.ndarray:
    """Return True for finite magnitude differences within n_sigma (at least 3 mmag) of the median."""
    finite = np.isfinite(difference)
    if not finite.any():
        return np.ones(len(difference), bool)
    median = np.median(difference[finite])
    sigma = max(1.4826 * float(np.median(np.abs(difference[finite] - median))), 1e-3)
    with np.errstate(invalid="ignore"):
        return np.asarray(finite & (np.abs(difference - median) <= n_sigma * sigma))
