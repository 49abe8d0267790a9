"""The initial WCS from what the repository knows of the pointing."""

from __future__ import annotations

import logging

from lsst.daf.butler import DimensionRecord
from lsst.images.cameras import CameraFrameSet

from zeropoint.astrometry.boresight import Boresight, wcs_at, wcs_from_camera
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.wcs import SkyWcs

__all__ = ["initial_wcs"]

_LOG = logging.getLogger(__name__)


def initial_wcs(
    exposure: Exposure, camera: CameraFrameSet | None, record: DimensionRecord | None
) -> SkyWcs | None:
    """Return the WCS that camera model and exposure record give; the exposure's own where they give none.

    Parameters
    ----------
    exposure
        With its own WCS.
    camera
        Camera model, or None.
    record
        Exposure record, or None. Its pointing, where it has one, beats the exposure's.
    """
    info = exposure.visit_info
    own = Boresight(info.boresight_ra_deg, info.boresight_dec_deg, info.boresight_rotation_deg)
    pointing = _recorded(record, own)
    if camera is not None:
        if not pointing.is_complete:
            _LOG.warning(
                "Without boresight and rotation the camera model is of no use; the image's WCS is kept."
            )
        else:
            try:
                return wcs_from_camera(camera, exposure.detector.id, exposure.shape, pointing)
            except LookupError:
                _LOG.warning(
                    "The camera model lacks detector %d; the image's WCS is kept.", exposure.detector.id
                )
    return None if exposure.wcs is None else wcs_at(exposure.wcs, own, pointing)


def _recorded(record: DimensionRecord | None, own: Boresight) -> Boresight:
    """Return the pointing of the record, completed by the exposure's own."""
    if record is None or record.tracking_ra is None or record.tracking_dec is None:
        return own
    angle = own.rotation_deg if record.sky_angle is None else float(record.sky_angle)
    return Boresight(float(record.tracking_ra), float(record.tracking_dec), angle)
