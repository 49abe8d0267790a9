"""Derivatives of the nodes of a fit (exposures, and constants of superstar flats) by its free parameters.

An exposure depends on few parameters: those of its night, of its band, and its own.  So rows are kept as columns and
values, as many for each exposure, and become matrices of only those parameters that a band depends on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from zeropoint.fgcm.fit.nodes import Nodes

__all__ = ["Derivatives", "NodeDerivatives"]

FloatArray = npt.NDArray[np.float64]
IndexArray = npt.NDArray[np.int64]
type Matrix = FloatArray | Any
#: Numbers of a matrix up to which it is quicker to multiply with its zeros.
_DENSE = 200_000


@dataclass(frozen=True)
class Derivatives:
    """Derivatives of the magnitudes of exposures and of the constants of superstar flats by the n free parameters.

    Parameters
    ----------
    columns : int64, shape (n_exp, m)
        Parameters that an exposure depends on, each once; -1: none.
    gray, chromatic : float64, shape (n_exp, m)
        Derivatives by them of A, and of I10 in Angstrom: means over the detectors of an exposure.
    own : int64, shape (n_exp,)
        One more parameter, which is added to A; -1: none.
    flat_columns : int64, shape (n_flats, k)
        The same as ``columns`` of detectors, relative to their exposures; in the row of each free superstar constant, whose
        own parameter has the number of the row.
    flat_gray, flat_chromatic : float64, shape (n_flats, k)
        Derivatives by them.
    """

    columns: IndexArray
    gray: FloatArray
    chromatic: FloatArray
    own: IndexArray
    flat_columns: IndexArray
    flat_gray: FloatArray
    flat_chromatic: FloatArray

    @classmethod
    def of(cls, gray: FloatArray, chromatic: FloatArray) -> Derivatives:
        """Return derivatives where detectors differ by their superstar constants only.

        Parameters
        ----------
        gray, chromatic : float64, shape (n_exp, n_free)
            Of the exposures.
        """
        n_exp, n = gray.shape
        none = np.zeros((n, 0))
        every = np.broadcast_to(np.arange(n), gray.shape)
        return cls(every, gray, chromatic, np.full(n_exp, -1, np.int64), none.astype(np.int64), none, none)

    def rows(self) -> tuple[IndexArray, FloatArray, FloatArray]:
        """Return columns, and derivatives of A and I10, of all exposures and then all flats, own parameters among them."""
        n_exp, n_flats = len(self.columns), len(self.flat_columns)
        width = 1 + max(self.columns.shape[1], self.flat_columns.shape[1])
        columns = np.full((n_exp + n_flats, width), -1, np.int64)
        gray, chromatic = np.zeros((2, n_exp + n_flats, width))
        columns[:, 0] = np.concatenate([self.own, np.arange(n_flats)])
        gray[:, 0] = 1.0
        for of, *values in (
            (slice(n_exp), self.columns, self.gray, self.chromatic),
            (slice(n_exp, None), self.flat_columns, self.flat_gray, self.flat_chromatic),
        ):
            for out, given in zip((columns, gray, chromatic), values, strict=True):
                out[of, 1 : 1 + given.shape[1]] = given
        return columns, gray, chromatic


@dataclass(frozen=True)
class NodeDerivatives:
    """Derivatives of the magnitudes of a band's nodes by the free parameters.

    Parameters
    ----------
    columns : int64, shape (k,)
        Parameters that the band depends on.
    gray : dense or sparse, shape (nodes, k)
        Of A: the same for all stars.
    chromatic : dense or sparse, shape (nodes, k)
        Of I10, Angstrom: times the color coefficient of a star it is in magnitudes.
    own : int64, shape (nodes,)
        Parameter of each node that is added to its A; -1: none.
    """

    columns: IndexArray
    gray: Matrix
    chromatic: Matrix
    own: IndexArray

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
        of_exposures, of_flats = d.columns[nodes.exposures], d.flat_columns[nodes.flats]
        chosen = (of_exposures >= 0, of_flats >= 0)
        row = np.concatenate([np.nonzero(chosen[0])[0], np.nonzero(chosen[1])[0] + len(nodes.exposures)])
        columns, place = np.unique(
            np.concatenate([of_exposures[chosen[0]], of_flats[chosen[1]]]), return_inverse=True
        )
        shape = (len(nodes), len(columns))

        def matrix(by_exposure: FloatArray, by_flat: FloatArray) -> Matrix:
            values = np.concatenate(
                [by_exposure[nodes.exposures][chosen[0]], by_flat[nodes.flats][chosen[1]]]
            )
            if np.prod(shape) > _DENSE:
                return sparse.csr_matrix((values, (row, place)), shape=shape)
            out = np.zeros(shape)
            out[row, place] = values
            return out

        return cls(
            columns.astype(np.int64),
            matrix(d.gray, d.flat_gray),
            matrix(d.chromatic, d.flat_chromatic),
            np.concatenate([d.own[nodes.exposures], nodes.flats]),
        )

    def times(self, root: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return the products of the derivatives of A and of I10 with a matrix, each of shape (nodes, r).

        Parameters
        ----------
        root : float64, shape (n_free, r)
            The matrix.
        """
        rows = root[self.columns]
        gray = np.asarray(self.gray @ rows)
        known = self.own >= 0
        gray[known] += root[self.own[known]]
        return gray, np.asarray(self.chromatic @ rows)
