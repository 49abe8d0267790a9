"""Whether any part of the nights is photometric: two descriptions of the gray of exposures, and which the gray tells for.

One is that of the cycle: most exposures are clear, and scatter by a few millimagnitudes about the atmosphere of their night; the
others are behind clouds, which only dim.  The other is that no exposure is clear, and all scatter by as much.  Both have the
nights' atmospheres free within the priors, so that exposures which an atmosphere can always be bent to count for neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["NightGray", "SkyEvidence", "scatter_of_clear", "sky_evidence"]

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

#: Scatter of clear exposures that the first description may choose from, mag.
_CLEAR = (0.001, 0.002, 0.003)
#: Scatter of all exposures that the second may choose from, mag: below 8 mmag, clear exposures are only gray.
_ALL = tuple(0.008 * 1.1**k for k in range(41))
#: Scatter that clear exposures may have beyond their errors, mag.
_SCATTER = (0.0, *(0.0003 * 1.1**k for k in range(37)))
#: How far the gray of clouds is spread, mag, and the part of the exposures that are too bright without a cause.
_CLOUDS, _BRIGHT = 0.25, 0.01
#: What 2 ln of the odds must be against clear exposures.
_SURE = 10.0
#: Most that the share of the clear exposures may be, so that a cloud remains possible.
_MOST_CLEAR = 0.99


@dataclass(frozen=True)
class NightGray:
    """Gray of the exposures of a night, and what explains it to first order.

    Parameters
    ----------
    gray : float64, shape (n,)
        Of the exposures, mag.
    rows : float64, shape (n, n_par)
        Its derivatives by the night's parameters.
    mean, variance : float64, shape (n_par,)
        Prior of changes of these.
    noise : float64, shape (n,)
        Errors of the gray, mag.
    clear : bool, shape (n,)
        Exposures that agree on one atmosphere.
    faint : bool, shape (n,)
        Those that are fainter than that.
    """

    gray: FloatArray
    rows: FloatArray
    mean: FloatArray
    variance: FloatArray
    noise: FloatArray
    clear: BoolArray
    faint: BoolArray

    def surprises(self, sigmas: Sequence[float], chosen: BoolArray | None = None) -> FloatArray:
        """Return -2 ln of the likelihood of exposures that scatter by each sigma, the night's parameters integrated out.

        Parameters
        ----------
        sigmas
            Their scatter, mag.
        chosen : bool, shape (n,)
            Which; None: all.

        Returns
        -------
        surprises : float64, shape (n_sigmas,)
        """
        use = slice(None) if chosen is None else chosen
        rows = self.rows[use]
        residual = self.gray[use] - rows @ self.mean
        # scatter adds as much to every eigenvalue of the covariance
        values, vectors = np.linalg.eigh((rows * self.variance) @ rows.T + np.diag(self.noise[use] ** 2))
        variance = np.maximum(values, 0.0) + np.square(np.asarray(sigmas, float))[:, None]
        return np.asarray((np.log(variance) + np.square(residual @ vectors) / variance).sum(axis=1))


@dataclass(frozen=True)
class SkyEvidence:
    """What the gray of the exposures tells for.

    Parameters
    ----------
    n, n_clear
        Exposures that were looked at, and those that agree with others of their night.
    sigma
        Scatter of all exposures, if none is clear, mag.
    for_clear
        2 ln of how much more likely the gray is if there are clear exposures.
    """

    n: int
    n_clear: int
    sigma: float
    for_clear: float

    @property
    def has_photometric(self) -> bool:
        """Whether there may be photometric exposures; nothing that could be looked at: there are."""
        return self.n == 0 or self.for_clear >= -_SURE


def sky_evidence(nights: Sequence[NightGray]) -> SkyEvidence:
    """Compare the two descriptions.

    Parameters
    ----------
    nights
        Nights that are looked at.
    """
    n = sum(len(each.gray) for each in nights)
    n_clear = sum(int(np.count_nonzero(each.clear)) for each in nights)
    if n == 0:
        return SkyEvidence(0, 0, np.nan, 0.0)
    share = min(n_clear / n, _MOST_CLEAR)
    n_faint = sum(int(np.count_nonzero(each.faint)) for each in nights)
    clear = float(np.min(np.sum([each.surprises(_CLEAR, each.clear) for each in nights], axis=0)))
    if n_clear:
        clear -= 2.0 * n_clear * np.log(share)
    cloud = 2.0 * np.log(_CLOUDS / np.sqrt(2.0 * np.pi)) - 2.0 * np.log(1.0 - share)
    clear += (n - n_clear) * cloud - 2.0 * (n - n_clear - n_faint) * np.log(_BRIGHT)
    sigma, other = _widest(nights)
    return SkyEvidence(n, n_clear, sigma, float(other - clear))


def scatter_of_clear(nights: Sequence[NightGray]) -> float:
    """Return by how much clear exposures scatter about the atmospheres of their nights beyond their errors, mag.

    Parameters
    ----------
    nights
        Nights that are looked at.
    """
    if not nights:
        return _SCATTER[0]
    surprises = np.sum([each.surprises(_SCATTER, each.clear) for each in nights], axis=0)
    return _SCATTER[int(np.argmin(surprises))]


def _widest(nights: Sequence[NightGray]) -> tuple[float, float]:
    """Return the most likely scatter of all exposures, and -2 ln of its likelihood."""
    surprises = np.sum([each.surprises(_ALL) for each in nights], axis=0)
    best = int(np.argmin(surprises))
    return _ALL[best], float(surprises[best])
