"""A camera of four detectors, and the WCSs that it has at a pointing."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import starlink.Ast as Ast
from lsst.images import Box
from lsst.images.cameras import CameraFrameSet, CameraFrameSetSerializationModel

from zeropoint.astrometry.boresight import Boresight, wcs_from_camera
from zeropoint.datamodel.wcs import SkyWcs

WIDTH, HEIGHT = 1000, 800
BOX = Box.factory[0:HEIGHT, 0:WIDTH]
SCALE = 0.4  # arcsec per pixel
ARCSEC = np.pi / 648000.0
#: Where the first pixel of each detector lies in the focal plane, in pixels.
PLACES = {0: (-1050.0, -850.0), 1: (50.0, -850.0), 4: (-1050.0, 50.0), 7: (50.0, 50.0)}


def make_camera(parity: float = 1.0) -> CameraFrameSet:
    """Return a camera of four detectors with a little distortion."""
    frames = Ast.FrameSet(Ast.Frame(2, "Ident=FOCAL_PLANE,Unit(1)=mm,Unit(2)=mm"))
    # r -> r (1 + k r^2): 3 pixels at a distance of 1,400
    distortion = Ast.PcdMap(1e-9, [0.0, 0.0])
    scale = Ast.MatrixMap([[parity * SCALE * ARCSEC, 0.0], [0.0, SCALE * ARCSEC]])
    to_angle = Ast.CmpMap(distortion, scale, True)
    frames.addframe(1, to_angle, Ast.Frame(2, "Ident=FIELD_ANGLE,Unit(1)=rad,Unit(2)=rad"))
    for number, (x, y) in PLACES.items():
        frame = Ast.Frame(2, f"Ident=DETECTOR_{number:03d},Unit(1)=pixel,Unit(2)=pixel")
        frame.set(f"Bottom(1)=0,Bottom(2)=0,Top(1)={WIDTH},Top(2)={HEIGHT}")
        frames.addframe(1, Ast.ShiftMap([-x, -y]), frame)
    lines: list[str] = []
    Ast.Channel(None, SimpleNamespace(astsink=lines.append)).write(frames)
    model = CameraFrameSetSerializationModel(instrument="cam", ast="\n".join(lines))
    camera: CameraFrameSet = model.deserialize(None)  # type: ignore[arg-type]
    return camera


def camera_wcs(camera: CameraFrameSet, boresight: Boresight) -> dict[int, SkyWcs | None]:
    """Return the WCS of every detector."""
    return {d: wcs_from_camera(camera, d, (HEIGHT, WIDTH), boresight) for d in PLACES}
