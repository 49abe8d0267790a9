"""Settings of a fit that a star list tells by itself; each that is derived is said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.fit_cycle_config import FgcmFitCycleConfigBase
from zeropoint.fgcm.model.passband_source import PassbandSource

__all__ = ["SurveyFacts", "derive_settings", "is_set"]

#: Of how many stars of a typical exposure it needs to have stars, to be used.
_STARS_PART = 0.3
#: Observations of a filter and detector from which a flat of first order is fitted within detectors, and one of second: at
#: the center of a detector it is then known to 1/sqrt(150) and 2.2/sqrt(1000) of the scatter of an observation, a mmag at most,
#: where flats that are wrong by a hundredth from edge to edge and are not fitted cost several.
_FLAT_OBSERVATIONS, _SECOND_ORDER_OBSERVATIONS = 150, 1000


@dataclass(frozen=True)
class SurveyFacts:
    """What the settings are derived from.

    Parameters
    ----------
    visits
        ``fgcmVisitCatalog`` with its metadata.
    visit, detector : int, shape (n_obs,)
        Visit and detector of each observation.
    has_references
        Whether there is a table of reference stars.
    """

    visits: Table
    visit: npt.NDArray[np.integer]
    detector: npt.NDArray[np.integer]
    has_references: bool


def is_set(config: FgcmFitCycleConfigBase, name: str) -> bool:
    """Tell whether a field was set, be it to its default.

    Parameters
    ----------
    config
        Configuration.
    name
        Field.
    """
    return any(entry[2] != "default" for entry in config.history[name])


def derive_settings(config: FgcmFitCycleConfigBase, survey: SurveyFacts, source: PassbandSource) -> list[str]:
    """Set fields that nobody has set to what the star list tells, in place.

    Parameters
    ----------
    config
        Configuration.
    survey
        What the star list holds.
    source
        Passbands.

    Returns
    -------
    notes : list of str
        A sentence on each field that was set.

    Raises
    ------
    InvalidInputError
        If no visit is in a filter that has a band and a passband, or the latitude is needed and not known.
    """
    bands = _bands(config, survey.visits, source)
    notes: list[str] = []

    def put(name: str, value: Any, why: str) -> None:
        if not is_set(config, name) and getattr(config, name) != value:
            setattr(config, name, value)
            notes.append(f"{name} = {value}: {why}")

    put("bands", list(bands), "those of the exposures, by wavelength")
    _site(config, survey.visits, put)
    if not survey.has_references:
        put("doReferenceCalibration", False, "the star list has no reference stars")
    _selection(config, survey, source, put)
    if not is_set(config, "superStarSubCcdDict"):
        _flats(config, survey, bands, put)
    notes += [note.rstrip(".") for note in config.complete()]
    return notes


def _bands(config: FgcmFitCycleConfigBase, visits: Table, source: PassbandSource) -> dict[str, list[str]]:
    """Return band -> its filters, by wavelength, of the visits."""
    of_filter = dict(config.physicalFilterMap) or dict(visits.meta.get("BANDS", {}))
    there = {str(name) for name in visits["physicalFilter"]}
    bands: dict[str, list[str]] = {}
    for k in np.argsort(source.lambda_std, kind="stable"):
        name = source.physical_filters[k]
        if name in there and name in of_filter:
            bands.setdefault(str(of_filter[name]), []).append(name)
    if not bands:
        raise InvalidInputError(
            f"No visit is in a filter that has a passband and a band: visits are in {', '.join(sorted(there))}, passbands are of "
            f"{', '.join(source.physical_filters)}, bands are known of {', '.join(of_filter) or 'no filter'}. Name the passbands "
            "as the star list does, or set physicalFilterMap."
        )
    return bands


def _site(config: FgcmFitCycleConfigBase, visits: Table, put: Any) -> None:
    """Set latitude and the boundary of nights."""
    latitude, longitude = (visits.meta.get(name) for name in ("LATITUDE", "LONGITUDE"))
    if config.latitude is None:
        if latitude is not None:
            put("latitude", float(latitude), "of the star list's site")
        elif np.isfinite(np.asarray(visits["telha"], float)).any():
            raise InvalidInputError(
                "fgcmVisitCatalog has hour angles and no latitude, so that airmasses are not known; set it with -c "
                "latitude=DEGREES."
            )
        else:
            put("latitude", 0.0, "not known, and not needed: the visits have airmasses, or no hour angles")
    if config.utBoundary is None:
        if longitude is not None:
            boundary = round((0.5 + float(longitude) / 360.0) % 1.0, 4)
            put("utBoundary", boundary, "nights end at noon of the site's longitude")
        else:
            put(
                "utBoundary",
                _boundary(np.asarray(visits["mjd"], float)),
                "in the longest time of day without exposures",
            )


def _boundary(mjd: npt.NDArray[np.float64]) -> float:
    """Return what is added to the MJD so that days begin in the longest time of day without exposures."""
    time = np.sort(mjd[np.isfinite(mjd)] % 1.0)
    if not len(time):
        return 0.0
    gaps = np.diff(np.append(time, time[0] + 1.0))
    k = int(np.argmax(gaps))
    return round(float(-(time[k] + 0.5 * gaps[k]) % 1.0), 4)


def _selection(config: FgcmFitCycleConfigBase, survey: SurveyFacts, source: PassbandSource, put: Any) -> None:
    """Set the least numbers of stars, detectors and exposures where the usual ones ask for more than a survey can have."""
    _, per_exposure = np.unique(survey.visit, return_counts=True)
    typical = int(np.median(per_exposure))
    least = max(int(_STARS_PART * typical), 10)
    if least < config.minStarPerExp:
        put("minStarPerExp", least, f"a typical exposure has {typical:,} stars")
    n_detectors = len(source.detectors)
    if config.minCcdPerExp > max(n_detectors // 2, 1):
        put("minCcdPerExp", max(n_detectors // 2, 1), f"detectors: {n_detectors}")
    mjd = np.asarray(survey.visits["mjd"], float)
    night = np.floor(mjd[np.isfinite(mjd)] + (config.utBoundary or 0.0))
    per_night = np.unique(night, return_counts=True)[1] if len(night) else np.array([len(mjd)])
    exposures = int(np.median(per_night))
    if config.minExpPerNight > max(exposures // 3, 1):
        put("minExpPerNight", max(exposures // 3, 1), f"a typical night has {exposures} exposures")


def _flats(
    config: FgcmFitCycleConfigBase, survey: SurveyFacts, bands: dict[str, list[str]], put: Any
) -> None:
    """Fit superstar flats within detectors, to the order for which there are observations enough."""
    names = np.array([str(name) for name in survey.visits["physicalFilter"]])
    visits = np.asarray(survey.visits["visit"])
    order = np.argsort(visits, kind="stable")
    row = order[np.searchsorted(visits[order], survey.visit).clip(0, len(visits) - 1)]
    epoch = np.searchsorted(np.sort(config.epochMjds), np.asarray(survey.visits["mjd"], float), side="right")
    numbers: dict[str, int] = {}
    for band, filters in bands.items():
        found = [0]
        # each filter has a flat of its own in each epoch
        for name, which in {(names[k], epoch[k]) for k in np.flatnonzero(np.isin(names, filters))}:
            chosen = ((names == name) & (epoch == which))[row]
            counts = np.unique(survey.detector[chosen], return_counts=True)[1]
            found.append(int(np.median(counts)) if len(counts) else 0)
        # a filter or an epoch with hardly any does not decide for the others: its flats stay constant by themselves
        numbers[band] = min((n for n in found if n >= _FLAT_OBSERVATIONS), default=max(found))
    vary = {band: number >= _FLAT_OBSERVATIONS for band, number in numbers.items()}
    second = all(number >= _SECOND_ORDER_OBSERVATIONS for band, number in numbers.items() if vary[band])
    told = ", ".join(f"{band} {number:,}" for band, number in numbers.items())
    put(
        "superStarSubCcdDict",
        vary,
        f"observations of a typical detector: {told}. Flats vary within detectors from {_FLAT_OBSERVATIONS} on, in second order "
        f"where all of these bands have {_SECOND_ORDER_OBSERVATIONS:,}, else in first",
    )
    if any(vary.values()):
        put(
            "superStarSubCcdChebyshevOrder",
            2 if second else 1,
            "there are observations enough in all bands that vary",
        )
