"""How far the PSFs of a survey are from the truth, and what the stars that no PSF was fitted to say of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from zeropoint.datamodel.psf_model import PsfModel
from zeropoint.errors import InvalidInputError
from zeropoint.kernels.moments import adaptive_moments
from zeropoint.simulation.psf import TruthPsf

__all__ = ["PsfErrors", "Residual", "psf_errors", "reserve_conflicts", "reserved_residuals"]

_RESIDUALS = ("dT/T", "de1", "de2")


@dataclass(frozen=True)
class PsfErrors:
    """Errors of a PSF model at some positions, from adaptive moments of noiseless stamps.

    Parameters
    ----------
    size : float64, shape (n,)
        ``T_model / T_truth - 1``; ``T = xx + yy``.
    e1, e2 : float64, shape (n,)
        Differences of ``(xx - yy)/T`` and ``2 xy/T``.
    """

    size: np.ndarray
    e1: np.ndarray
    e2: np.ndarray


@dataclass(frozen=True)
class Residual:
    """A mean residual of stars and its error, from the scatter between detectors.

    Parameters
    ----------
    name
        ``dT/T``, ``de1`` or ``de2``: star minus model.
    mean, error
        Weighted mean and its standard error.
    n_stars, n_groups
        Stars, and images that they are on.
    """

    name: str
    mean: float
    error: float
    n_stars: int
    n_groups: int

    @property
    def significance(self) -> float:
        """The mean in units of its error."""
        return self.mean / self.error


def psf_errors(model: PsfModel, truth: TruthPsf, x: np.ndarray, y: np.ndarray) -> PsfErrors:
    """Compare a PSF model with the truth.

    Parameters
    ----------
    model
        The model.
    truth
        The noiseless PSF.
    x, y : float64, shape (n,)
        Pixel positions.
    """
    stamps = model.kernel_stamps(x=x, y=y)
    size = stamps.shape[1]
    shapes = np.empty((2, 3, len(stamps)))
    for k, stamp in enumerate(stamps):
        true = truth.stamp(float(x[k]), float(y[k]), size, centered=True)
        for row, image in enumerate((stamp, true / true.sum())):
            shapes[row, :, k] = _shape(image)
    return PsfErrors(shapes[0, 0] / shapes[1, 0] - 1.0, *(shapes[0] - shapes[1])[1:])


def _shape(image: np.ndarray) -> tuple[float, float, float]:
    """Return (T, e1, e2) of a stamp whose star is on the middle pixel."""
    half = float(image.shape[0] // 2)
    _, xx, yy, xy = adaptive_moments(np.ascontiguousarray(image, np.float64), half, half, 1.7, 200, 1e-9)
    return xx + yy, (xx - yy) / (xx + yy), 2.0 * xy / (xx + yy)


def reserved_residuals(stars: Table) -> list[Residual]:
    """Return the mean residuals, star minus model, of the reserved stars.

    Parameters
    ----------
    stars
        Tables of final characterization, stacked: ``visit``, ``detector``, ``calib_psf_reserved``, the slots of shape
        and PSF shape, and PSF flux with its error.

    Returns
    -------
    residuals
        Of size and both ellipticities. Stars weigh by the square of their signal to noise, up to 200: beyond, the
        model's own error is what scatters. The stars of an image share that error, so the error of a mean is found from
        the scatter between images.

    Raises
    ------
    InvalidInputError
        If fewer than two images have a measured reserved star.
    """
    flux, error = (np.asarray(stars[f"slot_PsfFlux_instFlux{end}"], np.float64) for end in ("", "Err"))
    star, model = (
        [np.asarray(stars[f"slot_{kind}_{name}"], np.float64) for name in ("xx", "yy", "xy")]
        for kind in ("Shape", "PsfShape")
    )
    good = np.asarray(stars["calib_psf_reserved"], bool) & ~np.asarray(stars["slot_Shape_flag"], bool)
    good &= np.isfinite(np.array([*star, *model, flux, error])).all(axis=0) & (flux > 0)
    group = np.asarray(stars["visit"], np.int64) * 1000 + np.asarray(stars["detector"], np.int64)
    if len(np.unique(group[good])) < 2:
        raise InvalidInputError("Residuals need measured reserved stars on at least two images.")
    (xx, yy, xy), (mxx, myy, mxy) = star, model
    trace, own = xx + yy, mxx + myy
    values = (
        (trace - own) / own,
        (xx - yy) / trace - (mxx - myy) / own,
        2.0 * xy / trace - 2.0 * mxy / own,
    )
    weight = np.minimum(flux / error, 200.0) ** 2
    return [
        _clustered_mean(name, value[good], weight[good], group[good])
        for name, value in zip(_RESIDUALS, values)
    ]


def _clustered_mean(name: str, values: np.ndarray, weight: np.ndarray, group: np.ndarray) -> Residual:
    mean = float(np.sum(weight * values) / np.sum(weight))
    groups, index = np.unique(group, return_inverse=True)
    scores = np.bincount(index, weight * (values - mean))
    n = len(groups)
    error = float(np.sqrt(np.sum(scores**2) * n / (n - 1)) / np.sum(weight))
    return Residual(name, mean, error, len(values), n)


def reserve_conflicts(stars: Table, sources: Table) -> tuple[int, int]:
    """Count the stars that are reserved in some visits of a band and not in others.

    Parameters
    ----------
    stars
        Tables of final characterization, stacked: ``id``, ``calib_psf_reserved``.
    sources
        Sources of isolated stars: ``sourceId``, ``band``, and ``isolated_star_id`` of all tracts.

    Returns
    -------
    n_stars, n_conflicts
        Pairs of star and band that were seen in two visits or more; those of them that disagree.
    """
    ids = np.asarray(sources["sourceId"], np.int64)
    order = np.argsort(ids)
    own = np.asarray(stars["id"], np.int64)
    place = order[np.minimum(np.searchsorted(ids[order], own), len(ids) - 1)]
    known = ids[place] == own
    bands, band = np.unique(np.asarray(sources["band"]).astype(str), return_inverse=True)
    key = np.asarray(sources["isolated_star_id"], np.int64) * len(bands) + band
    _, seen = np.unique(key[place[known]], return_inverse=True)
    reserved = np.asarray(stars["calib_psf_reserved"], bool)[known]
    n, n_reserved = np.bincount(seen), np.bincount(seen, reserved)
    often = n > 1
    return int(often.sum()), int(np.sum(often & (n_reserved > 0) & (n_reserved < n)))
