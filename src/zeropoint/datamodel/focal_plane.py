"""Where the detectors of a camera are, how large their pixels are on the sky, and how that changes over each of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from astropy.table import Column, Table

from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.errors import InvalidInputError

if TYPE_CHECKING:
    from lsst.images.cameras import CameraFrameSet

    from zeropoint.datamodel.exposure_catalog import ExposureCatalog
    from zeropoint.datamodel.transmission_curve import TransmissionCurve

__all__ = ["DetectorGeometry", "FocalPlane"]

FloatArray = npt.NDArray[np.float64]

_DESCRIPTIONS = {
    "instrument": (None, "Name of the camera"),
    "detector": (None, "Detector"),
    "name": (None, "Name of the detector"),
    "x0": ("pixel", "First column of its box"),
    "y0": ("pixel", "First row of its box"),
    "width": ("pixel", "Columns of its box"),
    "height": ("pixel", "Rows of its box"),
    "offset_x": ("deg", "Tangent-plane position of its center from the optical axis, East at rotation 0"),
    "offset_y": ("deg", "Tangent-plane position of its center from the optical axis, North at rotation 0"),
    "x_mm": ("mm", "Position of its center in the focal plane; NaN if unknown"),
    "y_mm": ("mm", "Position of its center in the focal plane; NaN if unknown"),
    "pixel_size": ("mm", "Side of a pixel in the focal plane; NaN if unknown"),
    "pixel_scale": ("arcsec", "Square root of the area of a pixel at its center"),
    "area": (
        None,
        "Chebyshev coefficients of the relative pixel area over its box, by order in y, then in x",
    ),
}


@dataclass(frozen=True)
class DetectorGeometry:
    """One detector of a focal plane.

    Parameters
    ----------
    id, name
        Number and name.
    x0, y0, width, height
        Box of its pixels.
    offset_x, offset_y
        Center of the box from the optical axis on the tangent plane there, degrees: East and North if the camera's rotation
        is 0.
    pixel_scale
        Square root of the area of the pixel at the center, arcsec.
    area
        Area of a pixel over the square of the camera's median pixel scale, as a function of the position from the box's first
        pixel.
    x_mm, y_mm, pixel_size
        Center in the focal plane and side of a pixel, mm; NaN if unknown.
    """

    id: int
    name: str
    x0: int
    y0: int
    width: int
    height: int
    offset_x: float
    offset_y: float
    pixel_scale: float
    area: ChebyshevPolynomial
    x_mm: float = float("nan")
    y_mm: float = float("nan")
    pixel_size: float = float("nan")


@dataclass(frozen=True)
class FocalPlane:
    """The detectors of a camera.

    Parameters
    ----------
    instrument
        Its name.
    detectors
        Sorted by id.

    Raises
    ------
    InvalidInputError
        If there is none, or a detector comes twice.
    """

    instrument: str
    detectors: tuple[DetectorGeometry, ...]

    def __post_init__(self) -> None:
        if not self.detectors:
            raise InvalidInputError(f"focal plane of {self.instrument or 'a camera'}: has no detector.")
        ids = [each.id for each in self.detectors]
        object.__setattr__(self, "detectors", tuple(sorted(self.detectors, key=lambda each: each.id)))
        if len(set(ids)) < len(ids):
            repeated = sorted({i for i in ids if ids.count(i) > 1})
            raise InvalidInputError(
                f"focal plane of {self.instrument}: detectors {repeated} come more than once."
            )

    @classmethod
    def from_camera(
        cls, camera: CameraFrameSet, *, names: Mapping[int, str] | None = None, mirrored: bool = False
    ) -> FocalPlane:
        """Return the focal plane of a camera model.

        Parameters
        ----------
        camera
            Camera model.
        names
            Names of detectors, which the model does not know; by default their numbers.
        mirrored
            +X of the field angles points East if +Y points North; else West.
        """
        from zeropoint.datamodel.focal_plane_sources import of_camera

        return of_camera(camera, names or {}, mirrored=mirrored)

    @classmethod
    def from_summaries(
        cls,
        summaries: Iterable[ExposureCatalog],
        *,
        instrument: str = "",
        names: Mapping[int, str] | None = None,
    ) -> FocalPlane:
        """Return the focal plane that the WCSs of visits show: the medians of where they see it.

        Parameters
        ----------
        summaries
            Some visits; a few dozen are enough. All detectors that one of them has a WCS for are in the result.
        instrument, names
            Names of the camera and its detectors; by default what the catalogues say, and numbers.

        Raises
        ------
        InvalidInputError
            If no detector has a WCS, or visits have no detector in common with others.

        Notes
        -----
        The optical axis and the rotation are those of the visits' pointing where their facts of the observation have
        them; else the center of the detectors, and +Y as the mean of theirs.  Places in millimetres stay unknown.
        """
        from zeropoint.datamodel.focal_plane_sources import of_summaries

        return of_summaries(summaries, instrument, names or {})

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """Detectors, ascending."""
        return np.array([each.id for each in self.detectors], np.int64)

    @property
    def median_pixel_scale(self) -> float:
        """Median of the pixel scales at the detectors' centers, arcsec."""
        return float(np.median([each.pixel_scale for each in self.detectors]))

    def __len__(self) -> int:
        return len(self.detectors)

    def __iter__(self) -> Iterator[DetectorGeometry]:
        return iter(self.detectors)

    def __contains__(self, detector: int) -> bool:
        return any(each.id == detector for each in self.detectors)

    def __getitem__(self, detector: int) -> DetectorGeometry:
        for each in self.detectors:
            if each.id == detector:
                return each
        raise InvalidInputError(f"focal plane of {self.instrument}: has no detector {detector}.")

    def only(self, detectors: Iterable[int]) -> FocalPlane:
        """Return the focal plane of some of the detectors, say without guiders; areas stay as they are.

        Parameters
        ----------
        detectors
            Which, in any order.

        Raises
        ------
        InvalidInputError
            If one of them is not there.
        """
        return FocalPlane(self.instrument, tuple(self[int(detector)] for detector in detectors))

    def relative_area(self, detector: Any, x: Any, y: Any) -> FloatArray:
        """Return the area of pixels over the square of the median pixel scale.

        Parameters
        ----------
        detector : int, scalar or shape (n,)
            Detectors.
        x, y : float, shape (n,)
            Pixel positions.

        Returns
        -------
        area : float64, shape (n,)

        Raises
        ------
        InvalidInputError
            If a detector is not in the focal plane.
        """
        which, x, y = np.broadcast_arrays(detector, np.asarray(x, np.float64), np.asarray(y, np.float64))
        area = np.empty(which.shape, np.float64)
        for number in np.unique(which):
            chosen = which == number
            one = self[int(number)]
            area[chosen] = one.area(x=x[chosen] - one.x0, y=y[chosen] - one.y0)
        return area

    def throughput(self, curve: TransmissionCurve, detector: int, wavelength: Any) -> FloatArray:
        """Return the throughput of a curve at the center of a detector.

        Parameters
        ----------
        curve
            If it depends on the distance from the axis in pixels, and places in millimetres are unknown, the distance on
            the sky tells it.
        detector
            Detector.
        wavelength : float, shape (m,)
            Angstrom.

        Returns
        -------
        throughput : float64, shape (m,)

        Raises
        ------
        InvalidInputError
            If it depends on millimetres, and these are unknown.
        """
        one = self[detector]
        if curve.radius_unit == "pixel" and not np.isfinite([one.x_mm, one.y_mm, one.pixel_size]).all():
            scale = self.median_pixel_scale / 3600.0
            return curve.sample(wavelength, one.offset_x / scale, one.offset_y / scale, pixel_size_mm=1.0)
        return curve.sample(wavelength, one.x_mm, one.y_mm, pixel_size_mm=one.pixel_size)

    def to_table(self) -> Table:
        """Return one row for each detector."""
        side = max(n for each in self.detectors for n in each.area.coefficients.shape)
        areas = np.zeros((len(self), side, side))
        for k, each in enumerate(self.detectors):
            ny, nx = each.area.coefficients.shape
            areas[k, :ny, :nx] = each.area.coefficients
        values: dict[str, Any] = {
            "instrument": np.full(len(self), self.instrument),
            "detector": self.ids,
            "area": areas.reshape(len(self), -1),
            **{
                name: np.array([getattr(each, name) for each in self.detectors])
                for name in _DESCRIPTIONS
                if name not in ("instrument", "detector", "area")
            },
        }
        return Table(
            {
                name: Column(values[name], unit=unit, description=text)
                for name, (unit, text) in _DESCRIPTIONS.items()
            }
        )

    @classmethod
    def from_table(cls, table: Table) -> FocalPlane:
        """Return the focal plane of a table as `to_table` gives it.

        Parameters
        ----------
        table
            One row for each detector.

        Raises
        ------
        InvalidInputError
            If columns are missing.
        """
        missing = [name for name in _DESCRIPTIONS if name not in table.colnames]
        if missing:
            raise InvalidInputError(f"this is no focal plane: it has no column {', '.join(missing)}.")
        rows = [dict(zip(row.colnames, row)) for row in table]
        return cls(str(rows[0]["instrument"]) if rows else "", tuple(_of_row(row) for row in rows))


def _of_row(row: Mapping[str, Any]) -> DetectorGeometry:
    values: dict[str, Any] = {
        name: row[name] for name in _DESCRIPTIONS if name not in ("instrument", "detector", "area")
    }
    whole = ("x0", "y0", "width", "height")
    for name in values:
        values[name] = (
            str(values[name]) if name == "name" else (int if name in whole else float)(values[name])
        )
    coefficients = np.asarray(row["area"], np.float64)
    side = round(coefficients.size**0.5)
    area = ChebyshevPolynomial(values["width"], values["height"], coefficients.reshape(side, side))
    return DetectorGeometry(id=int(row["detector"]), area=area, **values)
