"""Between which values quantities lie, and in which other unit a value that does not may be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["LIMITS", "Limits"]


@dataclass(frozen=True)
class Limits:
    """Values that a quantity can have.

    Parameters
    ----------
    least, greatest
        In ``unit``.
    unit
        Of the values; empty for plain numbers.
    mistaken
        What is taken for it: its name, and what turns its values into those of the quantity (factor, then summand).
    """

    least: float
    greatest: float
    unit: str = ""
    mistaken: tuple[tuple[str, float, float], ...] = ()

    def wrong(self, values: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Return which values are out of the limits; those that are not known (NaN) are not."""
        given = np.asarray(values, np.float64)
        return (given < self.least) | (given > self.greatest)

    def told(self, value: float) -> str:
        """Return the end of a sentence that says what is wrong with a value: the limits, and what it may be instead."""
        likely = [
            name
            for name, factor, summand in self.mistaken
            if np.isfinite(value) and not self.wrong(value * factor + summand)
        ]
        limits = f"{self.least:g} and {self.greatest:g} {self.unit}".rstrip()
        return limits + (f"; it looks like {likely[0]}" if likely else "")


#: Quantity -> its limits.
LIMITS = {
    "pmb": Limits(
        100.0, 1200.0, "mbar", (("Pa (100 for 1 mbar)", 0.01, 0.0), ("kPa (0.1 for 1 mbar)", 10.0, 0.0))
    ),
    "mjd": Limits(0.0, 100_000.0, "d", (("a Julian date, which is MJD + 2400000.5", 1.0, -2_400_000.5),)),
    "airmass": Limits(0.999, 40.0),
    "ra": Limits(-360.0, 720.0, "deg"),
    "dec": Limits(-90.0, 90.0, "deg"),
    "hour_angle": Limits(-360.0, 360.0, "deg"),
    "latitude": Limits(-90.0, 90.0, "degrees"),
    "longitude": Limits(-360.0, 360.0, "degrees"),
    "elevation": Limits(-500.0, 9000.0, "m"),
}
