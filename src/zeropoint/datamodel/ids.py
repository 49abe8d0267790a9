"""Catalogue ids: release, visit, detector and row number packed into one 63-bit integer.

The layout is that of Rubin's ``DetectorVisitIdGenerator``: with
``packed = detector + n_detectors * visit`` in B bits and the release in R bits, ``catalog_id = packed + 2^B *
release`` and a row's id is ``catalog_id * 2^c + counter`` with ``c = 63 - B - R`` and counters from 1.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["CatalogIdGenerator", "UnpackedIds", "hash_visit"]

_ID_BITS = 63


@dataclass(frozen=True)
class UnpackedIds:
    """What an id holds.

    Parameters
    ----------
    release_id, visit, detector, counter : int64, shape (n,)
        The parts of each id.
    """

    release_id: npt.NDArray[np.int64]
    visit: npt.NDArray[np.int64]
    detector: npt.NDArray[np.int64]
    counter: npt.NDArray[np.int64]


@dataclass(frozen=True)
class CatalogIdGenerator:
    """Ids of the rows of one detector's catalogue.

    Parameters
    ----------
    visit, detector
        The image; each at least 0 and below its maximum.
    n_visits, n_detectors
        Upper limits (exclusive) of visit and detector numbers.
    release_id, n_releases
        Processing campaign, below its maximum.

    Raises
    ------
    ValueError
        If a number is outside of its range, or the ranges leave no bits for rows.
    """

    visit: int
    detector: int
    n_visits: int
    n_detectors: int
    release_id: int = 0
    n_releases: int = 64

    def __post_init__(self) -> None:
        for name, value, limit in (
            ("visit", self.visit, self.n_visits),
            ("detector", self.detector, self.n_detectors),
            ("release_id", self.release_id, self.n_releases),
        ):
            if not 0 <= value < limit:
                raise ValueError(f"{name} {value} is not in the range 0 <= {name} < {limit}.")
        if self.counter_bits < 1:
            raise ValueError(
                f"{self.n_visits} visits of {self.n_detectors} detectors in {self.n_releases} releases leave "
                "no bits for row numbers."
            )

    @classmethod
    def trivial(cls) -> CatalogIdGenerator:
        """Return the generator without an image: ids 1, 2, 3, ... and ``catalog_id`` 0."""
        return cls(visit=0, detector=0, n_visits=1, n_detectors=1, n_releases=1)

    @property
    def packer_bits(self) -> int:
        """Bits that hold visit and detector."""
        return (self.n_visits * self.n_detectors - 1).bit_length()

    @property
    def release_bits(self) -> int:
        """Bits that hold the release."""
        return (self.n_releases - 1).bit_length()

    @property
    def counter_bits(self) -> int:
        """Bits that hold the row number."""
        return _ID_BITS - self.packer_bits - self.release_bits

    @property
    def catalog_id(self) -> int:
        """Id of the whole catalogue; also the seed of random draws."""
        return self.detector + self.n_detectors * self.visit + (self.release_id << self.packer_bits)

    def arange(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return the ids of the counters ``start .. stop - 1``.

        Raises
        ------
        OverflowError
            If a counter does not fit its bits.
        """
        if start < 0 or stop - 1 >= 1 << self.counter_bits:
            raise OverflowError(f"Row numbers {start} to {stop - 1} do not fit {self.counter_bits} bits.")
        return np.int64(self.catalog_id << self.counter_bits) + np.arange(start, stop, dtype=np.int64)

    def ids(self, n: int) -> npt.NDArray[np.int64]:
        """Return the ids of ``n`` rows, with counters 1 to n."""
        return self.arange(1, n + 1)

    def unpack(self, ids: npt.ArrayLike) -> UnpackedIds:
        """Return the parts of ids made with the same ranges (whatever the image or release)."""
        ids = np.asarray(ids, np.int64)
        counter = ids & np.int64((1 << self.counter_bits) - 1)
        catalog_id = ids >> np.int64(self.counter_bits)
        packed = catalog_id & np.int64((1 << self.packer_bits) - 1)
        release_id = catalog_id >> np.int64(self.packer_bits)
        visit, detector = np.divmod(packed, np.int64(self.n_detectors))
        return UnpackedIds(release_id, visit, detector, counter)


def hash_visit(image: np.ndarray, n_visits: int = 1 << 31) -> int:
    """Return a visit number from the image data, for images without an exposure number.

    Parameters
    ----------
    image : shape (height, width)
        Pixels; converted to float32, so an image has one number whatever type it was read as.
    n_visits
        Upper limit (exclusive) of visit numbers.

    Returns
    -------
    int
        The same number on every platform; equal for equal shape and pixels (all NaNs count as equal).
    """
    pixels = np.asarray(image).astype(np.dtype(">f4"))
    pixels[np.isnan(pixels)] = np.nan
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(pixels.tobytes())
    return int.from_bytes(digest.digest()[:8], "big") % n_visits
