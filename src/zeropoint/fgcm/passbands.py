"""Throughputs of a camera's filters and detectors, and the standard passbands that they define."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.quadrature import simpson_weights

if TYPE_CHECKING:
    from zeropoint.datamodel.focal_plane import FocalPlane
    from zeropoint.datamodel.transmission_curve import TransmissionCurve

__all__ = [
    "DetectorThroughputs",
    "StandardPassband",
    "StandardPassbands",
    "filter_throughputs",
    "focal_plane_mean",
    "passband_tables",
    "standard_passbands",
]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DetectorThroughputs:
    """Throughputs on one grid of wavelengths.

    Parameters
    ----------
    physical_filters
        Filters, in the order of the first axis.
    detectors
        Ids, in the order of the second axis but its last entry, which is the mean over the focal plane.
    wavelength
        Angstrom, shape (wavelengths,).
    throughput
        Shape (filters, detectors + 1, wavelengths), 0 to 1.
    """

    physical_filters: tuple[str, ...]
    detectors: tuple[int, ...]
    wavelength: FloatArray
    throughput: FloatArray


@dataclass(frozen=True)
class StandardPassband:
    """A filter's passband, and what its standard is.

    Parameters
    ----------
    physical_filter, std_physical_filter
        The filter, and the one that defines its standard passband.
    lambda_std
        Standard wavelength: `lambda_std_filter` of the standard filter, Angstrom.
    lambda_std_filter
        Mean wavelength of the filter with the standard atmosphere, Angstrom.
    lambda_b
        Mean wavelength of the filter without atmosphere, Angstrom.
    i0_std, i1_std, i2_std
        Moments about `lambda_std` with the standard atmosphere: 1, Angstrom, Angstrom^2.
    i10_std
        i1_std / i0_std, Angstrom.
    wavelength
        Angstrom.
    throughput
        Mean over the focal plane times standard atmosphere.
    detector_throughput
        Of each detector and, last, the mean over the focal plane, without atmosphere; shape (detectors + 1, wavelengths).
    """

    physical_filter: str
    std_physical_filter: str
    lambda_std: float
    lambda_std_filter: float
    lambda_b: float
    i0_std: float
    i1_std: float
    i2_std: float
    i10_std: float
    wavelength: FloatArray
    throughput: FloatArray
    detector_throughput: FloatArray


@dataclass(frozen=True)
class StandardPassbands:
    """The passbands of a camera's filters, in order.

    Parameters
    ----------
    passbands
        One per filter.
    detectors
        Ids, in the order of the passbands' `StandardPassband.detector_throughput`.
    """

    passbands: tuple[StandardPassband, ...]
    detectors: tuple[int, ...]

    def __getitem__(self, physical_filter: str) -> StandardPassband:
        """Return the passband of a filter; KeyError if there is none."""
        for passband in self.passbands:
            if passband.physical_filter == physical_filter:
                return passband
        raise KeyError(physical_filter)

    @property
    def physical_filters(self) -> tuple[str, ...]:
        """Names of the filters."""
        return tuple(each.physical_filter for each in self.passbands)

    def column(self, name: str) -> FloatArray:
        """Return one number of each filter, shape (filters,).

        Parameters
        ----------
        name
            Attribute of `StandardPassband`.
        """
        return np.array([getattr(each, name) for each in self.passbands], float)


def focal_plane_mean(throughput: FloatArray) -> FloatArray:
    """Return the mean throughput at each wavelength over the detectors that let light pass there.

    Parameters
    ----------
    throughput
        Shape (detectors, wavelengths).
    """
    n_open = (throughput > 0).sum(axis=0)
    return throughput.sum(axis=0) / np.maximum(n_open, 1)


def filter_throughputs(
    physical_filters: Sequence[str],
    detectors: Sequence[int],
    wavelength: FloatArray,
    *,
    optics: TransmissionCurve | None,
    sensors: Mapping[int, TransmissionCurve] | None,
    filter_curve: Callable[[str, int], TransmissionCurve],
    focal_plane: FocalPlane | None = None,
    sensor_terms: Mapping[str, tuple[float, Mapping[int, float]]] | None = None,
) -> DetectorThroughputs:
    """Multiply the curves of optics, sensors and filters at the detectors' centers.

    Parameters
    ----------
    physical_filters
        Filters, in order.
    detectors
        Ids, in order.
    wavelength
        Where to sample, Angstrom.
    optics
        Curve of the optics; None: unity.
    sensors
        Detector -> curve; None: unity.
    filter_curve
        Returns the curve of a filter before a detector; may raise `InvalidInputError`.
    focal_plane
        Where the detectors are; None: unknown, which only curves that depend on the place mind.
    sensor_terms
        Filter -> (reference wavelength in Angstrom, detector -> c): the throughput of that detector is multiplied by
        1 + c (lam - reference)/reference.

    Returns
    -------
    throughputs : DetectorThroughputs
        Clipped to 0...1.

    Raises
    ------
    InvalidInputError
        If a detector has no sensor curve, a curve depends on a place that is not known, or a filter lets no light pass at
        these wavelengths.
    """
    terms = sensor_terms or {}
    _check_terms(terms, physical_filters, detectors)

    def at(curve: TransmissionCurve, detector: int) -> FloatArray:
        if focal_plane is None:
            return curve.sample(wavelength, np.nan, np.nan)
        return focal_plane.throughput(curve, detector, wavelength)

    camera = np.ones((len(detectors), len(wavelength)))
    for row, detector in enumerate(detectors):
        if optics is not None:
            camera[row] *= at(optics, detector)
        if sensors is not None:
            if detector not in sensors:
                raise InvalidInputError(
                    f"Detector {detector} has no sensor curve; add it, or set doSensorTransmission=False for unity."
                )
            camera[row] *= at(sensors[detector], detector)
    out = np.empty((len(physical_filters), len(detectors) + 1, len(wavelength)))
    for k, name in enumerate(physical_filters):
        reference, slopes = terms.get(name, (1.0, {}))
        for row, detector in enumerate(detectors):
            curve = camera[row] * at(filter_curve(name, detector), detector)
            # without a term the factor is exactly one
            factor = 1.0 + slopes.get(detector, 0.0) * (wavelength - reference) / reference
            out[k, row] = np.clip(curve * factor, 0.0, 1.0)
            if not out[k, row].any():
                raise InvalidInputError(
                    f"Filter {name!r} with detector {detector} lets no light pass from {wavelength[0]:g} to "
                    f"{wavelength[-1]:g} Angstrom; are its wavelengths in Angstrom?"
                )
        out[k, -1] = focal_plane_mean(out[k, :-1])
    return DetectorThroughputs(tuple(physical_filters), tuple(detectors), wavelength, out)


def _check_terms(
    terms: Mapping[str, tuple[float, Mapping[int, float]]],
    physical_filters: Sequence[str],
    detectors: Sequence[int],
) -> None:
    """Raise where a correction names a filter or a detector that there is not: it would have no effect."""
    for name, (reference, slopes) in terms.items():
        if name not in physical_filters:
            raise InvalidInputError(
                f"sensorCorrectionTermDict names filter {name!r}, which is not among physicalFilters "
                f"({', '.join(physical_filters)})."
            )
        if not reference > 0:
            raise InvalidInputError(
                f"sensorCorrectionTermDict[{name!r}].refLambda is {reference:g}; it must be a wavelength in Angstrom."
            )
        unknown = sorted(set(slopes) - set(detectors))
        if unknown:
            raise InvalidInputError(
                f"sensorCorrectionTermDict[{name!r}] has terms of detectors {unknown}, which the camera lacks."
            )


def standard_passbands(
    throughputs: DetectorThroughputs,
    std_transmission: FloatArray,
    std_physical_filters: Sequence[str],
) -> StandardPassbands:
    """Return the standard passbands of a camera.

    Parameters
    ----------
    throughputs
        Of filters and detectors.
    std_transmission
        Of the standard atmosphere at the throughputs' wavelengths.
    std_physical_filters
        For each filter, the one that defines its standard passband.

    Raises
    ------
    InvalidInputError
        If a standard filter is not among the filters.
    """
    wavelength = throughputs.wavelength
    weights = simpson_weights(wavelength)
    filters = throughputs.physical_filters
    missing = sorted(set(std_physical_filters) - set(filters))
    if missing:
        raise InvalidInputError(
            f"Standard filter {', '.join(missing)} is not among the filters {', '.join(filters)}; "
            "every target of stdPhysicalFilterOverrideMap must be in physicalFilters."
        )
    means = throughputs.throughput[:, -1]
    with_air = means * std_transmission

    def mean_wavelength(curves: FloatArray) -> FloatArray:
        return (curves @ weights) / (curves @ (weights / wavelength))

    lambda_b, lambda_std_filter = mean_wavelength(means), mean_wavelength(with_air)
    out = []
    for k, (name, standard) in enumerate(zip(filters, std_physical_filters, strict=True)):
        lambda_std = float(lambda_std_filter[filters.index(standard)])
        measure = weights * with_air[k] / wavelength
        i0, i1, i2 = (float(measure @ (wavelength - lambda_std) ** order) for order in range(3))
        out.append(
            StandardPassband(
                name, standard, lambda_std, float(lambda_std_filter[k]), float(lambda_b[k]),
                i0, i1, i2, i1 / i0, wavelength, with_air[k], throughputs.throughput[k],
            )
        )  # fmt: skip
    return StandardPassbands(tuple(out), throughputs.detectors)


def passband_tables(passbands: StandardPassbands, bands: Mapping[str, str]) -> dict[str, Table]:
    """Return the passbands of the filters that are their own standard, by band, as users want them.

    Parameters
    ----------
    passbands
        Of the camera.
    bands
        Filter -> band.

    Returns
    -------
    tables : dict
        Band -> table of ``wavelength`` (nm) and ``throughput`` (percent), mean over the focal plane with the standard
        atmosphere.

    Raises
    ------
    InvalidInputError
        If two filters that are their own standard have one band: which of them is the band's is for
        ``stdPhysicalFilterOverrideMap`` to say.
    """
    tables: dict[str, Table] = {}
    owners: dict[str, str] = {}
    for each in passbands.passbands:
        if each.physical_filter != each.std_physical_filter:
            continue
        band = bands[each.physical_filter]
        if band in owners:
            raise InvalidInputError(
                f"Filters {owners[band]} and {each.physical_filter} are both of band {band} and both their own standard; "
                "map one to the other with stdPhysicalFilterOverrideMap."
            )
        owners[band] = each.physical_filter
        table = Table({"wavelength": each.wavelength / 10.0, "throughput": each.throughput * 100.0})
        table["wavelength"].unit, table["throughput"].unit = "nm", "percent"
        table["wavelength"].description = "Center of the bin"
        table[
            "throughput"
        ].description = f"Mean over the focal plane of {each.physical_filter}, with the standard atmosphere"
        tables[band] = table
    return tables
