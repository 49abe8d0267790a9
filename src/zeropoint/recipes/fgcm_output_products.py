"""What a finished fit of a survey gives to its users: calibrations, atmospheres, standard stars and reference offsets."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.datamodel.skymap import SkyMap
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.accounting import Accounting
from zeropoint.fgcm.atmosphere import Atmosphere
from zeropoint.fgcm.outputs.atmospheres import VisitAtmospheres, visit_atmospheres
from zeropoint.fgcm.outputs.config import FgcmOutputProductsConfigBase
from zeropoint.fgcm.outputs.photo_calib import VisitPhotoCalibs, photo_calibs
from zeropoint.fgcm.outputs.reference_offsets import ReferenceOffsets, reference_offsets
from zeropoint.fgcm.outputs.standard_stars import TractStars, standard_stars, stars_by_tract
from zeropoint.fgcm.outputs.tables import bands_of
from zeropoint.fgcm.progress import OnProgress
from zeropoint.fgcm.visit_geometry import is_area_applied, stored_focal_plane
from zeropoint.fgcm.visits import sentence_on

__all__ = ["FgcmOutputProducts", "FgcmProducts"]

_log = logging.getLogger(__name__)
#: UTC to TAI, days, for positions of references: a leap second does not matter.
_TAI = 37.0 / 86400.0


@dataclass(frozen=True)
class FgcmProducts:
    """Products of a fit; what was not asked for is None.

    Parameters
    ----------
    photo_calibs
        Photometric calibrations, visit by visit.
    atmospheres
        Transmission of the atmosphere, visit by visit.
    stars
        Standard stars of the whole survey.
    tract_stars
        The same, tract by tract.
    offsets
        What the comparison with references after the fit added to each band.
    accounting
        What became of zeropoints, atmospheres, stars and pixels of the sky.
    notes
        Sentences for the user.
    """

    photo_calibs: VisitPhotoCalibs | None
    atmospheres: VisitAtmospheres | None
    stars: Table
    tract_stars: TractStars | None
    offsets: ReferenceOffsets | None
    accounting: Accounting
    notes: tuple[str, ...]


class FgcmOutputProducts:
    """Make the products of a fit.

    Parameters
    ----------
    config
        Which.
    """

    ConfigClass = FgcmOutputProductsConfigBase

    def __init__(self, config: FgcmOutputProductsConfigBase) -> None:
        self.config = config

    def run(
        self,
        visits: Table,
        stars: Table,
        *,
        zeropoints: Table | None = None,
        atmospheres: Table | None = None,
        atmosphere: Atmosphere | None = None,
        standard_filters: Mapping[str, str] | None = None,
        focal_plane: FocalPlane | None = None,
        sky_map: SkyMap | None = None,
        references: ReferenceObjectLoader | None = None,
        on_progress: OnProgress | None = None,
    ) -> FgcmProducts:
        """Make the products.

        Parameters
        ----------
        visits
            ``fgcmVisitCatalog``, with its metadata.
        stars
            ``fgcm_Cycle{N}_StandardStars``, with its metadata.
        zeropoints
            ``fgcm_Cycle{N}_Zeropoints``; needed with ``doZeropointOutput``.
        atmospheres, atmosphere
            ``fgcm_Cycle{N}_AtmosphereParameters``, and the atmosphere of the fit; needed with ``doAtmosphereOutput``.
        standard_filters
            Physical filter -> standard filter of its band; needed with ``doReferenceCalibration``.
        focal_plane
            The camera, where the star list does not say which one it was made with.
        sky_map
            Tracts; needed with ``doTractStars``.
        references
            Reference catalogue; needed with ``doReferenceCalibration``.
        on_progress
            Told how far a stage is.

        Raises
        ------
        InvalidInputError
            If an input is missing or cannot be used.
        NoReferenceOffsetsError
            If the reference catalogue has too few of the standard stars.
        """
        config, accounting, notes = self.config, Accounting(), list[str]()
        filters = _bands_of_filters(config, visits)
        offsets = None
        if config.doReferenceCalibration:
            offsets = self._offsets(visits, stars, filters, standard_filters, references, on_progress)
            accounting.merge(offsets.accounting)
        by_band = {} if offsets is None else offsets.by_band()
        calibs = air = tracts = None
        if config.doZeropointOutput:
            plane = self._focal_plane(visits, focal_plane, notes)
            calibs = photo_calibs(
                _needed(zeropoints, "doZeropointOutput", "zeropoints"),
                focal_plane=plane,
                offsets={name: by_band.get(band, 0.0) for name, band in filters.items()},
                visits=visits,
                mean_chromatic=config.doApplyMeanChromaticCorrection,
            )
            accounting.merge(calibs.accounting)
            if len(calibs.without):
                notes.append(sentence_on(calibs.without.tolist(), "without calibration", "no zeropoint"))
        if config.doAtmosphereOutput:
            air = visit_atmospheres(
                _needed(atmospheres, "doAtmosphereOutput", "atmosphere parameters"),
                _needed(atmosphere, "doAtmosphereOutput", "atmosphere"),
            )
            accounting.merge(air.accounting)
        table = standard_stars(stars, by_band)
        if config.doTractStars:
            tracts = stars_by_tract(table, _needed(sky_map, "doTractStars", "sky map"))
            accounting.merge(tracts.accounting)
        for line in [*accounting.lines(), *notes]:
            _log.info("%s", line)
        return FgcmProducts(calibs, air, table, tracts, offsets, accounting, tuple(notes))

    def _offsets(
        self,
        visits: Table,
        stars: Table,
        filters: Mapping[str, str],
        standard_filters: Mapping[str, str] | None,
        references: ReferenceObjectLoader | None,
        on_progress: OnProgress | None,
    ) -> ReferenceOffsets:
        """Return what the reference catalogue adds to each band."""
        standard = _needed(standard_filters, "doReferenceCalibration", "look-up table")
        of_band: dict[str, str] = {}
        for name, band in filters.items():
            if name in standard:
                of_band.setdefault(band, standard[name])
        missing = [band for band in bands_of(stars) if band not in of_band]
        if missing:
            raise InvalidInputError(
                f"physicalFilterMap and the look-up table have no filter of {', '.join(missing)} in common, in which there are "
                "standard stars; give the map with which the star list was made."
            )
        dates = np.asarray(visits["mjd"], np.float64)
        known = dates[np.isfinite(dates)]
        return reference_offsets(
            stars,
            _needed(references, "doReferenceCalibration", "reference catalogue"),
            self.config,
            standard_filters=of_band,
            mjd=float(np.median(known)) + _TAI if len(known) else float("nan"),
            on_progress=on_progress,
        )

    def _focal_plane(
        self, visits: Table, focal_plane: FocalPlane | None, notes: list[str]
    ) -> FocalPlane | None:
        """Return the camera whose pixel areas go into the calibrations; None: they do not."""
        applied = is_area_applied(visits)
        if not self.config.doComposeWcsJacobian:
            if applied:
                notes.append(
                    "The magnitudes of the fit were corrected for the areas of pixels (doApplyWcsJacobian), and the calibrations "
                    "are not (doComposeWcsJacobian=False): they hold for the middle of the focal plane only."
                )
            return None
        if applied is False:
            raise InvalidInputError(
                "doComposeWcsJacobian is True, but the magnitudes of the star list were not corrected for the areas of pixels "
                "(doApplyWcsJacobian); set doComposeWcsJacobian=False, or make the star list again."
            )
        plane = stored_focal_plane(visits) or focal_plane
        if plane is None:
            raise InvalidInputError(
                "doComposeWcsJacobian needs the areas of pixels: there is no camera, and fgcmVisitCatalog does not say with which "
                "it was made. Make the star list again, or set doComposeWcsJacobian=False."
            )
        return plane


def _bands_of_filters(config: FgcmOutputProductsConfigBase, visits: Table) -> dict[str, str]:
    """Return physical filter -> band."""
    return dict(config.physicalFilterMap) or {
        str(name): str(band) for name, band in visits.meta.get("BANDS", {}).items()
    }


def _needed[T](value: T | None, field: str, name: str) -> T:
    """Return an input that a field of the configuration asks for."""
    if value is None:
        raise InvalidInputError(f"{field} needs the {name}; give it, or set {field}=False.")
    return value
