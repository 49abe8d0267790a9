"""Passband integrals and the reference's interpolation, one number at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence


def simpson(x: Sequence[float], y: Sequence[float]) -> float:
    """Integrate by parabolas through three points each; an odd number of equidistant points."""
    step = x[1] - x[0]
    total = 0.0
    for k in range(0, len(x) - 2, 2):
        total += step / 3.0 * (y[k] + 4.0 * y[k + 1] + y[k + 2])
    return total


def integrals(
    wavelength: Sequence[float], throughput: Sequence[float], transmission: Sequence[float], lambda_std: float
) -> tuple[float, float, float]:
    """Return I0, I1 and I2."""
    out = []
    for order in range(3):
        values = [
            t * a * (lam - lambda_std) ** order / lam
            for lam, t, a in zip(wavelength, throughput, transmission, strict=True)
        ]
        out.append(simpson(wavelength, values))
    return out[0], out[1], out[2]


def interpolated(
    axes: dict[str, Sequence[float]],
    tables: dict[str, object],
    place: dict[str, float],
    *,
    newton: bool,
) -> float:
    """Interpolate one table at one place by the reference's rule.

    ``tables`` holds nested lists ``value`` and, under each axis' name, its forward differences over the step.
    """
    names = list(axes)
    node, rest, step = {}, {}, {}
    for name in names:
        nodes = axes[name]
        step[name] = (nodes[-1] - nodes[0]) / (len(nodes) - 1)
        node[name] = min(max(math.floor((place[name] - nodes[0]) / step[name]), 0), len(nodes) - 1)
        rest[name] = place[name] - nodes[node[name]]

    def at(table: str, **shift: int) -> float:
        value = tables[table]
        for name in names:
            value = value[min(node[name] + shift.get(name, 0), len(axes[name]) - 1)]  # type: ignore[index]
        return float(value)  # type: ignore[arg-type]

    total = at("value") + sum(rest[name] * at(name) for name in names)
    for name in ("ln_tau", "ln_pwv"):
        change = at(name, secant=1) - at(name)
        total += rest[name] * rest["secant"] * change / step["secant"]
    second = rest["ln_pwv"] * (rest["ln_pwv"] - step["ln_pwv"]) * (at("ln_pwv", ln_pwv=1) - at("ln_pwv"))
    return total + (second / (2.0 * step["ln_pwv"]) if newton else second)
