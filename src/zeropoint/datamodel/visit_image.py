"""From the working exposure to ``lsst.images.VisitImage``, the form in which results are stored and shared."""

from __future__ import annotations

from typing import Any

import astropy.units as u
import numpy as np
from astro_metadata_translator import ObservationInfo, StubTranslator
from astropy.coordinates import Angle, EarthLocation, SkyCoord
from astropy.time import Time, TimeDelta
from lsst.images import (
    Box,
    DetectorFrame,
    Image,
    Mask,
    MaskedImage,
    MaskPlane,
    MaskSchema,
    ObservationSummaryStats,
    SkyProjection,
    VisitImage,
)
from lsst.images.cameras import Amplifier as LsstAmplifier
from lsst.images.cameras import (
    AmplifierCalibrations,
    CameraFrameSetSerializationModel,
    Detector,
    DetectorAttributes,
    DetectorType,
    Orientation,
    ReadoutCorner,
)
from lsst.images.fields import ChebyshevField
from lsst.images.psfs import PointSpreadFunction

from zeropoint.datamodel.background import BackgroundList
from zeropoint.datamodel.background_fields import background_map, chebyshev_field
from zeropoint.datamodel.exposure import Amplifier, DetectorInfo, Exposure, PhotoCalib, VisitInfo
from zeropoint.datamodel.mask_planes import PLANES
from zeropoint.datamodel.wcs import SkyWcs

__all__ = [
    "lsst_detector",
    "masked_image",
    "observation_info",
    "photo_calib_field",
    "sky_projection",
    "visit_image",
]


def visit_image(
    exposure: Exposure,
    *,
    psf: PointSpreadFunction,
    unit: u.UnitBase,
    summary: ObservationSummaryStats | None = None,
    background: BackgroundList | None = None,
    applied: PhotoCalib | None = None,
    metadata: dict[str, Any] | None = None,
) -> VisitImage:
    """Build a ``VisitImage`` that shares the exposure's pixel arrays.

    Parameters
    ----------
    exposure
        Calibrated exposure; needs a WCS.
    psf
        PSF as an lsst-images object.
    unit
        Unit of the pixels.
    summary, background
        Attached.
    applied
        The photometric calibration (nJy per electron), applied or not.
    metadata
        Further scalars.
    """
    assert exposure.wcs is not None
    projection = _projection(exposure)
    scaling = None
    if applied is not None:
        scaling = photo_calib_field(applied, exposure.shape)
    return VisitImage(
        Image(exposure.image, yx0=(0, 0), unit=unit, sky_projection=projection),
        mask=_mask(exposure),
        variance=Image(exposure.variance, yx0=(0, 0), unit=unit**2),
        sky_projection=projection,
        obs_info=observation_info(exposure.visit_info, exposure.detector, exposure.obs_info),
        summary_stats=summary,
        photometric_scaling=scaling,
        psf=psf,
        detector=exposure.lsst_detector or lsst_detector(exposure.detector),
        aperture_corrections={
            name: chebyshev_field(polynomial, None)
            for name, polynomial in (exposure.ap_corr_map or {}).items()
        },
        backgrounds=background_map(background, unit),
        band=exposure.visit_info.band,
        metadata=_scalars({**exposure.metadata, **(metadata or {})}),
    )


def photo_calib_field(calib: PhotoCalib, shape: tuple[int, int]) -> ChebyshevField:
    """Return a photometric calibration of an image of (height, width) as an lsst-images field, nJy per electron."""
    if calib.field is not None:
        return chebyshev_field(calib.field, u.nJy / u.electron)
    return ChebyshevField(_box(shape), np.array([[calib.calibration_mean]]), unit=u.nJy / u.electron)


def masked_image(exposure: Exposure, *, unit: u.UnitBase, metadata: dict[str, Any]) -> MaskedImage:
    """Build the partial product of a failed image: pixels, mask, variance, and the WCS if there is one."""
    projection = _projection(exposure)
    return MaskedImage(
        Image(exposure.image, yx0=(0, 0), unit=unit, sky_projection=projection),
        mask=_mask(exposure),
        variance=Image(exposure.variance, yx0=(0, 0), unit=unit**2),
        sky_projection=projection,
        metadata=_scalars({**exposure.metadata, **metadata}),
    )


def sky_projection(
    wcs: SkyWcs, detector: DetectorInfo, visit: int, shape: tuple[int, int]
) -> SkyProjection[DetectorFrame]:
    """Return the WCS of an image of (height, width) as an lsst-images projection (TAN or TAN-SIP, exact)."""
    frame = DetectorFrame(instrument=detector.instrument, visit=visit, detector=detector.id, bbox=_box(shape))
    return SkyProjection.from_fits_wcs(wcs.to_astropy(shape), frame)


def _projection(exposure: Exposure) -> SkyProjection[DetectorFrame] | None:
    if exposure.wcs is None:
        return None
    return sky_projection(exposure.wcs, exposure.detector, exposure.visit_info.visit, exposure.shape)


def _box(shape: tuple[int, int]) -> Box:
    return Box.factory[0 : shape[0], 0 : shape[1]]


def _mask(exposure: Exposure) -> Mask:
    schema = MaskSchema([MaskPlane(name, doc) for name, (_, doc) in PLANES.items()])
    mask = Mask(0, schema=schema, bbox=_box(exposure.shape))
    # lsst-images packs planes in bytes in schema order, which is bit order here
    mask.array[...] = _bytes(exposure.mask, mask.array.shape[2])
    return mask


def _bytes(mask: np.ndarray, n: int) -> np.ndarray:
    packed = np.ascontiguousarray(mask, "<i4").view(np.uint8).reshape(*mask.shape, 4)
    return packed[:, :, :n]


def _scalars(metadata: dict[str, Any]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key, value in metadata.items():
        item = value.item() if hasattr(value, "item") else value
        if isinstance(item, (int, float, str, bool)):
            plain[key] = item
    return plain


def observation_info(
    info: VisitInfo, detector: DetectorInfo, base: ObservationInfo | None = None
) -> ObservationInfo:
    """Return the observation's facts in the standard form of astro-metadata-translator.

    Parameters
    ----------
    info, detector
        What is known; what they leave open is taken from ``base``.
    base
        Facts as they came with the image.
    """
    values: dict[str, Any] = {
        "instrument": detector.instrument,
        "physical_filter": info.physical_filter,
        "visit_id": int(info.visit),
        "exposure_id": int(info.exposure),
        "detector_num": int(detector.id),
        "detector_name": detector.name,
        "object": info.object_name or None,
    }
    if np.isfinite(info.exposure_time):
        values["exposure_time"] = info.exposure_time * u.s
    if np.isfinite(info.mjd_tai):
        middle = Time(info.mjd_tai, format="mjd", scale="tai")
        half = TimeDelta(0.5 * np.nan_to_num(info.exposure_time), format="sec")
        values["datetime_begin"], values["datetime_end"] = middle - half, middle + half
    if np.isfinite(info.boresight_ra_deg) and np.isfinite(info.boresight_dec_deg):
        values["tracking_radec"] = SkyCoord(info.boresight_ra_deg, info.boresight_dec_deg, unit="deg")
    if np.isfinite(info.boresight_rotation_deg):
        values["boresight_rotation_angle"] = Angle(info.boresight_rotation_deg, unit="deg")
        values["boresight_rotation_coord"] = "sky"
    if np.isfinite(info.airmass):
        values["boresight_airmass"] = info.airmass
    if np.isfinite(info.longitude_deg):
        values["location"] = EarthLocation.from_geodetic(
            info.longitude_deg, info.latitude_deg, np.nan_to_num(info.elevation_m)
        )
    values = {name: value for name, value in values.items() if value is not None}
    if base is not None:
        return base.model_copy(update=values)
    values.update(telescope=detector.instrument, observation_type="science")
    return ObservationInfo.makeObservationInfo(translator_class=StubTranslator, **values)


def lsst_detector(info: DetectorInfo) -> Detector:
    """Return a detector and its amplifiers in lsst-images' form.

    The camera's optics are not known here: field angles are made with a nominal plate scale, and pixels of
    unknown size count as 10 micrometres wide in the focal plane (the attribute ``pixel_size`` then is NaN).
    """
    size = info.pixel_size_mm if np.isfinite(info.pixel_size_mm) else 0.01
    attributes = DetectorAttributes(
        name=info.name,
        id=info.id,
        type=DetectorType.SCIENCE,
        serial=info.name,
        bbox=_box((info.height, info.width)),
        orientation=Orientation(
            focal_plane_x=info.center_mm[0],
            focal_plane_y=info.center_mm[1],
            focal_plane_z=0.0,
            pixel_reference_x=0.5 * (info.width - 1),
            pixel_reference_y=0.5 * (info.height - 1),
            yaw=info.rotation_deg * u.deg,
        ),
        pixel_size=info.pixel_size_mm,
        physical_type="CCD",
    )
    frames = CameraFrameSetSerializationModel(
        instrument=info.instrument, ast=_camera_frames(info, size)
    ).deserialize(None)
    return Detector(attributes, [_amplifier(amplifier) for amplifier in info.amplifiers], frames, visit=None)


def _amplifier(amplifier: Amplifier) -> LsstAmplifier:
    x0, y0, x1, y1 = amplifier.box
    return LsstAmplifier(
        name=amplifier.name,
        bbox=Box.factory[y0 : y1 + 1, x0 : x1 + 1],
        readout_corner=ReadoutCorner.LL,
        nominal_calibrations=AmplifierCalibrations(
            gain=amplifier.gain,
            read_noise=amplifier.read_noise,
            saturation=np.nan,
            suspect_level=np.nan,
            linearity_coefficients=np.zeros(0),
            linearity_type="none",
        ),
    )


def _camera_frames(info: DetectorInfo, pixel_size_mm: float) -> str:
    """Return an AST frame set with a focal plane, field angles and this one detector, as text."""
    import starlink.Ast as Ast

    focal_plane = Ast.Frame(2, "Ident=FOCAL_PLANE,Unit(1)=mm,Unit(2)=mm")
    frames = Ast.FrameSet(focal_plane)
    frames.addframe(1, Ast.ZoomMap(2, 1e-4), Ast.Frame(2, "Ident=FIELD_ANGLE,Unit(1)=rad,Unit(2)=rad"))
    detector = Ast.Frame(2, f"Ident=DETECTOR_{info.id:03d},Unit(1)=pixel,Unit(2)=pixel")
    detector.set(f"Bottom(1)=0,Bottom(2)=0,Top(1)={info.width},Top(2)={info.height}")
    theta = np.deg2rad(info.rotation_deg)
    rotation = np.array([[np.cos(theta), np.sin(theta)], [-np.sin(theta), np.cos(theta)]]) / pixel_size_mm
    shift = Ast.ShiftMap([-info.center_mm[0], -info.center_mm[1]])
    to_pixels = Ast.CmpMap(shift, Ast.MatrixMap(rotation.tolist()), True)
    centre = Ast.ShiftMap([0.5 * (info.width - 1), 0.5 * (info.height - 1)])
    frames.addframe(1, Ast.CmpMap(to_pixels, centre, True), detector)
    lines: list[str] = []

    class _Sink:
        def astsink(self, text: str) -> None:
            lines.append(text)

    Ast.Channel(None, _Sink()).write(frames)
    return "\n".join(lines)
