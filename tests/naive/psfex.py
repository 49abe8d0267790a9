"""Obvious versions of the oversampled pixel-basis fit: dense matrices, one pixel and one star at a time."""

import numpy as np

from naive.psf_solve import lanczos


def dense_matrix(first, step, n_out, n_in, order):
    """Lanczos interpolation at ``first + step i``; the whole kernel of each row sums to 1."""
    out = np.zeros((n_out, n_in))
    for i in range(n_out):
        t = first + i * step
        nodes = np.arange(np.floor(t) - order - 2, np.floor(t) + order + 3)
        out[i] = lanczos(t - np.arange(n_in), order) / lanczos(t - nodes, order).sum()
    return out


def solve(basis, wx, wy, weight, residual, flux, offset, sigma):
    """Return the increment that minimises chi-square plus ``sum ((increment + offset) / sigma)^2``."""
    n, m, grid = len(basis), basis.shape[1], wx.shape[2]
    rows, right = [], []
    for s in range(n):
        draw = np.kron(wy[s], wx[s]) * flux[s]
        root = np.sqrt(weight[s].ravel())
        rows.append(np.concatenate([draw * root[:, None] * basis[s, a] for a in range(m)], axis=1))
        right.append(residual[s].ravel() * root)
    rows.append(np.diag(1.0 / sigma.reshape(-1)))
    right.append(-offset.reshape(-1) / sigma.reshape(-1))
    solution = np.linalg.lstsq(np.concatenate(rows), np.concatenate(right), rcond=None)[0]
    return solution.reshape(m, grid, grid)


def stack(image, sky, slope, flux, dx, dy, basis, grid, scale, order, accuracy, ridge):
    """Return the polynomial of each model pixel on its own, of stars without bad pixels."""
    n, side, _ = image.shape
    m = basis.shape[1]
    value, weight = np.zeros((n, grid, grid)), np.zeros((n, grid, grid))
    for s in range(n):
        wx = dense_matrix(side // 2 + dx[s] - (grid // 2) * scale, scale, grid, side, order) * scale
        wy = dense_matrix(side // 2 + dy[s] - (grid // 2) * scale, scale, grid, side, order) * scale
        value[s] = wy @ (image[s] / flux[s]) @ wx.T
        for i in range(grid):
            for j in range(grid):
                y = np.floor((i - grid // 2) * scale + dy[s] + 0.5) + side // 2
                x = np.floor((j - grid // 2) * scale + dx[s] + 0.5) + side // 2
                light = max(value[s, i, j] * flux[s] / scale**2, 0.0)
                if 0 <= x < side and 0 <= y < side:
                    weight[s, i, j] = flux[s] ** 2 / (sky[s] + slope[s] * light + (accuracy * light) ** 2)
    out = np.zeros((m, grid, grid))
    for i in range(grid):
        for j in range(grid):
            w = weight[:, i, j]
            out[:, i, j] = np.linalg.solve(
                (basis * w[:, None]).T @ basis + ridge * np.eye(m), (basis * w[:, None]).T @ value[:, i, j]
            )
    return out


def clip_limit(chi):
    """Median + 3 standard deviations, iterated."""
    kept, sigma = np.asarray(chi), np.inf
    for _ in range(100):
        centre, old = np.median(kept), sigma
        sigma = np.sqrt(np.mean((kept - centre) ** 2))
        limit = centre + 3 * max(sigma, 0.1)
        if sigma < 0.1 or abs(old - sigma) < 1e-4 * sigma:
            return limit
        kept = np.array([c for c in chi if abs(c - centre) <= 3 * sigma])
    return limit
