"""Obvious version of the joint solve: the whole design matrix, least squares."""

import numpy as np


def lanczos(t, n):
    """Windowed sinc."""
    return np.where(np.abs(t) < n, np.sinc(t) * np.sinc(t / n), 0.0)


def interpolation_matrix(offset, side, grid, scale, order):
    """Rows: stamp pixels; columns: model pixels."""
    out = np.zeros((side, grid))
    for i in range(side):
        t = (i - side // 2 - offset) / scale + grid // 2
        nodes = np.arange(np.floor(t) - order - 2, np.floor(t) + order + 3)
        out[i] = lanczos(t - np.arange(grid), order) / lanczos(t - nodes, order).sum() / scale
    return out


def solve_increment(basis, wx, wy, pixel_weight, residual, flux):
    """Return the least-squares increment, shape (m, grid, grid)."""
    n, _, grid = wx.shape
    m = basis.shape[1]
    rows, right = [], []
    for s in range(n):
        draw = np.kron(wy[s], wx[s]) * flux[s]  # (side^2, grid^2)
        root = np.sqrt(pixel_weight[s].ravel())
        rows.append(np.concatenate([draw * root[:, None] * basis[s, a] for a in range(m)], axis=1))
        right.append(residual[s].ravel() * root)
    solution = np.linalg.lstsq(np.concatenate(rows), np.concatenate(right), rcond=None)[0]
    return solution.reshape(m, grid, grid)
