"""Illumination corrections: what flat fields leave, from the superstar flats of a fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from astropy.table import Table
from lsst.images import Box

from zeropoint.datamodel.focal_plane import DetectorGeometry
from zeropoint.datamodel.photo_calib_catalog import PhotoCalibRecord
from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.outputs.photo_calib import area_over, detector_box, square
from zeropoint.fgcm.outputs.tables import NO_FLAT, require_columns

__all__ = ["IlluminationCorrections", "illumination_corrections"]

#: Smallest factor on fluxes, as the fit has it.
_LEAST = 0.1
_COLUMNS = ("lutFilterNames", "superstarSize", "superstar", "epochMjdStart", "epochMjdEnd")

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class IlluminationCorrections:
    """The superstar flats of one epoch.

    Parameters
    ----------
    physical_filters
        Filters of the fit.
    detectors
        Detectors of the fit, in the order of ``coefficients``.
    coefficients : float64, shape (n_filters, n_detectors, n)
        Chebyshev coefficients of each, in flux, row by row of the matrix [y order, x order].
    epoch
        Its index, and first and last time, MJD.
    """

    physical_filters: tuple[str, ...]
    detectors: tuple[int, ...]
    coefficients: FloatArray
    epoch: tuple[int, float, float]

    def image(
        self, physical_filter: str, geometry: DetectorGeometry, *, include_area: bool
    ) -> npt.NDArray[np.float32] | None:
        """Return what an image is divided by, to make it flat for stars.

        Parameters
        ----------
        physical_filter
            Filter.
        geometry
            The detector.
        include_area
            Whether the areas of pixels are part of it: the image then has fluence, in place of surface brightness.

        Returns
        -------
        image : float32, shape (height, width)
            One over the factor that the fit and the pixel area have for fluxes, which is not taken to be below 0.1; None: the
            fit has no superstar flat here.

        Raises
        ------
        InvalidInputError
            If the fit does not know the detector.
        """
        if geometry.id not in self.detectors:
            raise InvalidInputError(
                f"Detector {geometry.id} is not of the fit, which has {', '.join(map(str, self.detectors))}."
            )
        if physical_filter not in self.physical_filters:
            return None
        values = self.coefficients[
            self.physical_filters.index(physical_filter), self.detectors.index(geometry.id)
        ]
        if not np.isfinite(values).all() or values[0] >= NO_FLAT:
            return None
        width, height = geometry.width, geometry.height
        product = PhotoCalibRecord(
            geometry.id,
            0,
            detector_box(geometry),
            np.ones((1, 1)),
            superstar=square(values),
            pixel_area=area_over(geometry, width, height) if include_area else None,
            domain=Box.factory[0:height, 0:width],
        ).getPhotoCalib()
        field = product.field
        if field is None:
            factor = np.full((height, width), product.calibration_mean, np.float32)
        else:
            factor = field.image()
        return np.asarray(1.0 / np.maximum(factor, np.float32(_LEAST)), np.float32)


def illumination_corrections(parameters: Table, mjd: float) -> IlluminationCorrections:
    """Return the superstar flats of the epoch of a time.

    Parameters
    ----------
    parameters
        ``fgcm_Cycle{N}_FitParameters``, one row, with its metadata.
    mjd
        A time in the epoch, MJD in UTC.

    Raises
    ------
    InvalidInputError
        If columns are missing, no epoch of the fit contains the time, or the metadata do not name its detectors.
    """
    require_columns(parameters, "fit parameters", _COLUMNS)
    row = parameters[0]
    size = tuple(int(n) for n in np.asarray(row["superstarSize"]))
    flats = np.asarray(row["superstar"], np.float64).reshape(size)
    start, stop = (np.asarray(row[name], np.float64).ravel() for name in ("epochMjdStart", "epochMjdEnd"))
    inside = np.flatnonzero((mjd >= start) & (mjd < stop))
    if len(inside) == 0:
        known = ", ".join(f"{a:.1f} to {b:.1f}" for a, b in zip(start, stop, strict=True))
        raise InvalidInputError(
            f"MJD {mjd:.3f} is in no epoch of the fit ({known}); choose another epoch_time."
        )
    ids = tuple(int(each) for each in parameters.meta.get("DETECTORS", ()))
    if len(ids) != size[2]:
        raise InvalidInputError(
            f"The fit has superstar flats of {size[2]} detectors, and its metadata name {len(ids)}; read the table of fit "
            "parameters with its metadata."
        )
    filters = tuple(str(row["lutFilterNames"]).split(","))
    epoch = int(inside[0])
    return IlluminationCorrections(
        filters, ids, flats[epoch], (epoch, float(start[epoch]), float(stop[epoch]))
    )
