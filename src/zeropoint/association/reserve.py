"""Set aside isolated stars, the same in every visit of a band."""

from __future__ import annotations

import hashlib
from typing import Any

import hpgeom
import lsst.pex.config as pexConfig
import numpy as np
import numpy.typing as npt

from zeropoint.errors import InvalidInputError

__all__ = ["ReserveIsolatedStars", "ReserveIsolatedStarsConfig"]

BoolArray = npt.NDArray[np.bool_]

#: HEALPix cells of 3.2 arcsec: with stars at least 2 arcsec apart hardly two share one, and a mean position that moves
#: by 5 mas crosses an edge once in 500 stars.
_CELL_NSIDE = 65536


class ReserveIsolatedStarsConfig(pexConfig.Config):
    """How many stars to reserve, and by which rule."""

    reserve_name = pexConfig.Field[str](
        default="reserved", doc="Name of the choice; other names give other stars."
    )
    reserve_fraction = pexConfig.RangeField[float](
        default=0.1, min=0.0, max=1.0, inclusiveMax=True, doc="Fraction of the stars to reserve; 0 for none."
    )
    method = pexConfig.ChoiceField[str](
        default="per_tract",
        allowed={
            "per_tract": "An exact share of a tract's stars of a band, drawn by their number alone: Rubin's rule. "
            "A star more or less in the tract changes the whole choice.",
            "per_star": "Each star for itself, by a hash of its place on the sky: data that are added later leave the "
            "choice as it was. The share is exact on average only.",
        },
        doc="How stars are chosen.",
    )


class ReserveIsolatedStars:
    """Choose stars that no fit uses, so that it can be judged on them.

    Parameters
    ----------
    config
        Settings; None for the defaults.

    Notes
    -----
    The method ``per_tract`` is that of ReserveIsolatedStarsTask of the LSST Science Pipelines (2026): the hash of the
    name seeds a generator that shuffles ``int(nstar * reserve_fraction)`` True values among ``nstar``.

    The method ``per_star`` hashes the name and the HEALPix cell of 3.2 arcsec (nside 65536, nested) in which the star
    lies, and reserves it if the hash, taken as a number in [0, 1), is below the fraction.  The cell is the key, and
    neither a row, a source id nor the position itself, because rows and ids are renumbered when data are added or
    processed anew, and a mean position moves by milliarcseconds.  A star whose mean moves across the edge of a cell is
    drawn anew: of stars that move by ``d`` arcsec a share of about ``2 f (1 - f) 4 d / (3.2 pi)`` changes sides, 4 in
    10,000 for 5 mas and a tenth reserved.  Every rule by position has such edges; cells as large as this keep them
    short, and larger ones would reserve neighbors together.
    """

    ConfigClass = ReserveIsolatedStarsConfig

    def __init__(self, config: ReserveIsolatedStarsConfig | None = None) -> None:
        self.config = config if config is not None else ReserveIsolatedStarsConfig()

    def run(self, nstar: int, extra: str = "", *, ra: Any = None, dec: Any = None) -> BoolArray:
        """Choose the reserved ones among ``nstar`` stars.

        Parameters
        ----------
        nstar
            Number of stars.
        extra
            Appended to the name, for example band and tract: ``r_9813``.
        ra, dec : float64, shape (nstar,)
            Positions in degrees; only the method ``per_star`` needs and uses them.

        Returns
        -------
        bool, shape (nstar,)
            True for reserved stars.

        Raises
        ------
        ValueError
            If ``nstar`` is negative, or the method is ``per_star`` and there are not ``nstar`` positions.
        InvalidInputError
            If the method is ``per_star`` and a position is not finite.
        """
        if nstar < 0:
            raise ValueError(f"there cannot be {nstar} stars")
        config = self.config
        if config.reserve_fraction == 0.0:
            return np.zeros(nstar, np.bool_)
        digest = hashlib.sha256(f"{config.reserve_name}_{extra}".encode()).digest()
        if config.method == "per_tract":
            return _shuffled(nstar, config.reserve_fraction, digest)
        ra, dec = (np.atleast_1d(np.asarray(v, np.float64)) for v in (ra, dec))
        if ra.shape != (nstar,) or dec.shape != (nstar,):
            raise ValueError(f"the method per_star needs the positions of all {nstar} stars")
        if not (np.isfinite(ra).all() and np.isfinite(dec).all()):
            raise InvalidInputError(
                "stars without a finite position cannot be reserved by their place on the sky"
            )
        return _hashed(ra, dec, config.reserve_fraction, digest)


def _shuffled(n: int, fraction: float, digest: bytes) -> BoolArray:
    """Return ``int(n * fraction)`` True values at random places; the seed is the digest's last 32 bits."""
    chosen = np.zeros(n, np.bool_)
    chosen[: int(n * fraction)] = True
    np.random.default_rng(int.from_bytes(digest[-4:], "big")).shuffle(chosen)
    return chosen


def _hashed(ra: np.ndarray, dec: np.ndarray, fraction: float, digest: bytes) -> BoolArray:
    """Return True for positions whose cell's hash is below the fraction of its range."""
    cells = np.asarray(hpgeom.angle_to_pixel(_CELL_NSIDE, ra, dec, nest=True, lonlat=True, degrees=True))
    # finalizer of SplitMix64 on 64 bits of the name's digest and the cell; the same on every platform
    bits = _mix(cells.astype(np.uint64) ^ np.uint64(int.from_bytes(digest[:8], "big")))
    # 53 bits make an exact float64 in [0, 1)
    return np.asarray((bits >> np.uint64(11)) * 2.0**-53 < fraction)


def _mix(bits: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Scramble 64-bit words, one to one."""
    bits = bits + np.uint64(0x9E3779B97F4A7C15)  # wraps around
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
