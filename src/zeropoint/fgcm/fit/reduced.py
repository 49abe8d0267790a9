"""The reduced problem: what is left of the Hessian of chi-square when the magnitudes of the stars are eliminated.

The magnitude of an observation is that of its nodes: its exposure, and its constant of the superstar flat.  Between the
nodes of a band the curvature depends on weights alone (`BandCurvature`), so it is computed once for many parameters; the
nodes' derivatives by the parameters turn it into the parameters' Hessian.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from zeropoint.fgcm.fit._kernels import add_curvature, mean_response, node_blocks
from zeropoint.fgcm.fit.node_derivatives import Derivatives
from zeropoint.fgcm.fit.nodes import Nodes
from zeropoint.fgcm.threads import in_order

if TYPE_CHECKING:
    from zeropoint.fgcm.model.observations import FitObservations

__all__ = ["BandCurvature", "band_curvatures", "mean_responses", "parameter_hessian"]

FloatArray = npt.NDArray[np.float64]
SingleArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]


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

    return list(in_order(lambda k: of(nodes[k]), len(nodes), threads))


def parameter_hessian(curvatures: list[BandCurvature], derivatives: Derivatives, n_free: int) -> FloatArray:
    """Return the Hessian of half of chi-square in the free parameters, without priors; shape (n_free, n_free).

    Parameters
    ----------
    curvatures
        Of all bands.
    derivatives
        Of exposures and flats.
    n_free
        Number of free parameters.
    """
    hessian, rows = np.zeros((n_free, n_free)), derivatives.rows()
    for each in curvatures:
        # flats come after the exposures
        own = np.concatenate([each.nodes.exposures, len(derivatives.own) + each.nodes.flats])
        add_curvature(each.blocks, own, *rows, hessian)
    whole = hessian + hessian.T
    whole *= 0.5
    return np.asarray(whole)


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
