"""Configuration of how observations are matched into unique stars."""

from __future__ import annotations

from typing import ClassVar

import lsst.pex.config as pexConfig

__all__ = ["StarMatchingConfig"]


def _is_nside(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


class StarMatchingConfig(pexConfig.Config):
    """Which observations are one star, and which stars are kept."""

    #: Whether stars are sought, for which there must be primary bands; False where they are known.
    seeks_stars: ClassVar[bool] = True

    primaryBands = pexConfig.ListField[str](
        default=None,
        optional=True,
        doc="Bands in order of preference in which stars are sought: a star's position comes from the first in which it "
        "was seen minPerBand times. Must be set.",
    )
    requiredBands = pexConfig.ListField[str](
        default=(), doc="A star needs minPerBand observations in each of these bands; none: no such need."
    )
    minPerBand = pexConfig.RangeField[int](
        default=2,
        min=1,
        doc="Least number of observations of a star in a primary band, and in each required band.",
    )
    matchRadius = pexConfig.RangeField[float](
        default=1.0,
        min=1e-3,
        max=3600.0,
        doc="Observations within this radius of a star are its own, arcsec.",
    )
    isolationRadius = pexConfig.RangeField[float](
        default=2.0,
        min=1e-3,
        max=3600.0,
        doc="Stars with another star within this radius are dropped, both of them, arcsec.",
    )
    max_duplicate_fraction = pexConfig.RangeField[float](
        default=0.1,
        min=0.0,
        max=1.0,
        inclusiveMax=True,
        doc="Stars that more than this fraction of their visits saw twice are blends and dropped; of other stars the "
        "observation nearest to the star counts. Has no effect with the matcher fgcm.",
    )
    matcher = pexConfig.ChoiceField[str](
        default="components",
        allowed={
            "components": "Chains of observations within matchRadius of the next, split where they are wider than a star "
            "can be. Does not depend on the order of the observations.",
            "fgcm": "The rule of the fgcm package, for comparison: observations in the order of the table found stars "
            "with all their neighbors, in each HEALPix pixel of coarseNside by itself.",
        },
        doc="How the observations of a primary band are grouped into stars.",
    )
    coarseNside = pexConfig.Field[int](
        default=8,
        check=_is_nside,
        doc="HEALPix nside of the pixels in which reference stars are loaded, and (RING) in which the matcher fgcm works.",
    )
    matchNside = pexConfig.Field[int](
        default=4096,
        check=_is_nside,
        doc="HEALPix nside of the reference's fast matcher. Has no effect here; it is for override files that set it.",
    )
    densityCutNside = pexConfig.Field[int](
        default=128, check=_is_nside, doc="HEALPix nside (RING) of the pixels in which stars are counted."
    )
    densityCutMaxPerPixel = pexConfig.RangeField[int](
        default=1000, min=1, doc="Most stars to keep in a pixel; of more, a random choice is dropped."
    )
    randomSeed = pexConfig.Field[int](
        default=123456,
        optional=True,
        doc="Seed of the choice of stars where they are too dense; None counts as 0, so that results repeat.",
    )

    def validate(self) -> None:
        """Check each field, and how they go together."""
        super().validate()
        self.check_matching()

    def check_matching(self) -> None:
        """Check that there are primary bands, that names occur once, and that the radii are in order.

        Raises
        ------
        lsst.pex.config.FieldValidationError
            If not; the message names the field.
        """
        cls = type(self)
        if self.seeks_stars and not self.primaryBands:
            raise pexConfig.FieldValidationError(
                cls.primaryBands,
                self,
                "no band is given; name those in which stars are sought, the best first.",
            )
        for field, names in (
            (cls.primaryBands, self.primaryBands or ()),
            (cls.requiredBands, self.requiredBands),
        ):
            if len(set(names)) < len(names):
                raise pexConfig.FieldValidationError(field, self, "a band is listed twice.")
        if self.isolationRadius < self.matchRadius:
            raise pexConfig.FieldValidationError(
                cls.isolationRadius,
                self,
                f"isolationRadius ({self.isolationRadius:g}) must not be below matchRadius ({self.matchRadius:g}): "
                "observations would match several stars.",
            )
