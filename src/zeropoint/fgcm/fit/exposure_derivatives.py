"""Derivatives of an exposure's two numbers, A and I10, by the free parameters: what stands for all its detectors.

They are means over detectors, and between the airmass nodes, weighted as the observations are.  The exact gradient does
not use them; they make the Hessian.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from zeropoint.fgcm.model.passband_source import FITTED

if TYPE_CHECKING:
    from zeropoint.fgcm.model.layout import ParameterLayout
    from zeropoint.fgcm.model.model import ModelTables, PhotometricModel
    from zeropoint.fgcm.model.parameters import FitParameters

__all__ = ["atmosphere_derivatives", "exposure_derivatives"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def exposure_derivatives(
    model: PhotometricModel,
    tables: ModelTables,
    parameters: FitParameters,
    layout: ParameterLayout,
    share: FloatArray,
) -> tuple[IntArray, FloatArray, FloatArray, IntArray]:
    """Return the derivatives of A and I10 of the exposures by the free parameters, without superstar constants.

    Parameters
    ----------
    model
        Of the exposures.
    tables
        With derivatives.
    parameters
        Where the tables were evaluated.
    layout
        Free parameters.
    share : float64, shape (n_exp, n_det, 2)
        Weights of detectors and airmass nodes; their sum is 1 in each exposure.

    Returns
    -------
    columns : int64, shape (n_exp, m)
        Parameters that an exposure depends on, each once; -1: not free.
    gray, chromatic : float64, shape (n_exp, m)
        Magnitudes and Angstrom per unit of each.
    own : int64, shape (n_exp,)
        The parameter that is the gray of the exposure; -1: not free.
    """
    e = model.exposures
    band, filters = np.maximum(e.band, 0), np.maximum(e.filter, 0)
    one, nodes, none = np.ones(len(e)), np.stack([e.airmass_low, e.airmass_high]), np.zeros(len(e))
    entries: list[tuple[IntArray, FloatArray, FloatArray]] = [
        (layout.indices["qe_intercept"][band, e.wash], one, none),
        (layout.indices["qe_slope"][band, e.wash], e.wash_time, none),
        (layout.indices["filter_offset"][filters], one, none),
        (layout.indices["abs_offset"][band], one, none),
        (layout.indices["aper_slope"][band], parameters.seeing_offset(e), none),
        (layout.indices["airmass_residual"][band], np.einsum("edn,ne->e", share, nodes) - 1.0, none),
    ]
    # axes: exposure, detector, node, quantity
    means = {name: np.einsum("edn,ednq->eq", share, values) for name, values in tables.derivatives.items()}
    if "ln_pwv" in means:
        entries.append((layout.indices["water_residual"][band], *means["ln_pwv"].T))
    for name, factor in model.nightly_factors(parameters).items():
        index = layout.indices[name]
        column = np.broadcast_to(index, len(e)) if factor.is_global else index[e.night]
        if factor.source in means:
            slope = means[factor.source]
            entries.append((column, slope[:, 0] * factor.factor, slope[:, 1] * factor.factor))
    entries = [each for each in entries if (each[0] >= 0).any()]
    if not entries:
        entries = [(np.full(len(e), -1), none, none)]
    columns, gray, chromatic = (np.stack(each, axis=1) for each in zip(*entries, strict=True))
    usable = e.has_passband
    own = layout.indices["exposure_gray"]
    return np.where(usable[:, None], columns, -1), gray, chromatic, np.where(usable, own, -1)


def atmosphere_derivatives(
    model: PhotometricModel, parameters: FitParameters, layout: ParameterLayout
) -> dict[str, Any]:
    """Return the derivatives of the atmosphere at the exposures by the free parameters.

    Parameters
    ----------
    model
        Of the exposures.
    parameters
        Say whether water vapor is retrieved.
    layout
        Free parameters.

    Returns
    -------
    derivatives
        ``ln_pwv``, ``ln_tau``, ``alpha``, ``o3`` -> sparse, shape (n_exp, n_free); empty rows where nothing was free.
    """
    e = model.exposures
    entries: dict[str, list[tuple[IntArray, FloatArray]]] = {name: [] for name in FITTED}
    for name, factor in model.nightly_factors(parameters).items():
        index = layout.indices[name]
        column = np.broadcast_to(index, len(e)) if factor.is_global else index[e.night]
        entries[factor.source].append((column, factor.factor))
    every = np.ones(len(e), bool)
    return {name: _matrix(each, every, layout.n_free) for name, each in entries.items()}


def _matrix(entries: list[tuple[IntArray, FloatArray]], usable: npt.NDArray[np.bool_], n_free: int) -> Any:
    """Return a sparse matrix of rows by exposure from (column or -1, value) of each exposure."""
    rows, columns, values = [], [], []
    for column, value in entries:
        chosen = np.flatnonzero(usable & (column >= 0))
        rows.append(chosen)
        columns.append(column[chosen])
        values.append(value[chosen])
    if not entries:
        return sparse.csr_matrix((len(usable), n_free))
    place = (np.concatenate(rows), np.concatenate(columns))
    return sparse.csr_matrix((np.concatenate(values), place), shape=(len(usable), n_free))
