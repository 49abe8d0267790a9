"""Where the tracts of a sky map lie, and how a tract is divided into patches.

Names of fields are those of the LSST Science Pipelines' sky-map configuration, angles in its units (degrees, and
arcseconds per pixel).
"""

from __future__ import annotations

import math
import struct
from functools import cached_property
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pydantic
from scipy.spatial import cKDTree

from zeropoint.datamodel.wcs import unit_vectors

__all__ = ["CellPatches", "DiscreteLayout", "LegacyPatches", "RingsLayout"]

FloatArray = npt.NDArray[np.float64]
TractIds = npt.NDArray[np.int32]
Positive = Annotated[int, pydantic.Field(gt=0)]
NotNegative = Annotated[int, pydantic.Field(ge=0)]
RightAscension = Annotated[float, pydantic.Field(ge=0.0, lt=360.0)]
Declination = Annotated[float, pydantic.Field(ge=-90.0, le=90.0)]
#: Half a tract's side: beyond 45 degrees a tangent plane is no map.
Radius = Annotated[float, pydantic.Field(gt=0.0, le=45.0)]


class Frozen(pydantic.BaseModel):
    """A definition that cannot change and knows no other fields than its own."""

    model_config = pydantic.ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def _values(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in type(self).model_fields)

    # what is kept from earlier calls does not count, as it does in pydantic's own comparison
    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._values() == other._values()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), self._values()))


# -- patches --------------------------------------------------------------------------------------------


class LegacyPatches(Frozen):
    """Patches of a given size that overlap by a border, which ends at the tract's edge."""

    tractBuilder: Literal["legacy"] = "legacy"
    patchInnerDimensions: tuple[Positive, Positive] = (4000, 4000)
    patchBorder: NotNegative = 100

    clipped: ClassVar[bool] = True

    @property
    def inner(self) -> tuple[int, int]:
        """Width and height of a patch without its border, pixels."""
        return self.patchInnerDimensions

    @property
    def border(self) -> int:
        """Width of the border, pixels."""
        return self.patchBorder

    def packed(self, overlap: float, scale: float, projection: str, rotation: float) -> bytes:
        """Return the part of the hash that holds this definition and the projection."""
        return struct.pack(
            "<iiidd3sd", *self.inner, self.border, overlap, scale, projection.encode("ascii"), rotation
        )


class CellPatches(Frozen):
    """Patches made of whole cells; their border goes on beyond the tract's edge."""

    tractBuilder: Literal["cells"] = "cells"
    cellInnerDimensions: tuple[Positive, Positive] = (150, 150)
    cellBorder: NotNegative = 50
    numCellsPerPatchInner: Positive = 20
    numCellsInPatchBorder: NotNegative = 1

    clipped: ClassVar[bool] = False

    @property
    def inner(self) -> tuple[int, int]:
        """Width and height of a patch without its border, pixels."""
        width, height = self.cellInnerDimensions
        return width * self.numCellsPerPatchInner, height * self.numCellsPerPatchInner

    @property
    def border(self) -> int:
        """Width of the border, pixels."""
        return self.numCellsInPatchBorder * self.cellInnerDimensions[0] + self.cellBorder

    @pydantic.model_validator(mode="after")
    def _square(self) -> CellPatches:
        if self.cellInnerDimensions[0] != self.cellInnerDimensions[1]:
            raise ValueError(f"cellInnerDimensions {self.cellInnerDimensions} must be square")
        return self

    def packed(self, overlap: float, scale: float, projection: str, rotation: float) -> bytes:
        """Return the part of the hash that holds this definition and the projection."""
        return struct.pack(
            "<iiiiidd3sd",
            *self.cellInnerDimensions,
            self.cellBorder,
            self.numCellsPerPatchInner,
            self.numCellsInPatchBorder,
            overlap,
            scale,
            projection.encode("ascii"),
            rotation,
        )


# -- tracts ---------------------------------------------------------------------------------------------


class RingsLayout(Frozen):
    """Tracts in rings of equal height in declination, a cap at either pole; together they cover the sky.

    Notes
    -----
    With ``h = pi / (numRings + 1)``, ring i reaches from declination ``h (i + 1/2) - pi/2`` over a height h and
    has ``floor(2 pi cos(d) / h) + 1`` tracts, d being its edge's smallest distance to the equator.  Tract 0 is the
    southern cap, then follow the rings from South to North, each eastwards from ``raStart``.
    """

    kind: Literal["rings"] = "rings"
    # a single ring would have three tracts, which leave gaps
    numRings: Annotated[int, pydantic.Field(ge=2, le=20_000)]
    raStart: RightAscension = 0.0

    class_name: ClassVar[str] = "RingsSkyMap"

    @property
    def ring_height(self) -> float:
        """Height of a ring, radians."""
        return math.pi / (self.numRings + 1)

    @cached_property
    def ring_counts(self) -> npt.NDArray[np.int64]:
        """Number of tracts of each ring."""
        h = self.ring_height
        low = h * (np.arange(self.numRings) + 0.5) - 0.5 * math.pi
        nearest = np.minimum(np.abs(low), np.abs(low + h))
        return np.floor(2.0 * math.pi * np.cos(nearest) / h).astype(np.int64) + 1

    @cached_property
    def ring_starts(self) -> npt.NDArray[np.int64]:
        """Number of the first tract of each ring, and of the northern cap."""
        return np.concatenate([[1], 1 + np.cumsum(self.ring_counts)])

    def __len__(self) -> int:
        return int(self.ring_starts[-1]) + 1

    @cached_property
    def centers(self) -> tuple[FloatArray, FloatArray]:
        """Right ascension and declination of all tracts' centers, radians."""
        ring = np.repeat(np.arange(self.numRings), self.ring_counts)
        t = np.arange(ring.size) + 1 - self.ring_starts[ring]
        ra = np.mod(math.radians(self.raStart) + 2.0 * math.pi * t / self.ring_counts[ring], 2.0 * math.pi)
        dec = self.ring_height * (ring + 1) - 0.5 * math.pi
        pole = 0.5 * math.pi
        return np.concatenate([[0.0], ra, [0.0]]), np.concatenate([[-pole], dec, [pole]])

    @property
    def radii(self) -> FloatArray:
        """Half the side of each tract without overlap, radians."""
        return np.full(len(self), 0.5 * self.ring_height)

    def find(self, ra: FloatArray, dec: FloatArray) -> TractIds:
        """Return the tract in whose inner region each position (radians) lies."""
        h = self.ring_height
        ring = np.clip(((dec - (0.5 * h - 0.5 * math.pi)) / h).astype(np.int64), 0, self.numRings - 1)
        n = self.ring_counts[ring]
        turned = np.mod(ra - math.radians(self.raStart), 2.0 * math.pi)
        t = (turned / (2.0 * math.pi / n) + 0.5).astype(np.int64)
        tract = self.ring_starts[ring] + np.where(t == n, 0, t)
        tract = np.where(dec < 0.5 * h - 0.5 * math.pi, 0, tract)
        return np.where(dec > 0.5 * math.pi - 0.5 * h, len(self) - 1, tract).astype(np.int32)

    def inner_box(self, tract: int) -> tuple[float, float, float, float]:
        """Return the inner region: lowest and highest right ascension, unwrapped, and declination (radians)."""
        h, pole = self.ring_height, 0.5 * math.pi
        if tract == 0:
            return 0.0, 2.0 * math.pi, -pole, 0.5 * h - pole
        if tract == len(self) - 1:
            return 0.0, 2.0 * math.pi, pole - 0.5 * h, pole
        ring = int(np.searchsorted(self.ring_starts, tract, side="right")) - 1
        n, t = int(self.ring_counts[ring]), tract - int(self.ring_starts[ring])
        start = math.radians(self.raStart)
        west, east = (start + 2.0 * math.pi * (t + half) / n for half in (-0.5, 0.5))
        return west, east, h * (ring + 0.5) - pole, h * (ring + 1.5) - pole

    def packed(self) -> bytes:
        """Return the part of the hash that holds this definition."""
        return struct.pack("<id", self.numRings, self.raStart)


class DiscreteLayout(Frozen):
    """Square tracts at given positions; a position belongs to the tract whose center is nearest."""

    kind: Literal["discrete"] = "discrete"
    raList: tuple[RightAscension, ...]
    decList: tuple[Declination, ...]
    radiusList: tuple[Radius, ...]

    class_name: ClassVar[str] = "DiscreteSkyMap"

    @pydantic.model_validator(mode="after")
    def _same_length(self) -> DiscreteLayout:
        if not len(self.raList) == len(self.decList) == len(self.radiusList):
            raise ValueError(
                f"raList, decList and radiusList have {len(self.raList)}, {len(self.decList)} and "
                f"{len(self.radiusList)} values; each tract needs one of each"
            )
        if not self.raList:
            raise ValueError("there must be at least one tract")
        if len(set(zip(self.raList, self.decList, strict=True))) < len(self.raList):
            raise ValueError("two tracts have the same center")
        return self

    def __len__(self) -> int:
        return len(self.raList)

    @cached_property
    def centers(self) -> tuple[FloatArray, FloatArray]:
        """Right ascension and declination of all tracts' centers, radians."""
        return np.deg2rad(self.raList), np.deg2rad(self.decList)

    @cached_property
    def radii(self) -> FloatArray:
        """Half the side of each tract without overlap, radians."""
        return np.deg2rad(self.radiusList)

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(unit_vectors(*self.centers))

    def find(self, ra: FloatArray, dec: FloatArray) -> TractIds:
        """Return the tract whose center is nearest to each position (radians); it need not reach that far."""
        return np.asarray(self._tree.query(unit_vectors(ra, dec))[1], np.int32)

    def packed(self) -> bytes:
        """Return the part of the hash that holds this definition."""
        rows = zip(self.raList, self.decList, self.radiusList, strict=True)
        return b"".join(struct.pack("<ddd", *row) for row in rows)
