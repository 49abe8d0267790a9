"""Initial WCSs from where the telescope pointed: moved to another pointing, or made from a camera model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from lsst.images.cameras import CameraFrameSet

from zeropoint.datamodel.wcs import SkyWcs, gnomonic, inverse_gnomonic

__all__ = ["Boresight", "detectors_of", "wcs_at", "wcs_from_camera"]

_ARCSEC = np.pi / 648000.0
#: Boresights nearer than this are one: dates and angles in files are rounded.
_SAME = 1e-3 * _ARCSEC


@dataclass(frozen=True)
class Boresight:
    """Where the optical axis points.

    Parameters
    ----------
    ra_deg, dec_deg
        ICRS, degrees.
    rotation_deg
        Position angle of the focal plane's +Y axis, from North through East; NaN if unknown.
    """

    ra_deg: float
    dec_deg: float
    rotation_deg: float = float("nan")

    @property
    def is_complete(self) -> bool:
        """Whether position and rotation are known."""
        return bool(np.isfinite([self.ra_deg, self.dec_deg, self.rotation_deg]).all())


def detectors_of(camera: CameraFrameSet) -> tuple[int, ...]:
    """Return the detectors of a camera model, ascending."""
    # lsst-images has no public list of them
    return tuple(sorted(camera._detector_frame_ids))


def wcs_at(wcs: SkyWcs, old: Boresight, new: Boresight) -> SkyWcs:
    """Return a WCS moved on the sky as the boresight moved; the same object if it did not.

    Parameters
    ----------
    wcs
        WCS of an image taken at the old boresight.
    old, new
        Boresights; a rotation that one of them lacks counts as unchanged, as does a position.

    Notes
    -----
    The sky is turned as a whole, so distances from the boresight, and with them the distortion, stay.
    """
    if not np.isfinite([old.ra_deg, old.dec_deg, new.ra_deg, new.dec_deg]).all():
        return wcs
    turn = np.deg2rad(np.nan_to_num(new.rotation_deg - old.rotation_deg))
    a, b = (np.deg2rad([s.ra_deg, s.dec_deg]) for s in (old, new))
    if np.hypot((a[0] - b[0]) * np.cos(a[1]), a[1] - b[1]) < _SAME and abs(turn) < _SAME:
        return wcs
    # three points fix the turned tangent plane: its centre, and what lay a little East and North of it
    step = 1e-4
    xi, eta = np.array([0.0, step, 0.0]), np.array([0.0, 0.0, step])
    on_sky = inverse_gnomonic(xi, eta, wcs.ra0, wcs.dec0)
    east, north = gnomonic(*on_sky, a[0], a[1])
    c, s = np.cos(turn), np.sin(turn)
    # position angles grow by the turn: North goes towards East
    ra, dec = inverse_gnomonic(c * east + s * north, c * north - s * east, b[0], b[1])
    xi, eta = gnomonic(ra, dec, float(ra[0]), float(dec[0]))
    matrix = np.array([[xi[1], xi[2]], [eta[1], eta[2]]]) / step
    moved = SkyWcs(
        float(ra[0]), float(dec[0]), wcs.coefficients, wcs.x_ref, wcs.y_ref, wcs.scale, wcs.residual_arcsec
    )
    return moved.with_affine(matrix, np.zeros(2))


def wcs_from_camera(
    camera: CameraFrameSet, detector: int, shape: tuple[int, int], boresight: Boresight
) -> SkyWcs:
    """Return the WCS of one detector of a camera whose optical axis points at the boresight.

    Parameters
    ----------
    camera
        Camera model: the field angles of each detector's pixels.
    detector
        Detector number.
    shape
        (height, width) of its image.
    boresight
        A complete one.

    Raises
    ------
    LookupError
        If the model lacks the detector.

    Notes
    -----
    With rotation 0, +Y of the field angles points North and +X West.
    """
    transform = camera[camera.detector(detector), camera.field_angle()]
    c, s = np.cos(np.deg2rad(boresight.rotation_deg)), np.sin(np.deg2rad(boresight.rotation_deg))

    def to_tangent(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        angle = transform.apply_forward(x=x, y=y)
        return s * angle.y - c * angle.x, c * angle.y + s * angle.x

    ra0, dec0 = np.deg2rad(boresight.ra_deg), np.deg2rad(boresight.dec_deg)
    return SkyWcs.from_function(to_tangent, ra0=float(ra0), dec0=float(dec0), shape=shape)
