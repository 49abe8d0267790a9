"""The visits of a survey: time, pointing, exposure time, seeing and sky of each, in the table that FGCM wants."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from astropy.table import Column, Table

from zeropoint.datamodel.focal_plane import FocalPlane
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.accounting import META_KEY, Accounting
from zeropoint.fgcm.airmass_check import airmass_doubt
from zeropoint.fgcm.build_stars_config import FgcmBuildStarsConfigBase
from zeropoint.fgcm.progress import OnProgress
from zeropoint.fgcm.visit_facts import AnySummary, VisitFacts, read_summary, visit_facts
from zeropoint.fgcm.visit_geometry import focal_plane_meta

__all__ = [
    "NO_VALUE",
    "FoundVisits",
    "VisitCatalog",
    "account_for",
    "describe_visits",
    "find_visits",
    "make_visit_catalog",
    "sentence_on",
]

_log = logging.getLogger(__name__)

#: In columns of detectors: not known.
NO_VALUE = -9999.0
#: Full width at half maximum of a Gaussian of sigma 1.
_FWHM = float(np.sqrt(8.0 * np.log(2.0)))
#: Summaries of this many detectors or fewer give their first good value instead of the median.
_FEW_DETECTORS = 2
_NAME_LENGTH = 30

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

#: Column -> unit and meaning, in order.
_COLUMNS: Mapping[str, tuple[str | None, str]] = {
    "visit": (None, "Visit"),
    "physicalFilter": (None, "Physical filter"),
    "telra": ("deg", "Right ascension of the boresight, ICRS"),
    "teldec": ("deg", "Declination of the boresight, ICRS"),
    "telha": ("deg", "Hour angle of the boresight: Earth rotation angle + longitude - telra; NaN if unknown"),
    "telrot": ("deg", "Position angle of the focal plane's +Y axis; NaN if unknown"),
    "mjd": ("d", "Middle of the exposure, MJD in UTC; NaN if unknown"),
    "exptime": ("s", "Exposure time"),
    "pmb": ("mbar", "Pressure; NaN if unknown"),
    "psfSigma": ("pixel", "Size of the PSF: median of the detectors"),
    "psfFwhm": ("arcsec", "Full width at half maximum of the PSF: median of the detectors"),
    "psfFwhmDetector": ("arcsec", "Full width at half maximum of the PSF by detector; -9999 if unknown"),
    "deltaAper": ("mag", "Median of the magnitude in the inner aperture minus that in the outer"),
    "deltaAperDetector": ("mag", "The same by detector; -9999 if not computed"),
    "skyBackground": ("ct", "Sky background: median of the detectors; -1 if unknown"),
    "deepFlag": (None, "Not used"),
    "scaling": (None, "Factor on fluxes by detector"),
    "used": (None, "Whether the visit is used"),
    "sources_read": (None, "Whether the visit's table of sources was read"),
    "airmass": (None, "Airmass of the boresight as the telescope told it; NaN if unknown"),
}


@dataclass(frozen=True)
class FoundVisits:
    """Visits that a survey may have, and why some of them cannot be used.

    Parameters
    ----------
    facts
        Visit -> what is known of it, by visit.
    rejected
        Visit -> the reason why it is left out.
    details
        Visit left out -> what else there is to say of the reason.
    """

    facts: Mapping[int, VisitFacts]
    rejected: Mapping[int, str]
    details: Mapping[int, str] = field(default_factory=dict)

    def without(self, rejected: Mapping[int, str], details: Mapping[int, str] | None = None) -> FoundVisits:
        """Return these without further visits, which have a reason each, and perhaps details."""
        left = {visit: facts for visit, facts in self.facts.items() if visit not in rejected}
        return FoundVisits(left, {**self.rejected, **rejected}, {**self.details, **(details or {})})

    def left_out(self) -> tuple[str, ...]:
        """Return a sentence for each reason for which visits are left out, and names these."""
        groups: dict[tuple[str, str], list[int]] = {}
        for visit in sorted(self.rejected):
            groups.setdefault((self.rejected[visit], self.details.get(visit, "")), []).append(visit)
        return tuple(
            sentence_on(visits, "left out", f"{reason}: {detail}" if detail else reason)
            for (reason, detail), visits in sorted(groups.items())
        )


@dataclass(frozen=True)
class VisitCatalog:
    """The visits that are used.

    Parameters
    ----------
    table
        ``fgcmVisitCatalog``, by visit; columns of arrays have one value for each of ``detectors``.
    bands
        Physical filter -> band; filters without visits may be among them.
    detectors : int64, shape (n,)
        Detectors of the camera, ascending.
    accounting
        Stage ``visits``.
    """

    table: Table
    bands: Mapping[str, str]
    detectors: IntArray
    accounting: Accounting

    def __len__(self) -> int:
        return len(self.table)

    @property
    def visits(self) -> IntArray:
        """The visits, ascending."""
        return np.asarray(self.table["visit"], np.int64)

    def with_sources(self, delta_aper: Mapping[int, float]) -> VisitCatalog:
        """Return the catalogue with what was found while sources were read.

        Parameters
        ----------
        delta_aper
            Visit whose table was read -> median of inner minus outer magnitude; NaN: no star has both.
        """
        table = self.table.copy()
        for row, visit in enumerate(self.visits.tolist()):
            if visit in delta_aper:
                table["sources_read"][row] = True
                table["deltaAper"][row] = delta_aper[visit]
        return replace(self, table=table)


def find_visits(
    summaries: Mapping[int, AnySummary],
    visits: Iterable[int],
    config: FgcmBuildStarsConfigBase,
    *,
    on_progress: OnProgress | None = None,
) -> FoundVisits:
    """Read the summaries of visits, one after the other.

    Parameters
    ----------
    summaries
        Visit -> summary.
    visits
        Visits that have sources.
    config
        Filters, and the detector whose record tells of the observation.
    on_progress
        Told of the summaries read.

    Raises
    ------
    InvalidInputError
        If a summary cannot be used.

    Notes
    -----
    A visit is left out, with a reason that is counted and logged, if it has no summary or one without rows
    (``no_summary``), no sources (``no_source_table``), nothing is known of its observation (``no_observation``), its
    filter has no band (``no_band``), its exposure time is not positive (``no_exposure_time``), or no detector has a PSF
    size (``no_psf_size``).
    """
    with_sources = {int(visit) for visit in visits}
    every = sorted(with_sources | summaries.keys())
    facts: dict[int, VisitFacts] = {}
    rejected: dict[int, str] = {}
    for done, visit in enumerate(every):
        found = _facts(visit, summaries.get(visit), config) if visit in with_sources else "no_source_table"
        if isinstance(found, str):
            rejected[visit] = found
        else:
            facts[visit] = found
        if on_progress is not None:
            on_progress("visit summaries", done + 1, len(every))
    return FoundVisits(facts, rejected)


def _facts(visit: int, stored: AnySummary | None, config: FgcmBuildStarsConfigBase) -> VisitFacts | str:
    """Return what is known of a visit, or why it cannot be used."""
    if stored is None:
        return "no_summary"
    summary = read_summary(visit, stored)
    if len(summary) == 0:
        return "no_summary"
    facts = visit_facts(visit, summary, config.referenceCCD)
    if facts is None:
        return "no_observation"
    if not _band(facts, config):
        return "no_band"
    if not facts.exposure_time > 0 or not np.isfinite(facts.exposure_time):
        return "no_exposure_time"
    return facts if (facts.psf_sigma > 0).any() else "no_psf_size"


def _band(facts: VisitFacts, config: FgcmBuildStarsConfigBase) -> str:
    """Return the band of a visit, "" if its filter has none."""
    mapped = config.physicalFilterMap
    return str(mapped.get(facts.physical_filter, "")) if mapped else facts.band


def sentence_on(visits: Sequence[int], fate: str, reason: str) -> str:
    """Return a sentence that says what became of some visits, and names them; of many, the first.

    Parameters
    ----------
    visits
        The visits.
    fate
        What became of them, behind "are".
    reason
        Why.
    """
    shown = ", ".join(map(str, visits[:8])) + (", ..." if len(visits) > 8 else "")
    what = "visit is" if len(visits) == 1 else "visits are"
    return f"{len(visits)} {what} {fate} ({reason}): {shown}."


def account_for(found: FoundVisits) -> Accounting:
    """Return the number of visits found, left out and used, and warn of those left out.

    Parameters
    ----------
    found
        From `find_visits`.

    Raises
    ------
    InvalidInputError
        If there is no visit that can be used.
    """
    reasons = Counter(found.rejected.values())
    for sentence in found.left_out():
        _log.warning("%s", sentence)
    facts = list(found.facts.values())
    noted = {
        "no_time": _unknown(facts, "mjd"),
        "no_hour_angle": _unknown(facts, "hour_angle"),
        "no_rotation": _unknown(facts, "rotation"),
        "no_pressure": _unknown(facts, "pressure"),
        "no_airmass": _unknown(facts, "airmass"),
        "no_pointing": _unknown(facts, "ra"),
        "pointing_from_detectors": sum(each.is_centered_on_detectors for each in facts),
    }
    accounting = Accounting()
    accounting.add(
        "visits", read=len(facts) + len(found.rejected), kept=len(facts), rejected=reasons, noted=noted
    )
    _log.info("%s", accounting.lines()[0])
    if not facts:
        raise InvalidInputError(
            f"No visit can be used: {accounting.lines()[0]}. "
            + (
                "Is physicalFilterMap that of this camera?"
                if reasons["no_band"]
                else "Are the visit summaries there?"
            )
        )
    return accounting


def make_visit_catalog(
    found: FoundVisits, focal_plane: FocalPlane, config: FgcmBuildStarsConfigBase, accounting: Accounting
) -> VisitCatalog:
    """Return the table of the visits that can be used.

    Parameters
    ----------
    found
        Visits, from `find_visits`.
    focal_plane
        The camera: its detectors are the columns of arrays, in its order; its pixel scale stands in where summaries have
        none.
    config
        Filters and bands.
    accounting
        Of the visits, from `account_for`.

    Raises
    ------
    InvalidInputError
        If a filter has different bands in different visits, or no visit is in a primary band, or in a required one.
    """
    facts = list(found.facts.values())
    detectors = focal_plane.ids
    n, n_detectors = len(facts), len(detectors)
    sizes = [_sizes(each, focal_plane) for each in facts]
    by_detector = np.full((n, n_detectors), NO_VALUE, np.float32)
    for row, (each, (_, fwhm)) in enumerate(zip(facts, sizes)):
        good = np.isin(each.detectors, detectors) & (fwhm > 0)
        by_detector[row, np.searchsorted(detectors, each.detectors[good])] = fwhm[good]
    names = np.array([each.physical_filter for each in facts])
    values: dict[str, np.ndarray] = {
        "visit": np.array([each.visit for each in facts], np.int64),
        "physicalFilter": names.astype(f"U{max(_NAME_LENGTH, names.dtype.itemsize // 4)}"),
        "telra": _column(facts, "ra"),
        "teldec": _column(facts, "dec"),
        "telha": _column(facts, "hour_angle"),
        "telrot": _column(facts, "rotation"),
        "mjd": _column(facts, "mjd"),
        "exptime": _column(facts, "exposure_time", np.float32),
        "pmb": _column(facts, "pressure", np.float32),
        "psfSigma": np.array([_typical(sigma, 0.0) for sigma, _ in sizes], np.float32),
        "psfFwhm": np.array([_typical(fwhm, 0.0) for _, fwhm in sizes], np.float32),
        "psfFwhmDetector": by_detector,
        "deltaAper": np.zeros(n, np.float32),
        "deltaAperDetector": np.full((n, n_detectors), NO_VALUE, np.float32),
        "skyBackground": np.array([_typical(each.sky_background, -1.0) for each in facts], np.float32),
        "deepFlag": np.zeros(n, np.int32),
        "scaling": np.ones((n, n_detectors), np.float64),
        "used": np.ones(n, np.int32),
        "sources_read": np.zeros(n, np.bool_),
        "airmass": _column(facts, "airmass", np.float32),
    }
    table = describe_visits(values)
    bands = _bands(facts, config)
    site = _site(facts)
    doubt = airmass_doubt(table, site.get("LATITUDE", float("nan")))
    if doubt is not None:
        _log.warning("%s", doubt)
    table.meta |= {
        "BANDS": dict(sorted(bands.items())),
        "DETECTORS": detectors.tolist(),
        "INSTRUMENT": focal_plane.instrument,
        **focal_plane_meta(focal_plane, is_area_applied=config.doApplyWcsJacobian),
        **site,
        META_KEY: accounting.to_meta(),
    }
    return VisitCatalog(table, bands, detectors, accounting)


def describe_visits(values: Mapping[str, np.ndarray]) -> Table:
    """Return a table of visits with units and descriptions.

    Parameters
    ----------
    values
        Column of ``fgcmVisitCatalog`` -> its values; in any order, all of them.
    """
    return Table(
        [Column(values[name], name, unit=unit, description=text) for name, (unit, text) in _COLUMNS.items()]
    )


def _unknown(facts: Iterable[VisitFacts], name: str) -> int:
    return sum(not np.isfinite(getattr(each, name)) for each in facts)


def _column(facts: Iterable[VisitFacts], name: str, dtype: npt.DTypeLike = np.float64) -> np.ndarray:
    return np.array([getattr(each, name) for each in facts], dtype)


def _sizes(facts: VisitFacts, focal_plane: FocalPlane) -> tuple[FloatArray, FloatArray]:
    """Return sigma (pixel) and full width (arcsec) of the PSF of each detector, 0 where there is none."""
    scale = facts.pixel_scale
    if not (scale > 0).any():
        scale = np.full(len(scale), focal_plane.median_pixel_scale)
    good = (facts.psf_sigma > 0) & (scale > 0)
    sigma = np.where(good, facts.psf_sigma, 0.0)
    return sigma, np.where(good, sigma * scale * _FWHM, 0.0)


def _typical(values: FloatArray, default: float) -> float:
    """Return the median of the positive values; of few detectors the first."""
    good = values[values > 0]
    if len(good) == 0:
        return default
    return float(good[0] if len(values) <= _FEW_DETECTORS else np.median(good))


def _bands(facts: Iterable[VisitFacts], config: FgcmBuildStarsConfigBase) -> dict[str, str]:
    """Return the bands of the filters: the map, or what the visits say; those that are needed must be seen."""
    seen: dict[str, str] = {}
    for each in facts:
        band = _band(each, config)
        if seen.setdefault(each.physical_filter, band) != band:
            raise InvalidInputError(
                f"The filter {each.physical_filter} is of the band {band} in visit {each.visit}, and of "
                f"{seen[each.physical_filter]} before; say in physicalFilterMap which it is."
            )
    bands = sorted(set(seen.values()))
    missing = sorted(set(config.requiredBands) - set(bands))
    if missing:
        raise InvalidInputError(
            f"requiredBands names {', '.join(missing)}, but visits are in {', '.join(bands)} only: no star could be kept."
        )
    if config.seeks_stars and not set(config.primaryBands or ()) & set(bands):
        raise InvalidInputError(
            f"primaryBands names {', '.join(config.primaryBands or ())}, but visits are in {', '.join(bands)} only: no star "
            "could be found."
        )
    unknown = sorted(set(config.primaryBands or ()) - set(bands))
    if config.seeks_stars and unknown and not config.physicalFilterMap:
        raise InvalidInputError(
            f"primaryBands names {', '.join(unknown)}, but visits are in {', '.join(bands)} only; without them in primaryBands, "
            "or with a physicalFilterMap that has filters of these bands, the others are enough."
        )
    return dict(config.physicalFilterMap) or dict(sorted(seen.items()))


def _site(facts: Iterable[VisitFacts]) -> dict[str, float]:
    """Return the site that visits name, the median of what they say; nothing where none does."""
    site = {}
    for name in ("latitude", "longitude", "elevation"):
        known = [value for each in facts if np.isfinite(value := getattr(each, name))]
        if known:
            site[name.upper()] = float(np.median(known))
    return site
