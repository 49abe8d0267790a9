"""The working exposure: pixels, and the calibrations established so far.

Unlike ``lsst.images.VisitImage`` it may lack a PSF, a WCS or a photometric calibration, because a partly
calibrated image is a normal state while (and when) processing fails.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.mask_planes import bitmask

if TYPE_CHECKING:
    from astro_metadata_translator import ObservationInfo
    from lsst.images.cameras import Detector

    from zeropoint.datamodel.fields import ChebyshevPolynomial
    from zeropoint.datamodel.psf_model import PsfModel
    from zeropoint.datamodel.wcs import SkyWcs

__all__ = [
    "Amplifier",
    "DetectorInfo",
    "Exposure",
    "FloatImage",
    "MaskImage",
    "PhotoCalib",
    "PointingUncertainty",
    "VisitInfo",
]

FloatImage = npt.NDArray[np.float32]
MaskImage = npt.NDArray[np.int32]

#: nJy of a source of AB magnitude 0.
AB_FLUX_NJY = 3630780547701.003


@dataclass(frozen=True)
class Amplifier:
    """One amplifier: box in pixels (x0, y0, x1, y1; inclusive), gain [e-/ADU], read noise [e-]."""

    name: str
    box: tuple[int, int, int, int]
    gain: float = float("nan")
    read_noise: float = float("nan")


@dataclass(frozen=True)
class DetectorInfo:
    """What is known of the detector.

    Parameters
    ----------
    instrument, name, id
        Instrument name, detector name, detector number.
    width, height
        Size in pixels.
    amplifiers
        At least one; a camera without amplifier geometry has one that covers the detector.
    pixel_size_mm, center_mm, rotation_deg
        Place in the focal plane, NaN where unknown.
    """

    instrument: str
    name: str
    id: int
    width: int
    height: int
    amplifiers: tuple[Amplifier, ...]
    pixel_size_mm: float = float("nan")
    center_mm: tuple[float, float] = (0.0, 0.0)
    rotation_deg: float = 0.0


@dataclass(frozen=True)
class VisitInfo:
    """What is known of the visit.

    Parameters
    ----------
    visit
        Visit number, as packed into catalogue ids.
    exposure_time
        Seconds; NaN if unknown.
    mjd_tai
        Mid-time of the exposure, MJD in TAI; NaN if unknown.
    physical_filter, band
        Names; band "" if unknown.
    boresight_ra_deg, boresight_dec_deg
        Degrees; NaN if unknown.
    airmass
        NaN if unknown.
    longitude_deg, latitude_deg, elevation_m
        Observatory, longitude positive to the East; NaN if unknown.
    exposure
        Number of the exposure: of the snap where a visit has several.  Negative: the visit's own number.
    boresight_rotation_deg
        Position angle of the focal plane's +Y axis, from North through East; NaN if unknown.
    """

    visit: int
    exposure_time: float
    mjd_tai: float
    physical_filter: str
    band: str
    boresight_ra_deg: float = float("nan")
    boresight_dec_deg: float = float("nan")
    airmass: float = float("nan")
    longitude_deg: float = float("nan")
    latitude_deg: float = float("nan")
    elevation_m: float = float("nan")
    object_name: str = ""
    exposure: int = -1
    boresight_rotation_deg: float = float("nan")

    def __post_init__(self) -> None:
        if self.exposure < 0:
            object.__setattr__(self, "exposure", self.visit)


@dataclass(frozen=True)
class PointingUncertainty:
    """How far the initial WCS may be off.

    Parameters
    ----------
    offset_arcsec, rotation_deg, scale_percent
        Largest offset, rotation and relative error of the pixel scale that the astrometry must find.
    """

    offset_arcsec: float = 0.0
    rotation_deg: float = 0.0
    scale_percent: float = 0.0

    def reach(self, pixel_scale: float, shape: tuple[int, int]) -> float:
        """Return how many pixels a star may be off anywhere on an image.

        Parameters
        ----------
        pixel_scale
            Arcsec.
        shape
            Image's (height, width).
        """
        half = 0.5 * float(np.hypot(shape[0], shape[1]))
        turned = np.deg2rad(self.rotation_deg) + self.scale_percent / 100
        return float(np.ceil(round(self.offset_arcsec / pixel_scale + half * turned, 3)))


@dataclass(frozen=True)
class PhotoCalib:
    """A photometric calibration, constant or a field over the image.

    Parameters
    ----------
    calibration_mean
        nJy per electron of the working image; of a field, its mean over the image.
    calibration_err
        One sigma of the same.
    field
        nJy per electron at each position; None: ``calibration_mean`` everywhere.
    """

    calibration_mean: float
    calibration_err: float = 0.0
    field: ChebyshevPolynomial | None = None

    @property
    def zeropoint(self) -> float:
        """AB magnitude of one count over the whole exposure."""
        return float(2.5 * np.log10(AB_FLUX_NJY / self.calibration_mean))

    def at(self, *, x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Return nJy per electron at pixel positions (broadcast together), float64."""
        if self.field is not None:
            return self.field(x=np.asarray(x), y=np.asarray(y))
        shape = np.broadcast_shapes(np.shape(x), np.shape(y))
        return np.full(shape, self.calibration_mean, np.float64)


@dataclass
class Exposure:
    """A working exposure; the only mutable object that flows through a recipe.

    Parameters
    ----------
    image : float32, shape (height, width)
        Pixels in electrons (before calibration).
    variance : float32, same shape
        Variance in electrons squared.
    mask : int32, same shape
        Bit planes of `zeropoint.datamodel.mask_planes`.
    detector, visit_info
        Where and when.
    psf, wcs, photo_calib, ap_corr_map
        Calibrations established so far, or None.
    metadata
        Plain header values (Rubin's upper-case keys).
    pointing
        How far the initial WCS may be off; None: no more than the configuration allows.
    caveats
        Sentences on what was estimated or assumed to make this image.
    obs_info, lsst_detector
        What an ``lsst.images.VisitImage`` said of observation and detector, kept for the products; None where the
        image came from elsewhere.

    Notes
    -----
    Pixel ``(x=0, y=0)`` is the centre of the first pixel; arrays are indexed ``[y, x]``.
    """

    image: FloatImage
    variance: FloatImage
    mask: MaskImage
    detector: DetectorInfo
    visit_info: VisitInfo
    psf: PsfModel | None = None
    wcs: SkyWcs | None = None
    photo_calib: PhotoCalib | None = None
    ap_corr_map: dict[str, ChebyshevPolynomial] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    pointing: PointingUncertainty | None = None
    caveats: tuple[str, ...] = ()
    obs_info: ObservationInfo | None = None
    lsst_detector: Detector | None = None

    def __post_init__(self) -> None:
        shapes = {self.image.shape, self.variance.shape, self.mask.shape}
        if len(shapes) != 1:
            raise ValueError(f"Image, variance and mask differ in shape: {sorted(shapes)}.")
        self.image = np.ascontiguousarray(self.image, np.float32)
        self.variance = np.ascontiguousarray(self.variance, np.float32)
        self.mask = np.ascontiguousarray(self.mask, np.int32)

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.image.shape[0], self.image.shape[1]

    def masked(self, *planes: str) -> npt.NDArray[np.bool_]:
        """Return True where any of the planes (new or older names) is set."""
        return (self.mask & np.int32(bitmask(planes))) != 0

    def set_mask(self, where: npt.NDArray[np.bool_], *planes: str) -> None:
        """Set planes where a boolean image is True, in place."""
        self.mask[where] |= np.int32(bitmask(planes))

    def clear_mask(self, *planes: str) -> None:
        """Clear planes everywhere, in place."""
        self.mask &= np.int32(~bitmask(planes))

    def copy(self) -> Exposure:
        """Return a copy with its own pixels; immutable calibrations are shared."""
        return replace(
            self,
            image=self.image.copy(),
            variance=self.variance.copy(),
            mask=self.mask.copy(),
            ap_corr_map=None if self.ap_corr_map is None else dict(self.ap_corr_map),
            metadata=dict(self.metadata),
        )
