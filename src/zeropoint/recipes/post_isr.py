"""Post-ISR images as ``lsst.images.VisitImage``, and back to the working exposure.

Both ways into the pipeline pass through these two functions, so that a repository's image and a file on the
command line give the same working exposure, bit for bit.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import astropy.units as u
import numpy as np
from lsst.images import Box, Mask, SkyProjection, VisitImage
from lsst.images.cameras import Amplifier as LsstAmplifier
from lsst.images.cameras import Detector
from lsst.images.psfs import GaussianPointSpreadFunction

from zeropoint.datamodel.exposure import (
    Amplifier,
    DetectorInfo,
    Exposure,
    FloatImage,
    MaskImage,
    PointingUncertainty,
)
from zeropoint.datamodel.mask_planes import ALIASES, PLANES, canonical_name
from zeropoint.datamodel.visit_image import visit_image
from zeropoint.datamodel.visit_info import visit_info
from zeropoint.datamodel.wcs import SkyWcs, angular_separation, gnomonic
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.reader import LoadedImage
from zeropoint.instruments.variance import mark_no_data

__all__ = [
    "NOMINAL_CAMERA",
    "NOMINAL_PSF",
    "PSF_MODEL",
    "detector_info",
    "exposure_from_visit_image",
    "exposure_marks",
    "exposure_of_pixels",
    "image_name",
    "mask_bits",
    "post_isr_image",
]

_LOG = logging.getLogger(__name__)

#: Metadata key of a post-ISR image whose PSF stands for "none yet".
NOMINAL_PSF = "psf.nominal"
#: Metadata key of an image whose detector comes from a camera card: its field angles mean nothing.
NOMINAL_CAMERA = "camera.nominal"
_POINTING = ("offset_arcsec", "rotation_deg", "scale_percent")
#: Metadata key of the model behind the PSF, with every bit of it.
PSF_MODEL = "psf.model"
#: Metadata key of the polynomial behind the sky projection, with every bit of it.
_WCS = "wcs.polynomial"
#: WCSs that differ by less are one, radians.
_SAME = 1e-6 * np.pi / 648000.0
_RESERVED = re.compile(
    r"^(ingest\.\w+|psf\.(nominal|model)|camera\.nominal|wcs\.polynomial|pointing\.\w+|caveat\.\d+|note\.\d+)$"
)
#: Header keys worth keeping of those that came with a file.
_KEPT_EXTERNAL = ("LSST ISR ", "LSST CALIB ")
_GAIN_KEYS = ("gain", "GAIN")
_READ_NOISE_KEYS = ("read_noise", "RDNOISE")


def post_isr_image(loaded: LoadedImage) -> VisitImage:
    """Return an image as a post-ISR ``VisitImage`` in electrons that shares its pixel arrays.

    Parameters
    ----------
    loaded
        An image as `zeropoint.instruments.reader.load_image` gives it.

    Notes
    -----
    Gain and read noise are in ``detector.amplifiers``; pointing uncertainty and caveats are in the metadata
    (``pointing.*``, ``caveat.N``), with the polynomial behind the sky projection (a trip through the latter would
    change its last digits).  The PSF, which a ``VisitImage`` cannot lack, is a nominal Gaussian, marked in
    the metadata by `NOMINAL_PSF`.
    """
    exposure = loaded.exposure
    height, width = exposure.shape
    marks = {NOMINAL_PSF: True, **exposure_marks(exposure)}
    psf = GaussianPointSpreadFunction(1.7, bounds=Box.factory[0:height, 0:width], stamp_size=25)
    return visit_image(exposure, psf=psf, unit=u.electron, metadata=marks)


def exposure_marks(exposure: Exposure) -> dict[str, Any]:
    """Return the metadata that let `exposure_from_visit_image` give an exposure with a WCS back as it was.

    The polynomial of the WCS, pointing uncertainty, caveats, and whether the camera is known by a card only.
    """
    assert exposure.wcs is not None
    marks: dict[str, Any] = {_WCS: exposure.wcs.to_text()}
    if exposure.lsst_detector is None:
        marks[NOMINAL_CAMERA] = True
    if exposure.pointing is not None:
        marks.update({f"pointing.{name}": float(getattr(exposure.pointing, name)) for name in _POINTING})
    marks.update({f"caveat.{i}": text for i, text in enumerate(exposure.caveats)})
    return marks


def exposure_from_visit_image(image: VisitImage) -> Exposure:
    """Return the working exposure of a post-ISR image, in electrons; it shares pixel arrays where it can.

    Parameters
    ----------
    image
        In electrons, or in ADU with gains in ``detector.amplifiers`` (else in metadata ``LSST ISR GAIN <amplifier>``
        or ``gain``).  Mask planes under new and older names are taken over; others are left out, with a log line.
        The PSF is not used.  Coordinates count from the first pixel of the image, whatever its origin.

    Raises
    ------
    InvalidInputError
        If it is not a post-ISR image: another type or unit, or ADU without gains.
    """
    if not isinstance(image, VisitImage):
        raise InvalidInputError(
            f"A post-ISR image must be an lsst.images.VisitImage, not {type(image).__name__}."
        )
    name = image_name(image)
    if image.unit not in (u.electron, u.adu):
        raise InvalidInputError(
            f"{name}: the unit is {image.unit}; a post-ISR image has electron, or adu and gains."
        )
    pixels, variance = _own(image.image.array), _own(image.variance.array)
    if image.unit == u.adu:
        gain = _gain_map(detector_info(image, image.bbox), pixels.shape, name)
        pixels, variance = pixels * gain, variance * (gain * gain)
    return exposure_of_pixels(image, pixels, variance)


def exposure_of_pixels(image: VisitImage, pixels: FloatImage, variance: FloatImage) -> Exposure:
    """Return the working exposure of an image whose pixels are already in electrons; it keeps the arrays.

    Parameters
    ----------
    image
        Mask, WCS, detector, observation and metadata are its own; see `exposure_from_visit_image`.
    pixels, variance : float32, shape (h, w)
        Electrons, and their square; where either is not finite the copies that the exposure has are marked.
    """
    name = image_name(image)
    metadata = _plain_metadata(image)
    detector = detector_info(image, image.bbox)
    mask = mask_bits(image.mask, name)
    finite = np.isfinite(pixels)
    if not (finite.all() and np.isfinite(variance).all()):
        pixels, variance = pixels.copy(), variance.copy()
        mark_no_data(pixels, variance, mask, finite)
    kept = {key: value for key, value in metadata.items() if not _RESERVED.match(key)}
    nominal = bool(metadata.get(NOMINAL_CAMERA, False))
    return Exposure(
        pixels,
        variance,
        mask,
        detector,
        visit_info(image.obs_info, image.band, name),
        wcs=_sky_wcs(image, metadata, (pixels.shape[0], pixels.shape[1])),
        metadata=kept,
        pointing=_pointing(metadata),
        caveats=_caveats(metadata),
        obs_info=None if nominal else image.obs_info,
        lsst_detector=None if nominal else image.detector,
    )


def image_name(image: VisitImage) -> str:
    """Return instrument, exposure and detector of an image, for messages."""
    info = image.obs_info
    return f"{image.detector.instrument} exposure {info.exposure_id} detector {image.detector.id}"


def _plain_metadata(image: VisitImage) -> dict[str, Any]:
    """Return native metadata, and those header values of the image's file that later steps look for."""
    view = image.metadata
    external = {key: value for key, value in view.external.items() if key.upper().startswith(_KEPT_EXTERNAL)}
    return {**external, **view.native}


def _own(array: np.ndarray) -> FloatImage:
    """Return a native, writable float32 array; the same one if it is."""
    result = np.ascontiguousarray(array, np.float32)
    return result if result.flags.writeable else result.copy()


# -- mask ---------------------------------------------------------------------------------------------------


def mask_bits(mask: Mask, name: str) -> MaskImage:
    """Return a mask as bits of `zeropoint.datamodel.mask_planes`.

    Parameters
    ----------
    mask
        Planes under new and older names are taken over; others are left out, with a log line.
    name
        The image's name, for that line.
    """
    schema, planes = mask.schema, mask.array
    known = {plane for plane in schema.names if plane in PLANES or plane in ALIASES}
    unknown = sorted(set(schema.names) - known)
    if unknown:
        _LOG.info("%s: mask planes without a meaning here are left out: %s.", name, ", ".join(unknown))
    # planes that keep their distance move together: one pass over the image for each distance
    moves: dict[tuple[int, int], int] = defaultdict(int)
    for plane in known:
        bit = schema.bit(plane)
        word, place = bit.index // 4, 8 * (bit.index % 4) + int(bit.mask).bit_length() - 1
        moves[word, PLANES[canonical_name(plane)][0] - place] |= 1 << place
    height, width, n_bytes = planes.shape
    padded = np.zeros((height, width, -(-n_bytes // 4) * 4), np.uint8)
    padded[:, :, :n_bytes] = planes
    words = padded.view("<u4")
    result = np.zeros((height, width), np.uint32)
    for (word, shift), selected in moves.items():
        part = words[:, :, word] & np.uint32(selected)
        result |= part << np.uint32(shift) if shift >= 0 else part >> np.uint32(-shift)
    return result.view(np.int32)


# -- detector -----------------------------------------------------------------------------------------------


def detector_info(image: VisitImage, box: Box) -> DetectorInfo:
    """Return what an image says of its detector.

    Parameters
    ----------
    image
        The image, or any part of it.
    box
        Pixels of the whole image.
    """
    lsst: Detector = image.detector
    metadata = _plain_metadata(image)
    x0, y0 = box.x.start, box.y.start
    width, height = box.x.size, box.y.size
    amplifiers = [
        amplifier
        for amplifier in (_amplifier_info(each, metadata, x0, y0, width, height) for each in lsst.amplifiers)
        if amplifier is not None
    ]
    if not amplifiers:
        gain, read_noise = _first(metadata, _GAIN_KEYS), _first(metadata, _READ_NOISE_KEYS)
        amplifiers = [Amplifier("all", (0, 0, width - 1, height - 1), gain, read_noise)]
    place = lsst.orientation
    return DetectorInfo(
        lsst.instrument,
        lsst.name,
        lsst.id,
        width,
        height,
        tuple(amplifiers),
        float(lsst.pixel_size),
        (float(place.focal_plane_x), float(place.focal_plane_y)),
        float(place.yaw.to_value(u.deg)),
    )


def _amplifier_info(
    amplifier: LsstAmplifier, metadata: Mapping[str, Any], x0: int, y0: int, width: int, height: int
) -> Amplifier | None:
    """Return the part of an amplifier that lies on the image, with the values that ISR used if it says so."""
    box = amplifier.bbox
    left, right = max(box.x.start - x0, 0), min(box.x.stop - x0, width) - 1
    bottom, top = max(box.y.start - y0, 0), min(box.y.stop - y0, height) - 1
    if left > right or bottom > top:
        return None
    nominal = amplifier.nominal_calibrations
    gain = float("nan") if nominal is None else nominal.gain
    read_noise = float("nan") if nominal is None else nominal.read_noise
    if not np.isfinite(gain):
        gain = _first(metadata, _GAIN_KEYS)
    if not np.isfinite(read_noise):
        read_noise = _first(metadata, _READ_NOISE_KEYS)
    gain = _number(metadata, f"LSST ISR GAIN {amplifier.name}", gain)
    read_noise = _number(metadata, f"LSST ISR READNOISE {amplifier.name}", read_noise)
    return Amplifier(amplifier.name, (left, bottom, right, top), float(gain), float(read_noise))


def _number(metadata: Mapping[str, Any], key: str, default: float) -> float:
    value = metadata.get(key)
    return float(value) if isinstance(value, (int, float)) and np.isfinite(value) else default


def _first(metadata: Mapping[str, Any], keys: tuple[str, ...]) -> float:
    for key in keys:
        value = _number(metadata, key, float("nan"))
        if np.isfinite(value):
            return value
    return float("nan")


def _gain_map(detector: DetectorInfo, shape: tuple[int, ...], name: str) -> FloatImage:
    gain = np.full(shape, np.nan, np.float32)
    for amplifier in detector.amplifiers:
        left, bottom, right, top = amplifier.box
        gain[bottom : top + 1, left : right + 1] = amplifier.gain
    if not (np.isfinite(gain).all() and (gain > 0).all()):
        raise InvalidInputError(
            f"{name}: the unit is adu, but not every pixel has a positive gain; give nominal_calibrations to all "
            "amplifiers of the detector, or metadata `gain`."
        )
    return gain


# -- where and when -----------------------------------------------------------------------------------------


def _sky_wcs(image: VisitImage, metadata: Mapping[str, Any], shape: tuple[int, int]) -> SkyWcs:
    """Return the WCS with the image's first pixel at (0, 0).

    The numbers that `post_isr_image` left count only where they agree with the projection.
    """
    projection: SkyProjection[Any] = image.sky_projection
    x0, y0 = image.bbox.x.start, image.bbox.y.start

    def to_sky(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sky = projection.pixel_to_sky(x=x0 + x, y=y0 + y)
        return np.asarray(sky.ra.rad), np.asarray(sky.dec.rad)

    if _WCS in metadata:
        wcs = SkyWcs.from_text(str(metadata[_WCS]))
        x, y = (
            edge.ravel() for edge in np.meshgrid([0, 0.5 * shape[1], shape[1]], [0, 0.5 * shape[0], shape[0]])
        )
        if np.max(angular_separation(*wcs.pixel_to_sky(x=x, y=y), *to_sky(x, y))) < _SAME:
            return wcs
    # about its own tangent point a TAN-SIP projection is a polynomial of its order
    fits_wcs = image.fits_wcs
    if fits_wcs is not None and str(fits_wcs.wcs.ctype[0]).startswith("RA---TAN"):
        ra0, dec0 = (float(np.deg2rad(value)) for value in fits_wcs.wcs.crval)
    else:
        ra, dec = to_sky(np.array([0.5 * (shape[1] - 1)]), np.array([0.5 * (shape[0] - 1)]))
        ra0, dec0 = float(ra[0]), float(dec[0])
    return SkyWcs.from_function(
        lambda x, y: gnomonic(*to_sky(x, y), ra0, dec0), ra0=ra0, dec0=dec0, shape=shape
    )


def _pointing(metadata: Mapping[str, Any]) -> PointingUncertainty | None:
    values = {name: metadata.get(f"pointing.{name}") for name in _POINTING}
    if all(value is None for value in values.values()):
        return None
    return PointingUncertainty(**{name: float(value or 0.0) for name, value in values.items()})


def _caveats(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    keys = sorted((key for key in metadata if re.match(r"^caveat\.\d+$", key)), key=lambda k: int(k[7:]))
    return tuple(str(metadata[key]) for key in keys)
