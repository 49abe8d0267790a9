"""One detector's row of the final summary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from astropy.table import Table
from lsst.images import BackgroundMap, Box, ObservationSummaryStats, VisitImage

from zeropoint.datamodel.catalog import column, has_column
from zeropoint.datamodel.exposure import PhotoCalib
from zeropoint.datamodel.exposure_catalog import ExposureCatalog, ExposureRecord
from zeropoint.datamodel.exposure_components import encode_photo_calib
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.visit_info import visit_info
from zeropoint.datamodel.wcs import SkyWcs, angular_separation
from zeropoint.errors import InvalidInputError
from zeropoint.psf.piff_io import from_lsst_psf
from zeropoint.quality import summary as stats
from zeropoint.quality.residual_correlations import CORRELATION_STATISTICS
from zeropoint.quality.visit_summary import statistics_of
from zeropoint.recipes.update_visit_summary.choosers import (
    PerHealpixInput,
    PerTractInput,
    PossiblyMultipleInput,
    compute_center_for_detector_record,
    image_corners,
)
from zeropoint.recipes.update_visit_summary.images import (
    ImageFacts,
    ImageHandle,
    background_in_electrons,
    image_facts,
    with_background_subtracted,
)
from zeropoint.recipes.update_visit_summary.record import NEEDED

__all__ = ["DetectorUpdate", "Overrides", "stars_of"]

_ARCSEC = np.pi / 648000.0
#: What statistics are that were not measured.
_UNSET = ObservationSummaryStats()


@dataclass(frozen=True)
class Overrides:
    """What replaces the components of a summary; None leaves them as they are.

    Parameters
    ----------
    psf, ap_corr
        Catalogues with PSFs and aperture corrections.
    photo_calib, wcs
        Catalogues with photometric calibrations and WCSs.
    background_originals, backgrounds
        Detector -> background that was subtracted, and that is to be subtracted besides.
    """

    psf: ExposureCatalog | None = None
    ap_corr: ExposureCatalog | None = None
    photo_calib: PossiblyMultipleInput | None = None
    wcs: PossiblyMultipleInput | None = None
    background_originals: Mapping[int, BackgroundMap | ImageHandle] | None = None
    backgrounds: Mapping[int, BackgroundMap | ImageHandle] | None = None


def stars_of(stars: Table | pa.Table | None, detector: int) -> Any:
    """Return the rows of a table of stars that belong to a detector; None if there are none.

    Raises
    ------
    InvalidInputError
        If the table does not say what detector they belong to.
    """
    if stars is None:
        return None
    if not has_column(stars, "detector"):
        raise InvalidInputError("psf_star_catalog has no column 'detector'.")
    rows = np.flatnonzero(column(stars, "detector") == detector)
    if len(rows) == 0:
        return None
    return stars.take(rows) if isinstance(stars, pa.Table) else stars[rows]


class DetectorUpdate:
    """The row of one detector, changed step by step.

    Parameters
    ----------
    record
        Its row in the preliminary summary.
    summary
        Measures statistics.
    threshold_arcsec
        Farthest that a corner may move; None: any.

    Attributes
    ----------
    texts : dict
        Component -> text.
    columns : dict
        Values of columns that the preliminary summary lacks.
    reasons : dict
        Component that is missing -> why.
    """

    def __init__(
        self,
        record: ExposureRecord,
        summary: stats.ComputeExposureSummaryStats,
        threshold_arcsec: float | None,
    ) -> None:
        self.record = record
        self.texts = dict(record.texts)
        self.columns: dict[str, Any] = {}
        self.reasons: dict[str, str] = {}
        self._summary = summary
        self._threshold = threshold_arcsec
        known = statistics_of(record)
        self._values = {name: getattr(known, name) for name in ObservationSummaryStats.model_fields}

    @property
    def statistics(self) -> ObservationSummaryStats:
        """Statistics as they are now."""
        return ObservationSummaryStats(**self._values)

    def run(
        self,
        source: VisitImage | ImageHandle,
        overrides: Overrides,
        stars: Any,
        correlations: Mapping[str, float] | None = None,
    ) -> None:
        """Replace components, and measure their statistics.

        Parameters
        ----------
        source
            The image, or where it can be had.
        overrides
            What replaces the components.
        stars
            Stars of this detector with the shapes of the new PSF; None: there are none.
        correlations
            Statistics of the stars of the whole visit, which every detector gets.
        """
        facts = image_facts(source)
        self._check_image(facts)
        self._check_box(facts.bbox, f"the image ({facts.name})")
        self._update_wcs(overrides.wcs, facts)
        if overrides.psf is not None or overrides.ap_corr is not None:
            self._update_psf(overrides, facts, stars)
            self._values.update(correlations or {})
        if overrides.photo_calib is not None:
            self._update_photo_calib(overrides.photo_calib, facts)
        if overrides.backgrounds is not None:
            self._update_background(source, overrides)
        self._update_depth(facts)
        for component in NEEDED:
            if not self.texts[component]:
                self.reasons.setdefault(component, "the preliminary summary has none")

    def _update_wcs(self, overrides: PossiblyMultipleInput | None, facts: ImageFacts) -> None:
        if overrides is None:
            return
        region, chosen = overrides.best_for_detector(self.record.id, bbox=facts.bbox)
        if isinstance(overrides, PerTractInput):
            self.columns["wcsTractId"] = region
        elif isinstance(overrides, PerHealpixInput):
            self.columns["wcsSkypixId"] = region
        wcs = None
        if chosen is None:
            self.reasons["wcs"] = "no catalogue has one"
        else:
            self._check_override(chosen, "WCS")
            wcs = chosen.getWcs()
            self.reasons["wcs"] = "the catalogue has none"
        if wcs is not None:
            wcs = self._consistent(wcs, self.record.getWcs(), facts.bbox)
        self.texts["wcs"] = "" if wcs is None else chosen.texts["wcs"]
        self._unset(stats.WCS_STATISTICS)
        if wcs is not None:
            del self.reasons["wcs"]
            self._values.update(self._summary.wcs_values(wcs, facts.mask.shape, facts.visit))

    def _consistent(self, wcs: SkyWcs, before: SkyWcs | None, bbox: Box) -> SkyWcs | None:
        """Return a WCS if it agrees with the preliminary one as far as it must."""
        if before is None:
            if self._threshold is None:
                return wcs
            self.reasons["wcs"] = "there is no preliminary WCS to compare with"
            return None
        x, y = image_corners(bbox)
        moved = angular_separation(*wcs.pixel_to_sky(x=x, y=y), *before.pixel_to_sky(x=x, y=y))
        offset = float(np.max(moved))
        self.columns["wcs_corner_max_offset"] = offset
        if self._threshold is None or offset <= self._threshold * _ARCSEC:
            return wcs
        self.reasons["wcs"] = (
            f"a corner moves by {offset / _ARCSEC:.3g} arcsec, more than {self._threshold:g}"
        )
        return None

    def _update_psf(self, overrides: Overrides, facts: ImageFacts, stars: Any) -> None:
        if overrides.psf is not None:
            self._replace("psf", overrides.psf)
        if overrides.ap_corr is not None:
            self._replace("apCorrMap", overrides.ap_corr)
        psf, corrections = self._row.getPsf(), self._row.getApCorrMap()
        for name, field in (corrections or {}).items():
            self._check_size(field, facts.bbox, f"aperture correction {name!r}")
        if overrides.psf is not None:
            self._unset(stats.PSF_STATISTICS + stats.STAR_STATISTICS + CORRELATION_STATISTICS)
        else:
            # summaries without PSFs still know what these were like
            self._unset(["psfApCorrSigmaScaledDelta"])
        if psf is None:
            return
        try:
            model = from_lsst_psf(psf)
        except TypeError as error:
            raise InvalidInputError(f"{self._name}: {error}") from None
        self._values.update(self._summary.psf_values(model, facts.mask, corrections))
        if overrides.psf is not None and stars is not None:
            self._values.update(self._summary.star_values(stars, facts.mask))

    def _replace(self, component: str, catalog: ExposureCatalog) -> None:
        chosen = catalog.find(self.record.id)
        if chosen is None:
            self.reasons[component] = "the catalogue has no row for this detector"
            self.texts[component] = ""
            return
        self._check_override(chosen, component)
        self.texts[component] = chosen.texts[component]
        if not self.texts[component]:
            self.reasons[component] = "the catalogue has none for this detector"

    def _update_photo_calib(self, overrides: PossiblyMultipleInput, facts: ImageFacts) -> None:
        center = compute_center_for_detector_record(self._row, facts.bbox)
        region, chosen = overrides.best_for_detector(self.record.id, center=center, bbox=facts.bbox)
        if isinstance(overrides, PerTractInput):
            self.columns["photoCalibTractId"] = region
        calib: PhotoCalib | None = None
        if chosen is None:
            self.reasons["photoCalib"] = "no catalogue has one"
            if isinstance(overrides, PerTractInput) and center is None:
                self.reasons["photoCalib"] = "without a WCS no tract can be chosen"
        else:
            self._check_override(chosen, "photometric calibration")
            calib = chosen.getPhotoCalib()
            if calib is None:
                self.reasons["photoCalib"] = "the catalogue has none"
        self._unset(stats.PHOTO_CALIB_STATISTICS)
        if calib is None:
            self.texts["photoCalib"] = ""
            return
        if calib.field is not None:
            self._check_size(calib.field, facts.bbox, "photometric calibration")
        if isinstance(chosen, ExposureRecord):
            self.texts["photoCalib"] = chosen.texts["photoCalib"]
        else:
            self.texts["photoCalib"] = encode_photo_calib(calib, box=facts.bbox)
        self._values.update(self._summary.photo_calib_values(calib))

    def _update_background(self, source: VisitImage | ImageHandle, overrides: Overrides) -> None:
        assert overrides.backgrounds is not None
        image = source if isinstance(source, VisitImage) else source.get()
        layer = _loaded(overrides.backgrounds[self.record.id])
        layers = [layer]
        before = self._values["skyBg"]
        if not np.isfinite(before):
            # what the summary says was measured on cells, of which the stored background may be a mere fit
            before = 0.0
            if overrides.background_originals is not None:
                layers.insert(0, _loaded(overrides.background_originals[self.record.id]))
        components = [each for one in layers for each in background_in_electrons(one, image)]
        self._unset(stats.BACKGROUND_STATISTICS + stats.PIXEL_STATISTICS)
        self._values["skyBg"] = before + self._summary.background_values(components)["skyBg"]
        self._values.update(self._summary.pixel_values(with_background_subtracted(image, layer)))

    def _update_depth(self, facts: ImageFacts) -> None:
        self._unset(stats.DEPTH_STATISTICS)
        known = {
            name: value for name, value in self._values.items() if np.isscalar(value) and _is_known(value)
        }
        visit = facts.visit
        self._values.update(
            self._summary.depth_values(known, facts.detector, visit.band, visit.exposure_time)
        )

    def _unset(self, names: Iterable[str]) -> None:
        self._values.update({name: getattr(_UNSET, name) for name in names})

    @property
    def _row(self) -> ExposureRecord:
        """The row with the components as they are now."""
        return ExposureRecord(self.record.values, self.texts)

    @property
    def _name(self) -> str:
        return f"visit {self.record.visit} detector {self.record.id}"

    def _check_override(self, chosen: Any, what: str) -> None:
        if chosen.visit != self.record.visit:
            raise InvalidInputError(f"{self._name}: the {what} to be used is of visit {chosen.visit}.")

    def _check_image(self, facts: ImageFacts) -> None:
        """Raise if the image says that it is of another detector, or of another visit."""
        if facts.detector.id != self.record.id:
            raise InvalidInputError(
                f"{self._name}: the image is of detector {facts.detector.id} ({facts.name})."
            )
        # the number of a visit may be another than that of its exposure; the summary has the image's own account of both
        known, own = {self.record.visit}, self.record.getVisitInfo()
        if own is not None:
            before = visit_info(own, facts.visit.band, self._name)
            known |= {before.visit, before.exposure}
        if known.isdisjoint({facts.visit.visit, facts.visit.exposure}):
            raise InvalidInputError(
                f"{self._name}: the image is of visit {facts.visit.visit} ({facts.name})."
            )

    def _check_box(self, bbox: Box, what: str) -> None:
        box = self.record.getBBox()
        if box != bbox:
            raise InvalidInputError(f"{self._name}: the summary has the box {box}, but {what} {bbox}.")

    def _check_size(self, field: ChebyshevPolynomial, bbox: Box, what: str) -> None:
        if (field.width, field.height) != (bbox.x.size, bbox.y.size):
            raise InvalidInputError(
                f"{self._name}: the {what} is of {field.width} x {field.height} pixels, the image of {bbox.x.size} x "
                f"{bbox.y.size}."
            )


def _is_known(value: Any) -> bool:
    return isinstance(value, (int, float)) and bool(np.isfinite(value))


def _loaded(background: BackgroundMap | ImageHandle) -> BackgroundMap:
    return background if isinstance(background, BackgroundMap) else background.get()
