"""Simulated cosmic rays: straight tracks of charge, sharper than any star."""

from __future__ import annotations

import numpy as np

__all__ = ["add_cosmic_rays"]


def add_cosmic_rays(image: np.ndarray, n_events: int, rng: np.random.Generator) -> np.ndarray:
    """Add cosmic-ray charge to an image in place and return the event number of each pixel.

    Parameters
    ----------
    image : float64, shape (h, w)
        Electrons; modified.
    n_events
        Number of events.
    rng
        Random generator.

    Returns
    -------
    events : int32, shape (h, w)
        0, or 1 + the number of the (last) event that left charge in the pixel.
    """
    height, width = image.shape
    events = np.zeros(image.shape, np.int32)
    for k in range(n_events):
        length = 0.5 + rng.exponential(5.0)
        angle = rng.uniform(0, np.pi)
        charge_per_pixel = 250.0 * 10.0 ** rng.uniform(0.0, 1.3)
        x0, y0 = rng.uniform(2, width - 3), rng.uniform(2, height - 3)
        n = max(int(length * 10), 4)
        t = (np.arange(n) + 0.5) / n * length
        px = np.floor(x0 + t * np.cos(angle) + rng.normal(0, 0.15, n) + 0.5).astype(int)
        py = np.floor(y0 + t * np.sin(angle) + rng.normal(0, 0.15, n) + 0.5).astype(int)
        inside = (px >= 0) & (px < width) & (py >= 0) & (py < height)
        px, py = px[inside], py[inside]
        np.add.at(image, (py, px), charge_per_pixel * max(length, 1.0) / n * rng.gamma(4.0, 0.25, len(px)))
        events[py, px] = k + 1
    return events
