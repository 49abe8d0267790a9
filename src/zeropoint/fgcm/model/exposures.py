"""The exposures of a fit: one row per visit, with its place in time and in the instrument's history."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.airmass import observation_secant
from zeropoint.fgcm.model.passband_source import PassbandSource
from zeropoint.fgcm.model.settings import FitDataSettings

__all__ = ["FitExposures"]

_log = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float64]
#: In columns of detectors: not known, or less.
_UNKNOWN = -1000.0


@dataclass(frozen=True)
class FitExposures:
    """One row per visit of ``fgcmVisitCatalog``, by visit; arrays have the shape (n_exp,) where nothing else is said.

    Parameters
    ----------
    visit : int64
        Visits, ascending.
    band, filter : int16
        Index of ``bands`` and of ``physical_filters``; -1 where the filter has no band of these, or no passband.
    mjd : float64
        Middle of the exposure, days; NaN if unknown.
    night : int32
        Index of ``night_numbers``.
    night_time : float64
        Days since the night's boundary; 0 if the time is not known.
    wash, epoch, coating : int32
        Index of the interval between washes, of the superstar flat's epoch, and of the interval between coatings.
    wash_time : float64
        Days since the interval's begin.
    exptime, pmb, ra, dec, hour_angle, rotation, airmass, psf_fwhm, delta_aper, sky : float64
        Seconds, mb, degrees (four; the last two NaN if unknown), secant at the boresight (1 if unknown), arcsec, mag,
        counts. ``delta_aper`` is NaN where unknown.
    aperture_variable : float64
        What aperture corrections follow: ``delta_aper``, or ``psf_fwhm``.
    psf_fwhm_detector, delta_aper_detector : float32, shape (n_exp, n_det), or None
        By detector, NaN where unknown; None where nothing is known.
    airmass_low, airmass_high : float64
        The nodes between which the model is linear: the range of the secants of the observations, a hair wider.
    bands, physical_filters, detectors
        Names and ids, in order; the filters and detectors are those of the passbands.
    filter_band : int16, shape (n_filter,)
        Index of each filter's band, -1: none of ``bands``.
    night_numbers : int32, shape (n_nights,)
        floor(mjd + boundary) of the nights, ascending; -1: times that are not known.
    wash_mjds, epoch_mjds, coating_mjds : float64
        Begin of each interval; the first is a day before the first exposure.
    """

    visit: npt.NDArray[np.int64]
    band: npt.NDArray[np.int16]
    filter: npt.NDArray[np.int16]
    mjd: FloatArray
    night: npt.NDArray[np.int32]
    night_time: FloatArray
    wash: npt.NDArray[np.int32]
    wash_time: FloatArray
    epoch: npt.NDArray[np.int32]
    coating: npt.NDArray[np.int32]
    exptime: FloatArray
    pmb: FloatArray
    ra: FloatArray
    dec: FloatArray
    hour_angle: FloatArray
    rotation: FloatArray
    airmass: FloatArray
    psf_fwhm: FloatArray
    delta_aper: FloatArray
    aperture_variable: FloatArray
    sky: FloatArray
    psf_fwhm_detector: npt.NDArray[np.float32] | None
    delta_aper_detector: npt.NDArray[np.float32] | None
    airmass_low: FloatArray
    airmass_high: FloatArray
    bands: tuple[str, ...]
    physical_filters: tuple[str, ...]
    detectors: tuple[int, ...]
    filter_band: npt.NDArray[np.int16]
    night_numbers: npt.NDArray[np.int32]
    wash_mjds: FloatArray
    epoch_mjds: FloatArray
    coating_mjds: FloatArray

    def __len__(self) -> int:
        return len(self.visit)

    @property
    def n_det(self) -> int:
        """Number of detectors."""
        return len(self.detectors)

    @property
    def n_band(self) -> int:
        """Number of bands."""
        return len(self.bands)

    @property
    def n_filter(self) -> int:
        """Number of filters."""
        return len(self.physical_filters)

    @property
    def n_nights(self) -> int:
        """Number of nights."""
        return len(self.night_numbers)

    @property
    def n_wash(self) -> int:
        """Number of intervals between washes."""
        return len(self.wash_mjds)

    @property
    def n_epoch(self) -> int:
        """Number of epochs of the superstar flat."""
        return len(self.epoch_mjds)

    @property
    def n_coating(self) -> int:
        """Number of intervals between coatings."""
        return len(self.coating_mjds)

    @property
    def has_passband(self) -> npt.NDArray[np.bool_]:
        """Whether an exposure can be calibrated: its filter has a band and a passband."""
        return np.asarray(self.band >= 0)

    @classmethod
    def from_visit_catalog(
        cls, table: Table, settings: FitDataSettings, passbands: PassbandSource
    ) -> FitExposures:
        """Return the exposures of a catalogue of visits; the nodes of the airmass are at the boresight.

        Parameters
        ----------
        table
            ``fgcmVisitCatalog``, in any order.
        settings
            Bands, site and times.
        passbands
            Filters, detectors and standard atmosphere.

        Raises
        ------
        InvalidInputError
            If a column is missing, a visit has two rows, or no visit is in one of the bands or has a passband.
        """
        table = table[np.argsort(np.asarray(table["visit"]), kind="stable")]
        visit = np.asarray(table["visit"], np.int64)
        again = np.flatnonzero(visit[1:] == visit[:-1])
        if len(again):
            raise InvalidInputError(f"fgcmVisitCatalog has visit {visit[again[0]]} twice.")
        filters, filter_band = _filters(table, settings, passbands)
        mjd = _floats(table, "mjd")
        night_numbers, night, night_time = _nights(mjd, settings.ut_boundary)
        washes = _intervals(mjd, settings.wash_mjds)
        epochs = _intervals(mjd, settings.epoch_mjds)
        coatings = _intervals(mjd, settings.coating_mjds)
        airmass = _airmass(table, settings.latitude, passbands.ranges["airmass"])
        return cls(
            visit=visit,
            band=np.where(filters >= 0, filter_band[filters], -1).astype(np.int16),
            filter=np.where((filters >= 0) & (filter_band[filters] >= 0), filters, -1).astype(np.int16),
            mjd=mjd,
            night=night,
            night_time=night_time,
            wash=washes[1],
            wash_time=np.nan_to_num(mjd - washes[0][washes[1]]),
            epoch=epochs[1],
            coating=coatings[1],
            exptime=_floats(table, "exptime"),
            pmb=_pressure(table, passbands.standard.pmb),
            ra=_floats(table, "telra"),
            dec=_floats(table, "teldec"),
            hour_angle=_floats(table, "telha"),
            rotation=_floats(table, "telrot"),
            airmass=airmass,
            psf_fwhm=_floats(table, "psfFwhm"),
            delta_aper=_known(_floats(table, "deltaAper")),
            aperture_variable=_known(_floats(table, settings.aperture_column)),
            sky=_floats(table, "skyBackground"),
            psf_fwhm_detector=_by_detector(table, "psfFwhmDetector", passbands.detectors),
            delta_aper_detector=_by_detector(table, "deltaAperDetector", passbands.detectors),
            airmass_low=airmass.copy(),
            airmass_high=airmass.copy(),
            bands=settings.bands,
            physical_filters=passbands.physical_filters,
            detectors=passbands.detectors,
            filter_band=filter_band,
            night_numbers=night_numbers,
            wash_mjds=washes[0],
            epoch_mjds=epochs[0],
            coating_mjds=coatings[0],
        )


def _floats(table: Table, name: str) -> FloatArray:
    """Return a column, NaN where it is masked."""
    if name not in table.colnames:
        raise InvalidInputError(f"fgcmVisitCatalog lacks the column {name}.")
    return np.array(np.ma.filled(np.ma.asarray(table[name]).astype(np.float64), np.nan))


def _known(values: FloatArray) -> FloatArray:
    """Return values, NaN in place of what stands for unknown."""
    return np.where(values > _UNKNOWN, values, np.nan)


def _filters(
    table: Table, settings: FitDataSettings, passbands: PassbandSource
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int16]]:
    """Return the filter of each visit (-1: not among the passbands), and the band of each filter of the passbands."""
    bands: Mapping[str, str] = settings.filter_bands or table.meta.get("BANDS", {})
    if not bands:
        raise InvalidInputError(
            "physicalFilterMap is empty, and fgcmVisitCatalog does not say which band a filter is of; set physicalFilterMap."
        )
    names = [str(name) for name in table["physicalFilter"]]
    index = {name: k for k, name in enumerate(passbands.physical_filters)}
    counts = Counter(names)
    in_bands = {name for name in counts if bands.get(name) in settings.bands}
    no_passband = {name: n for name, n in sorted(counts.items()) if name not in index}
    no_band = {name: n for name, n in sorted(counts.items()) if name in index and name not in in_bands}
    if not in_bands:
        raise InvalidInputError(
            f"No visit is in a band of {', '.join(settings.bands)}: the filters are {', '.join(sorted(counts))}. Correct bands or "
            "physicalFilterMap."
        )
    if not in_bands & set(index):
        raise InvalidInputError(
            f"No visit has a passband: fgcmVisitCatalog has visits in {', '.join(sorted(counts))}, the look-up table or throughputs "
            f"have {', '.join(passbands.physical_filters)}. Is this the look-up table of this camera?"
        )
    if no_passband:
        _log.warning(
            "No zeropoint for %s: the look-up table or throughputs have no passband of these filters, only of %s. For zeropoints, "
            "make them with these filters, and have the filters in physicalFilterMap and their bands in bands.",
            _in_filters(no_passband), ", ".join(passbands.physical_filters),
        )  # fmt: skip
    if no_band:
        _log.warning(
            "No zeropoint for %s: physicalFilterMap has these filters in no band of %s.",
            _in_filters(no_band), ", ".join(settings.bands),
        )  # fmt: skip
    of_filter = np.array(
        [
            settings.bands.index(bands[name]) if bands.get(name) in settings.bands else -1
            for name in passbands.physical_filters
        ],
        np.int16,
    )
    return np.array([index.get(name, -1) for name in names], np.int64), of_filter


def _in_filters(counts: Mapping[str, int]) -> str:
    """Return in words how many visits are in which filters."""
    each = [f"{n} visit{'s' if n > 1 else ''} in {name}" for name, n in counts.items()]
    return ", ".join(each)


def _nights(
    mjd: FloatArray, boundary: float
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], FloatArray]:
    """Return the nights' numbers, the night of each exposure, and the days since its boundary."""
    number = np.where(np.isfinite(mjd), np.floor(mjd + boundary), -1.0)
    numbers, night = np.unique(number, return_inverse=True)
    time = np.where(np.isfinite(mjd), mjd + boundary - number, 0.0)
    n_unknown = int(np.count_nonzero(~np.isfinite(mjd)))
    if n_unknown:
        _log.warning("The time of %d visits is not known; they count as one night.", n_unknown)
    return numbers.astype(np.int32), night.astype(np.int32), time


def _intervals(mjd: FloatArray, boundaries: tuple[float, ...]) -> tuple[FloatArray, npt.NDArray[np.int32]]:
    """Return the begins of intervals, and the interval of each exposure; unknown times are in the first."""
    known = mjd[np.isfinite(mjd)]
    first, last = (float(known.min()), float(known.max())) if len(known) else (0.0, 0.0)
    inside = sorted({each for each in boundaries if first < each <= last})
    begins = np.array([first - 1.0, *inside])
    index = np.searchsorted(begins, np.where(np.isfinite(mjd), mjd, first), side="right") - 1
    return begins, index.astype(np.int32)


def _pressure(table: Table, standard: float) -> FloatArray:
    """Return the pressures, the standard one where they are not known."""
    pressure = _floats(table, "pmb")
    unknown = ~np.isfinite(pressure) | (pressure <= 0)
    if unknown.any():
        _log.warning(
            "The pressure of %d of %d visits is not known; it is taken as %.1f mb, that of the standard atmosphere.",
            int(unknown.sum()), len(pressure), standard,
        )  # fmt: skip
    return np.where(unknown, standard, pressure)


def _airmass(table: Table, latitude: float, limits: tuple[float, float]) -> FloatArray:
    """Return the secant at the boresight: from the hour angle, else as the telescope told it, else 1."""
    ra, dec, hour_angle = (np.radians(_floats(table, name)) for name in ("telra", "teldec", "telha"))
    secant = observation_secant(ra, dec, hour_angle + ra, np.radians(latitude))
    if "airmass" in table.colnames:
        secant = np.where(np.isfinite(secant), secant, _floats(table, "airmass"))
    below = secant < 0  # below the horizon
    secant = np.where(below, limits[1], secant)
    return np.clip(np.where(np.isfinite(secant), secant, 1.0), *limits)


def _by_detector(table: Table, name: str, detectors: tuple[int, ...]) -> npt.NDArray[np.float32] | None:
    """Return a column of detectors in the order of the passbands, NaN where unknown; None if nothing is known."""
    if name not in table.colnames:
        return None
    values = np.asarray(table[name], np.float32)
    known = [int(each) for each in table.meta.get("DETECTORS", range(values.shape[1]))]
    out = np.full((len(table), len(detectors)), np.nan, np.float32)
    place = {detector: k for k, detector in enumerate(known)}
    for k, detector in enumerate(detectors):
        if detector in place:
            column = values[:, place[detector]]
            out[:, k] = np.where(column > _UNKNOWN, column, np.nan)
    return out if np.isfinite(out).any() else None
