"""What an exposure catalogue holds besides numbers, as text that stock ``lsst.images`` reads, and back."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import lsst.images.json
import numpy as np
import pydantic
from astro_metadata_translator import ObservationInfo
from lsst.images import Box, DetectorFrame, Region, SkyProjection
from lsst.images.cameras import Detector
from lsst.images.fields import BaseField
from lsst.images.psfs import PointSpreadFunction
from lsst.images.serialization import ArchiveReadError, read_archive

from zeropoint.datamodel.background_fields import chebyshev_field, chebyshev_polynomial
from zeropoint.datamodel.exposure import PhotoCalib
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.datamodel.visit_image import photo_calib_field
from zeropoint.datamodel.wcs import SkyWcs, gnomonic
from zeropoint.errors import InvalidInputError

__all__ = [
    "COMPONENTS",
    "decode",
    "encode_ap_corr_map",
    "encode_detector",
    "encode_photo_calib",
    "encode_polygon",
    "encode_psf",
    "encode_visit_info",
    "encode_wcs",
    "photo_calib_of",
    "sky_wcs_of",
]

#: Component columns in the order of Rubin's exposure catalogues, with what each holds.
COMPONENTS: Mapping[str, str] = {
    "wcs": "Pixel to sky, lsst.images SkyProjection",
    "psf": "Point spread function, lsst.images",
    "photoCalib": "Photometric calibration, lsst.images field in nJy per electron",
    "apCorrMap": "Aperture corrections, object of lsst.images fields by name",
    "validPolygon": "Part of the detector that is valid, lsst.images Region in pixels",
    "visitInfo": "Facts of the observation, astro_metadata_translator ObservationInfo",
    "transmissionCurve": "Throughput; empty, as no image carries one",
    "detector": "Detector, lsst.images",
}

#: Metadata keys of archives: what their objects cannot say.
_POLYNOMIAL, _CALIBRATION_ERR, _CALIBRATION_MEAN = "wcs.polynomial", "calibrationErr", "calibrationMean"
_REGION = pydantic.TypeAdapter(Region)


def encode_psf(psf: PointSpreadFunction) -> str:
    """Return a PSF as text."""
    return _archive(psf)


def encode_wcs(
    wcs: SkyWcs | SkyProjection[Any], *, box: Box | None, instrument: str, visit: int, detector: int
) -> str:
    """Return a WCS as text; the polynomial of a `SkyWcs` is kept with every bit in the archive's metadata.

    Raises
    ------
    InvalidInputError
        If a `SkyWcs` comes without the box of its image, or with one that does not begin at pixel (0, 0).
    """
    if isinstance(wcs, SkyProjection):
        return _archive(wcs)
    shape = _shape(box, "WCS")
    frame = DetectorFrame(instrument=instrument, visit=visit, detector=detector, bbox=box)
    projection = SkyProjection.from_fits_wcs(wcs.to_astropy(shape), frame)
    return _archive(projection, {_POLYNOMIAL: wcs.to_text()})


def encode_photo_calib(calib: PhotoCalib | BaseField, *, box: Box | None) -> str:
    """Return a photometric calibration as text, nJy per electron; error and mean are in the archive's metadata.

    Raises
    ------
    InvalidInputError
        If a `PhotoCalib` comes without the box of its image, or with one that does not begin at pixel (0, 0).
    """
    if isinstance(calib, BaseField):
        return _archive(calib)
    field = photo_calib_field(calib, _shape(box, "photometric calibration"))
    numbers = {_CALIBRATION_ERR: calib.calibration_err, _CALIBRATION_MEAN: calib.calibration_mean}
    return _archive(field, {name: float(value) for name, value in numbers.items()})


def encode_ap_corr_map(corrections: Mapping[str, ChebyshevPolynomial | BaseField]) -> str:
    """Return aperture corrections as text: an object that has the archive of each field under its name."""
    archives = {
        name: _archive(chebyshev_field(field, None) if isinstance(field, ChebyshevPolynomial) else field)
        for name, field in corrections.items()
    }
    return "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in archives.items()) + "}"


def encode_polygon(polygon: Region) -> str:
    """Return a region of pixels as text (GeoJSON)."""
    return _REGION.dump_json(polygon).decode()


def encode_visit_info(info: ObservationInfo) -> str:
    """Return the facts of an observation as text."""
    return str(info.to_json())


def encode_detector(detector: Detector) -> str:
    """Return a detector as text."""
    return _archive(detector)


def decode(component: str, text: str, where: str) -> Any:
    """Return the object behind a component's text, None for the empty text.

    Parameters
    ----------
    component
        One of `COMPONENTS`.
    text
        As an ``encode`` function or another writer of the documented form made it.
    where
        Words that say whose component it is, for messages.

    Raises
    ------
    InvalidInputError
        If the text is nothing of the kind.
    """
    if not text:
        return None
    try:
        return _DECODERS[component](text)
    except (ArchiveReadError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidInputError(f"{where}: the column {component!r} cannot be read: {error}") from error


def sky_wcs_of(text: str, projection: SkyProjection[Any], shape: tuple[int, int]) -> SkyWcs:
    """Return the WCS of a text of ``wcs``: the polynomial it was made from, else one fitted over the image.

    Parameters
    ----------
    text, projection
        Text, and what it decodes to.
    shape
        (height, width) of the image, which begins at pixel (0, 0).
    """
    polynomial = _archive_metadata(text).get(_POLYNOMIAL)
    if polynomial is not None:
        return SkyWcs.from_text(str(polynomial))

    def to_sky(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sky = projection.pixel_to_sky(x=x, y=y)
        return np.asarray(sky.ra.rad), np.asarray(sky.dec.rad)

    ra0, dec0 = _tangent_point(projection, shape)
    return SkyWcs.from_function(
        lambda x, y: gnomonic(*to_sky(x, y), ra0, dec0), ra0=ra0, dec0=dec0, shape=shape
    )


def photo_calib_of(text: str, field: Any) -> PhotoCalib:
    """Return the calibration of a text of ``photoCalib`` and the field it decodes to."""
    numbers = _archive_metadata(text)
    polynomial = chebyshev_polynomial(field)
    mean = float(numbers.get(_CALIBRATION_MEAN, polynomial.mean()))
    constant = polynomial.coefficients.size == 1
    return PhotoCalib(mean, float(numbers.get(_CALIBRATION_ERR, 0.0)), None if constant else polynomial)


def _tangent_point(projection: SkyProjection[Any], shape: tuple[int, int]) -> tuple[float, float]:
    """Return the tangent point (radians) about which a projection is a polynomial of its order, if it has one."""
    fits_wcs = projection.as_fits_wcs(Box.factory[0 : shape[0], 0 : shape[1]], allow_approximation=True)
    if fits_wcs is not None and str(fits_wcs.wcs.ctype[0]).startswith("RA---TAN"):
        return float(np.deg2rad(fits_wcs.wcs.crval[0])), float(np.deg2rad(fits_wcs.wcs.crval[1]))
    centre = projection.pixel_to_sky(x=0.5 * (shape[1] - 1), y=0.5 * (shape[0] - 1))
    return float(centre.ra.rad), float(centre.dec.rad)


def _shape(box: Box | None, what: str) -> tuple[int, int]:
    if box is None or box.x.start or box.y.start:
        raise InvalidInputError(
            f"a {what} needs the box of its image, and one that begins at pixel (0, 0), not {box}."
        )
    return box.y.size, box.x.size


def _archive(obj: Any, metadata: dict[str, Any] | None = None) -> str:
    return str(lsst.images.json.write(obj, metadata=metadata).model_dump_json())


def _archive_metadata(text: str) -> dict[str, Any]:
    return dict(json.loads(text).get("metadata") or {})


def _read(text: str, kind: type | None = None) -> Any:
    stream = io.BytesIO(text.encode())
    return read_archive(stream) if kind is None else read_archive(stream, kind)


def _read_ap_corr_map(text: str) -> dict[str, ChebyshevPolynomial]:
    fields = {name: _read(json.dumps(archive)) for name, archive in json.loads(text).items()}
    return {name: chebyshev_polynomial(field) for name, field in fields.items()}


_DECODERS = {
    "wcs": lambda text: _read(text, SkyProjection),
    "psf": _read,
    "photoCalib": _read,
    "apCorrMap": _read_ap_corr_map,
    "validPolygon": _REGION.validate_json,
    "visitInfo": ObservationInfo.from_json,
    "detector": lambda text: _read(text, Detector),
}
