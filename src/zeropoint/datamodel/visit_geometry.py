"""Where a visit and each of its detectors lie on the sky."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from lsst.sphgeom import ConvexPolygon, Region, UnitVector3d

from zeropoint.errors import InvalidInputError

__all__ = ["VisitGeometry", "sky_polygon"]


@dataclass(frozen=True)
class VisitGeometry:
    """Pointing and sky regions of a visit, as fitted WCSs tell them.

    Parameters
    ----------
    boresight_ra, boresight_dec
        Where the optical axis points, degrees ICRS; None where no camera model was at hand.
    orientation
        Position angle of the focal plane's +Y axis, degrees from North through East; None likewise.
    visit_region
        Region that has all detectors in it.
    detector_regions
        Region of each detector.
    """

    boresight_ra: float | None
    boresight_dec: float | None
    orientation: float | None
    visit_region: Region
    detector_regions: Mapping[int, Region]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, the form of the dataset; regions are IVOA POS texts (``POLYGON ra dec ...``, degrees)."""
        return {
            "boresight_ra": self.boresight_ra,
            "boresight_dec": self.boresight_dec,
            "orientation": self.orientation,
            "visit_region": self.visit_region.to_ivoa_pos(),
            "detector_regions": {
                int(detector): region.to_ivoa_pos() for detector, region in self.detector_regions.items()
            },
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> VisitGeometry:
        """Return the geometry that `to_dict` wrote.

        Raises
        ------
        InvalidInputError
            If the values are nothing of the kind.
        """
        try:
            pointing = [values[name] for name in ("boresight_ra", "boresight_dec", "orientation")]
            regions = {int(k): Region.from_ivoa_pos(v) for k, v in values["detector_regions"].items()}
            visit_region = Region.from_ivoa_pos(values["visit_region"])
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise InvalidInputError(f"this is no visit geometry: {error!r}") from None
        ra, dec, orientation = (None if each is None else float(each) for each in pointing)
        return cls(ra, dec, orientation, visit_region, regions)


def sky_polygon(vectors: np.ndarray) -> ConvexPolygon:
    """Return the convex hull of some directions: unit vectors, shape (n, 3), within a hemisphere."""
    return ConvexPolygon.convexHull([UnitVector3d(*(float(v) for v in vector)) for vector in vectors])
