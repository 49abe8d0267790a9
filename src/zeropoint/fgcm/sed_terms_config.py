"""Which colours tell the slope of a star's spectrum in each band: Rubin's names and form.

Burke et al. 2018 (AJ 155, 41), appendix A.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import lsst.pex.config as pexConfig

__all__ = ["Catalogslope", "Sedboundaryterm", "SedboundarytermDict", "Sedterm", "SedtermDict", "sed_terms_of"]

#: Constants of the terms that are in use at LSST: band -> constant, where the band has neighbours on both sides.
_INTERPOLATED = {"g": 1.5, "r": 0.9, "i": 1.1, "z": 1.0}
#: And where it is the first or the last.
_EXTRAPOLATED = {"u": 0.5, "z": 1.0, "y": 1.0}
#: Bands that as the first one have the slope between them and the next times this, as in use at the Subaru telescope: what is
#: extrapolated to g from the red misses the break at 4000 Angstrom.
_FIRST = {"g": 1.6}


class Sedboundaryterm(pexConfig.Config):
    """The slope of the spectrum between two bands, from their colour.

    S = -0.921 (primary - secondary) / (wavelength of primary - wavelength of secondary), per Angstrom.
    """

    primary = pexConfig.Field[str](doc="Band whose magnitude comes first in the colour.")
    secondary = pexConfig.Field[str](doc="Band whose magnitude is subtracted.")


class SedboundarytermDict(pexConfig.Config):
    """Slopes between bands by name."""

    data = pexConfig.ConfigDictField(
        doc="Name, such as gr -> the two bands.", keytype=str, itemtype=Sedboundaryterm, default={}
    )


class Sedterm(pexConfig.Config):
    """The slope F' of the spectrum in a band, from slopes between bands, per Angstrom.

    Interpolated with two terms: F' = constant (primaryTerm + secondaryTerm)/2; with one: F' = constant primaryTerm.
    Extrapolated: F' = primaryTerm + constant (primaryBand - secondaryBand)/(primaryBand - tertiaryBand)
    (primaryTerm - secondaryTerm), where bands stand for their standard wavelengths.
    """

    primaryTerm = pexConfig.Field[str](doc="Name of the first slope.")
    secondaryTerm = pexConfig.Field[str](doc="Name of the second slope.", default=None, optional=True)
    extrapolated = pexConfig.Field[bool](doc="Extrapolate?", default=False)
    constant = pexConfig.Field[float](doc="Factor that adjusts the slope to real spectra.", default=1.0)
    primaryBand = pexConfig.Field[str](doc="Band itself, for extrapolation.", default=None, optional=True)
    secondaryBand = pexConfig.Field[str](doc="Its neighbour, for extrapolation.", default=None, optional=True)
    tertiaryBand = pexConfig.Field[str](
        doc="The neighbour's neighbour, for extrapolation.", default=None, optional=True
    )

    def validate(self) -> None:
        """Check that an extrapolation has what it needs.

        Raises
        ------
        lsst.pex.config.FieldValidationError
            If not; it names the field.
        """
        super().validate()
        if not self.extrapolated:
            return
        for name in ("secondaryTerm", "primaryBand", "secondaryBand", "tertiaryBand"):
            if getattr(self, name) is None:
                raise pexConfig.FieldValidationError(
                    getattr(type(self), name), self, "must be set where extrapolated is True."
                )


class SedtermDict(pexConfig.Config):
    """Slopes in bands."""

    data = pexConfig.ConfigDictField(
        doc="Band -> how its slope is computed.", keytype=str, itemtype=Sedterm, default={}
    )


class Catalogslope(pexConfig.Config):
    """The slope F' of the spectrum in a band, from two magnitudes of the catalogue of references, per Angstrom.

    F' = -0.921 constant (first - second) / (firstWavelength - secondWavelength).
    """

    first = pexConfig.Field[str](doc="Filter of the reference magnitude that comes first in the colour.")
    second = pexConfig.Field[str](doc="Filter of the reference magnitude that is subtracted.")
    firstWavelength = pexConfig.RangeField[float](
        doc="Wavelength of the first, Angstrom.", dtype=float, min=1000.0
    )
    secondWavelength = pexConfig.RangeField[float](
        doc="Wavelength of the second, Angstrom.", dtype=float, min=1000.0
    )
    constant = pexConfig.Field[float](doc="Factor that adjusts the slope to real spectra.", default=1.0)

    def validate(self) -> None:
        """Check that the two wavelengths differ.

        Raises
        ------
        lsst.pex.config.FieldValidationError
            If not.
        """
        super().validate()
        if self.firstWavelength == self.secondWavelength:
            raise pexConfig.FieldValidationError(
                type(self).secondWavelength, self, "must differ from firstWavelength."
            )


def sed_terms_of(bands: Sequence[str]) -> tuple[SedboundarytermDict, SedtermDict]:
    """Return terms for the bands of a survey, from neighbours in wavelength.

    Constants are those of LSST where it has some for the band's place, else 1 (interpolated) or 0.5 (extrapolated).

    Parameters
    ----------
    bands
        In the order of their wavelengths. Of two bands each has the slope between them, one alone has none.

    Returns
    -------
    boundary, terms : SedboundarytermDict, SedtermDict
        As of the fields ``sedboundaryterms`` and ``sedterms``.
    """
    boundary, terms = SedboundarytermDict(), SedtermDict()
    names = [first + second for first, second in pairwise(bands)]
    for name, (first, second) in zip(names, pairwise(bands), strict=True):
        boundary.data[name] = Sedboundaryterm(primary=first, secondary=second)
    last = len(bands) - 1
    for place, band in enumerate(bands):
        if not names:
            continue
        if len(bands) == 2:
            terms.data[band] = Sedterm(primaryTerm=names[0])
        elif place == 0 and band in _FIRST:
            terms.data[band] = Sedterm(primaryTerm=names[0], constant=_FIRST[band])
        elif 0 < place < last:
            constant = _INTERPOLATED.get(band, 1.0)
            terms.data[band] = Sedterm(
                primaryTerm=names[place - 1], secondaryTerm=names[place], constant=constant
            )
        else:
            near, far = (0, 1) if place == 0 else (-1, -2)
            step = 1 if place == 0 else -1
            terms.data[band] = Sedterm(
                primaryTerm=names[near],
                secondaryTerm=names[far],
                extrapolated=True,
                constant=_EXTRAPOLATED.get(band, 0.5),
                primaryBand=band,
                secondaryBand=bands[place + step],
                tertiaryBand=bands[place + 2 * step],
            )
    return boundary, terms
