"""Sky maps: tracts that cover the sky or parts of it, each divided into patches.

The definition is that of the LSST Science Pipelines' rings and discrete sky maps, so that tract numbers, pixel grids
and hashes agree; the JSON form is our own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from lsst.sphgeom import AngleInterval, Box, NormalizedAngle, NormalizedAngleInterval

from zeropoint.datamodel.skymap_layout import (
    CellPatches,
    DiscreteLayout,
    Frozen,
    LegacyPatches,
    RingsLayout,
    TractIds,
)
from zeropoint.datamodel.skymap_tract import Patch, SkyPosition, Tract, TractWcs

__all__ = [
    "CellPatches",
    "DiscreteLayout",
    "LegacyPatches",
    "Patch",
    "RingsLayout",
    "SkyMap",
    "SkyPosition",
    "Tract",
    "TractWcs",
]

_ARCSEC = math.pi / 648000.0


class SkyMap(Frozen):
    """A sky map; a sequence of `Tract`.

    Parameters
    ----------
    layout
        Where the tracts lie.
    patches
        How each is divided.
    projection
        STG or TAN.
    pixelScale
        Scale at a tract's center, arcsec per pixel.
    tractOverlap
        How far a tract reaches beyond half its side, degrees.
    rotation
        Position angle of the pixels' +y, degrees.

    Notes
    -----
    ``SkyMap.rings(120, projection="TAN", pixelScale=0.168, tractOverlap=1/60)`` is the map of the HSC survey.
    ``model_dump_json`` and ``model_validate_json`` write and read it.
    """

    format: Literal["zeropoint-skymap-1"] = "zeropoint-skymap-1"
    layout: Annotated[RingsLayout | DiscreteLayout, pydantic.Field(discriminator="kind")]
    patches: Annotated[LegacyPatches | CellPatches, pydantic.Field(discriminator="tractBuilder")] = (
        LegacyPatches()
    )
    projection: Literal["STG", "TAN"] = "STG"
    pixelScale: Annotated[float, pydantic.Field(gt=0.0)] = 0.333
    tractOverlap: Annotated[float, pydantic.Field(ge=0.0, le=20.0)] = 1.0
    rotation: float = 0.0

    @classmethod
    def rings(cls, numRings: int, raStart: float = 0.0, **settings: Any) -> SkyMap:
        """Return a map of the whole sky in rings."""
        return cls(layout=RingsLayout(numRings=numRings, raStart=raStart), **settings)

    @classmethod
    def discrete(
        cls, raList: Sequence[float], decList: Sequence[float], radiusList: Sequence[float], **settings: Any
    ) -> SkyMap:
        """Return a map of single tracts: centers and half sides in degrees."""
        layout = DiscreteLayout(raList=tuple(raList), decList=tuple(decList), radiusList=tuple(radiusList))
        return cls(layout=layout, **settings)

    def __len__(self) -> int:
        return len(self.layout)

    def __iter__(self) -> Iterator[Tract]:  # type: ignore[override]  # over tracts, not over the model's fields
        return (self[tract] for tract in range(len(self)))

    def __getitem__(self, tract: int) -> Tract:
        tract = int(tract)
        if not 0 <= tract < len(self):
            raise IndexError(f"the sky map has tracts 0 to {len(self) - 1}; there is no tract {tract}")
        ra, dec = (float(values[tract]) for values in self.layout.centers)
        nx, ny, x0, y0 = self._grid(float(self.layout.radii[tract]))
        wcs = TractWcs(ra, dec, x0, y0, self.pixelScale, self.rotation, self.projection)
        return Tract(tract, SkyPosition(ra, dec), wcs, (nx, ny), self.patches)

    def _grid(self, radius: float) -> tuple[int, int, float, float]:
        """Return columns and rows of patches, and the center's pixel, of a tract of a half side (radians).

        Four positions at the half side plus overlap, in the directions of the sky's axes, span the least box; each
        of its sides grows to a multiple of the patch's, half of the growth (rounded down) on the low side.
        """
        reach = radius + math.radians(self.tractOverlap)
        plane = math.tan(reach) if self.projection == "TAN" else 2.0 * math.tan(0.5 * reach)
        turn = math.radians(self.rotation)
        half = plane / (self.pixelScale * _ARCSEC) * max(abs(math.cos(turn)), abs(math.sin(turn)))
        low, high = math.floor(-half + 0.5), math.ceil(half - 0.5)
        size = high - low + 1
        numbers, origins = [], []
        for inner in self.patches.inner:
            number = -(-size // inner)
            numbers.append(number)
            origins.append(float((number * inner - size) // 2 - low))
        return numbers[0], numbers[1], origins[0], origins[1]

    @pydantic.model_validator(mode="after")
    def _projectable(self) -> SkyMap:
        reach = math.degrees(float(self.layout.radii.max())) + self.tractOverlap
        if reach > 60.0:
            raise ValueError(
                f"tracts reach {reach:.3g} degrees from their centers, more than 60; choose more rings, smaller radii or "
                "a smaller tractOverlap"
            )
        return self

    @property
    def num_patches_max(self) -> tuple[int, int]:
        """Largest numbers of columns and rows of patches."""
        grids = [self._grid(float(radius))[:2] for radius in np.unique(self.layout.radii)]
        return max(nx for nx, _ in grids), max(ny for _, ny in grids)

    def find_tract_ids(self, ra: Any, dec: Any, *, degrees: bool = False) -> TractIds:
        """Return the tract that each position belongs to.

        Parameters
        ----------
        ra, dec
            Positions in radians, or in degrees if ``degrees``.

        Returns
        -------
        int32, shape (n,)
            The tract in whose inner region a position lies; for a discrete map the one whose center is nearest,
            even if it does not reach that far.

        Raises
        ------
        ValueError
            If a position is not finite.
        """
        ra, dec = np.broadcast_arrays(*np.atleast_1d(ra, dec))
        ra, dec = (
            np.asarray(v, np.float64) for v in ((np.deg2rad(ra), np.deg2rad(dec)) if degrees else (ra, dec))
        )
        if not (np.isfinite(ra).all() and np.isfinite(dec).all()):
            raise ValueError("positions must be finite to belong to a tract; leave out those that are not")
        return self.layout.find(ra, dec)

    def findTractIdArray(self, ra: Any, dec: Any, degrees: bool = False) -> TractIds:
        """Return `find_tract_ids` under the name that code for the LSST Science Pipelines calls."""
        return self.find_tract_ids(ra, dec, degrees=degrees)

    def find_tract(self, ra: float, dec: float) -> Tract:
        """Return the tract that a position (radians) belongs to."""
        return self[int(self.find_tract_ids(ra, dec)[0])]

    def inner_sky_region(self, tract: int) -> Box:
        """Return the inner region of a tract of a rings map: a box of right ascension and declination.

        Raises
        ------
        TypeError
            If the map is discrete: inner regions are then what is nearest to a center, which no region describes.
        """
        if not isinstance(self.layout, RingsLayout):
            raise TypeError("the tracts of a discrete sky map have no inner region; use find_tract_ids")
        west, east, south, north = self.layout.inner_box(tract)
        if east - west >= 2.0 * math.pi:
            longitudes = NormalizedAngleInterval.full()
        else:
            longitudes = NormalizedAngleInterval(NormalizedAngle(west), NormalizedAngle(east))
        return Box(longitudes, AngleInterval.fromRadians(south, north))

    @cached_property
    def sha1(self) -> bytes:
        """Hash of the definition, 20 bytes, equal to that of the same map in the LSST Science Pipelines."""
        packed = self.patches.packed(self.tractOverlap, self.pixelScale, self.projection, self.rotation)
        return hashlib.sha1(self.layout.class_name.encode() + packed + self.layout.packed()).digest()
