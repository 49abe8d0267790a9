"""The reduced problem: what is left of the Hessian of chi-square when the magnitudes of the stars are eliminated.

The magnitude of an observation is that of its nodes: its exposure, and its constant of the superstar flat.  Between the
nodes of a band the curvature depends on weights alone (`BandCurvature`), so it is computed once for many parameters; the
nodes' derivatives by the parameters turn it into the parameters' Hessian.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from zeropoint.fgcm.fit._kernels import mean_response, node_blocks

if TYPE_CHECKING:
    from zeropoint.fgcm.model.observations import FitObservations

__all__ = ["BandCurvature", "Derivatives", "NodeDerivatives", "Nodes", "band_curvatures", "parameter_hessian"]

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
type Matrix = FloatArray | Any
#: Numbers of a matrix up to which it is quicker to multiply with its zeros.
_DENSE = 200_000


@dataclass(frozen=True)
class Nodes:
    """The nodes of a band: its exposures, then constants of its superstar flats.

    Parameters
    ----------
    band
        Index.
    exposures : int64, shape (n_exposures,)
        Of the band, ascending.
    flats : int64, shape (n_flats,)
        Columns of the vector of free parameters.
    of_exposure : int32, shape (n_exp,)
        Node of each exposure of the survey, -1: of another band.
    of_flat : int32, shape (n_exp * n_det,)
        Node of each exposure and detector, -1: none.
    """

    band: int
    exposures: npt.NDArray[np.int64]
    flats: npt.NDArray[np.int64]
    of_exposure: IntArray
    of_flat: IntArray

    def __len__(self) -> int:
        return len(self.exposures) + len(self.flats)

    @classmethod
    def of(cls, band: int, exposure_band: npt.NDArray[Any], flat_column: npt.NDArray[Any]) -> Nodes:
        """Return the nodes of a band.

        Parameters
        ----------
        band
            Index.
        exposure_band : integer, shape (n_exp,)
            Band of each exposure, -1: none.
        flat_column : integer, shape (n_exp, n_det)
            Column of the free superstar constant that acts on each exposure and detector, -1: none.
        """
        exposures = np.flatnonzero(exposure_band == band)
        of_exposure = np.full(len(exposure_band), -1, np.int32)
        of_exposure[exposures] = np.arange(len(exposures))
        of_flat = np.full(flat_column.shape, -1, np.int32)
        flats = np.unique(flat_column[exposures])
        flats = flats[flats >= 0]
        if len(flats):
            columns = flat_column[exposures]
            place = np.searchsorted(flats, columns)
            of_flat[exposures] = np.where(columns >= 0, place + len(exposures), -1)
        return cls(band, exposures, flats.astype(np.int64), of_exposure, of_flat.ravel())


@dataclass(frozen=True)
class Derivatives:
    """Derivatives of the magnitudes of exposures and of the constants of superstar flats by the free parameters; sparse.

    Parameters
    ----------
    gray, chromatic : shape (n_exp, n_free)
        Of A, and of I10 in Angstrom: means over the detectors of an exposure.
    flat_gray, flat_chromatic : shape (n_free, n_free)
        The same of detectors, relative to their exposures, in the rows of the free superstar constants.
    """

    gray: Matrix
    chromatic: Matrix
    flat_gray: Matrix
    flat_chromatic: Matrix

    @classmethod
    def of(cls, gray: Matrix, chromatic: Matrix) -> Derivatives:
        """Return derivatives where detectors differ by their superstar constants only.

        Parameters
        ----------
        gray, chromatic : shape (n_exp, n_free)
            Of the exposures, dense or sparse.
        """
        n = gray.shape[1]
        none = sparse.csr_matrix((n, n))
        return cls(
            sparse.csr_matrix(gray), sparse.csr_matrix(chromatic), sparse.identity(n, format="csr"), none
        )


@dataclass(frozen=True)
class NodeDerivatives:
    """Derivatives of the magnitudes of a band's nodes by the free parameters.

    Parameters
    ----------
    gray : dense or sparse, shape (nodes, n_free)
        Of A: the same for all stars.
    chromatic : dense or sparse, shape (nodes, n_free)
        Of I10, Angstrom: times the color coefficient of a star it is in magnitudes.
    """

    gray: Matrix
    chromatic: Matrix

    @classmethod
    def of(cls, nodes: Nodes, derivatives: Derivatives) -> NodeDerivatives:
        """Return the derivatives of a band's nodes.

        Parameters
        ----------
        nodes
            The band's.
        derivatives
            Of exposures and flats.
        """
        d = derivatives
        parts = ((d.gray, d.flat_gray), (d.chromatic, d.flat_chromatic))
        both = [sparse.vstack([e[nodes.exposures], f[nodes.flats]]).tocsr() for e, f in parts]
        return cls(*(each.toarray() if np.prod(each.shape) <= _DENSE else each for each in both))


@dataclass(frozen=True)
class BandCurvature:
    """Curvature of half of chi-square in the magnitudes of a band's nodes, the stars' magnitudes eliminated.

    Parameters
    ----------
    nodes
        Of the band.
    blocks : float64, shape (3, nodes, nodes)
        Times the color coefficient of the stars to the power 0, 1, 2.
    """

    nodes: Nodes
    blocks: FloatArray


def band_curvatures(
    observations: FitObservations,
    weight: SingleArray,
    color: FloatArray,
    reference_weight: FloatArray,
    nodes: list[Nodes],
    threads: int = 1,
) -> list[BandCurvature]:
    """Return the curvatures of bands, the same bytes whatever the threads.

    Parameters
    ----------
    observations
        Star by star.
    weight : float32, shape (n_obs,)
        0: not used.
    color : float64, shape (n_star * n_band,)
        Coefficient of I10 in a magnitude, per star and band, 1/Angstrom.
    reference_weight : float64, shape (n_star * n_band,)
        Weight of the reference magnitudes, 0 where there are none.
    nodes
        Of the bands that are asked for.
    threads
        Bands at a time.
    """
    longest = int(np.diff(observations.start).max(initial=0))

    def of(band: Nodes) -> BandCurvature:
        sums = np.zeros((len(band), len(band), 3))
        node_blocks(
            observations.start, observations.ec, weight, color, reference_weight, band.band, observations.n_band,
            observations.n_det, band.of_exposure, band.of_flat, longest, sums,
        )  # fmt: skip
        blocks = np.ascontiguousarray(np.moveaxis(sums, 2, 0))
        lower = np.tril(blocks, -1)
        return BandCurvature(band, blocks + np.swapaxes(lower, 1, 2))

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(of, nodes))


def parameter_hessian(
    curvatures: list[BandCurvature], derivatives: Derivatives, prior: FloatArray
) -> FloatArray:
    """Return the Hessian of half of chi-square in the free parameters, shape (n_free, n_free).

    Parameters
    ----------
    curvatures
        Of all bands.
    derivatives
        Of exposures and flats.
    prior : float64, shape (n_free, n_free)
        Hessian of the priors.
    """
    hessian = np.zeros(prior.shape)
    for each in curvatures:
        node = NodeDerivatives.of(each.nodes, derivatives)
        k0, k1, k2 = each.blocks
        left = node.gray.T @ k0 + node.chromatic.T @ k1
        right = node.gray.T @ k1 + node.chromatic.T @ k2
        hessian += (node.gray.T @ left.T).T + (node.chromatic.T @ right.T).T
    return np.asarray(0.5 * (hessian + hessian.T) + prior)


def mean_responses(
    observations: FitObservations,
    weight: SingleArray,
    sample: SingleArray,
    color: FloatArray,
    reference_weight: FloatArray,
    nodes: list[Nodes],
    rows: IntArray,
) -> Iterator[tuple[Nodes, FloatArray, FloatArray]]:
    """Yield, band by band, how the means of the stars on each row (a detector of an exposure) follow the nodes.

    Parameters
    ----------
    observations, weight, color, reference_weight, nodes
        As for `band_curvatures`: what the means are made of.
    sample : float32, shape (n_obs,)
        Weights with which a row averages over its stars.
    rows : int32, shape (n_exp * n_det,)
        Row of each exposure and detector within its band, -1: none.

    Yields
    ------
    nodes
        Of the band.
    response : float64, shape (rows, nodes, 2)
        Means per magnitude of a node, and the same times the stars' color coefficient.
    total : float64, shape (rows,)
        Sum of the sample's weights.
    """
    longest = int(np.diff(observations.start).max(initial=0))
    exposure = np.arange(len(rows)) // observations.n_det
    for band in nodes:
        inside = band.of_exposure[exposure] >= 0
        own = np.where(inside, rows, -1).astype(np.int32)
        n_rows = int(own.max(initial=-1)) + 1
        response, total = np.zeros((n_rows, len(band), 2)), np.zeros(n_rows)
        mean_response(
            observations.start, observations.ec, weight, sample, color, reference_weight, band.band,
            observations.n_band, observations.n_det, band.of_exposure, band.of_flat, own, longest, total, response,
        )  # fmt: skip
        response /= np.where(total > 0, total, 1.0)[:, None, None]
        yield band, response, total
