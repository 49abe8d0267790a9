"""What the loader of a star list has to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["CatalogSlope", "FitDataSettings"]


@dataclass(frozen=True)
class CatalogSlope:
    """How a slope of stars' spectra follows from two magnitudes of the catalogue of references.

    Parameters
    ----------
    first, second
        Filters of ``fgcmReferenceStars`` (its ``FILTERNAMES``).
    first_wavelength, second_wavelength
        Of the magnitudes, Angstrom.
    constant
        Factor.
    """

    first: str
    second: str
    first_wavelength: float
    second_wavelength: float
    constant: float = 1.0


@dataclass(frozen=True)
class FitDataSettings:
    """Bands, times, site and cuts of a fit's data.

    Parameters
    ----------
    bands
        Bands, in the order of the second axis of everything that is by star and band.
    filter_bands
        Physical filter -> band (``physicalFilterMap``); empty: what the catalogue of visits says in its metadata.
    latitude
        Of the site, degrees.
    ut_boundary
        A night is the visits with one value of floor(mjd + ut_boundary).
    wash_mjds, epoch_mjds, coating_mjds
        When the optics were washed, a new superstar flat begins, and the mirror was coated; those within the survey count.
    sigma0_phot
        Error that is added in quadrature to that of each observation, magnitudes.
    reserve_fraction
        Part of the stars that is kept out of the fit, where the star list does not say which.
    random_seed
        Of the choice of stars.
    ref_star_sn_min
        Signal-to-noise below which a reference magnitude is not used.
    ref_star_max_frac_use
        Largest part of all stars whose reference magnitudes are used.
    use_psf_fwhm
        Whether aperture corrections follow the seeing (``aperCorrUsePsfFwhm``) instead of ``deltaAper``.
    catalog_slopes
        Band -> how the slope of a star's spectrum follows from the catalogue of references.
    """

    bands: tuple[str, ...]
    latitude: float
    ut_boundary: float
    filter_bands: Mapping[str, str] = field(default_factory=dict)
    wash_mjds: tuple[float, ...] = ()
    epoch_mjds: tuple[float, ...] = ()
    coating_mjds: tuple[float, ...] = ()
    sigma0_phot: float = 0.003
    reserve_fraction: float = 0.1
    random_seed: int = 0
    ref_star_sn_min: float = 50.0
    ref_star_max_frac_use: float = 0.5
    use_psf_fwhm: bool = False
    catalog_slopes: Mapping[str, CatalogSlope] = field(default_factory=dict)

    @classmethod
    def from_config(cls, config: Any) -> FitDataSettings:
        """Return the settings of a fit cycle's configuration.

        Parameters
        ----------
        config
            With the fields of ``FgcmFitCycleConfig``.
        """
        return cls(
            bands=tuple(config.bands),
            latitude=config.latitude,
            ut_boundary=config.utBoundary,
            filter_bands=dict(config.physicalFilterMap),
            wash_mjds=tuple(config.washMjds),
            epoch_mjds=tuple(config.epochMjds),
            coating_mjds=tuple(config.coatingMjds),
            sigma0_phot=config.sigma0Phot,
            reserve_fraction=config.reserveFraction,
            random_seed=config.randomSeed or 0,
            ref_star_sn_min=config.refStarSnMin,
            ref_star_max_frac_use=config.refStarMaxFracUse,
            use_psf_fwhm=config.aperCorrUsePsfFwhm,
            catalog_slopes={
                band: CatalogSlope(
                    each.first, each.second, each.firstWavelength, each.secondWavelength, each.constant
                )
                for band, each in config.catalogSlopes.items()
            },
        )

    @property
    def aperture_column(self) -> Literal["deltaAper", "psfFwhm"]:
        """The visits' column that aperture corrections follow; with ``Detector`` behind it, that of the detectors."""
        return "psfFwhm" if self.use_psf_fwhm else "deltaAper"
