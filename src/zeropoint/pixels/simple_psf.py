"""A round Gaussian PSF to begin with, before any star is known."""

from __future__ import annotations

import logging
import math

import lsst.pex.config as pexConfig

from zeropoint.datamodel.catalog import Schema
from zeropoint.datamodel.exposure import Exposure
from zeropoint.datamodel.psf_model import GaussianPsf
from zeropoint.errors import PsfGenerationError

__all__ = ["FWHM_TO_SIGMA", "InstallGaussianPsf", "InstallGaussianPsfConfig"]

_LOG = logging.getLogger(__name__)

#: Standard deviation of a Gaussian over its full width at half maximum.
FWHM_TO_SIGMA = 1.0 / (2.0 * math.sqrt(2.0 * math.log(2.0)))


class InstallGaussianPsfConfig(pexConfig.Config):
    """The Gaussian used when the exposure has no PSF yet."""

    fwhm = pexConfig.Field(
        dtype=float,
        default=1.5 / FWHM_TO_SIGMA,
        doc="Full width at half maximum, pixels, if there is no PSF.",
    )
    width = pexConfig.RangeField(
        dtype=int, default=11, min=1, doc="Side of the PSF stamp, pixels, odd, if there is no PSF."
    )

    def validate(self) -> None:
        """Check that the stamp has a central pixel."""
        super().validate()
        if self.width % 2 == 0:
            raise pexConfig.FieldValidationError(
                type(self).width, self, f"The stamp must have an odd side, not {self.width}."
            )


class InstallGaussianPsf:
    """Attach a Gaussian PSF to an exposure, in place."""

    ConfigClass = InstallGaussianPsfConfig

    def __init__(
        self, config: InstallGaussianPsfConfig | None = None, *, schema: Schema | None = None
    ) -> None:
        self.config = InstallGaussianPsfConfig() if config is None else config

    def run(self, exposure: Exposure) -> GaussianPsf:
        """Set ``exposure.psf`` in place to a Gaussian of the present PSF's size, or of the configured one.

        Raises
        ------
        PsfGenerationError
            If the present PSF has no finite positive size; metadata: psf_size.
        """
        if exposure.psf is None:
            sigma, size, center = self.config.fwhm * FWHM_TO_SIGMA, self.config.width, (0.0, 0.0)
        else:
            psf = exposure.psf
            sigma, size, center = psf.sigma(), psf.size, psf.average_position
        if not (math.isfinite(sigma) and sigma > 0):
            raise PsfGenerationError(
                f"The PSF's size is {sigma} pixels, so no Gaussian can replace it.", psf_size=float(sigma)
            )
        exposure.psf = GaussianPsf(sigma, size, center)
        _LOG.debug("Installed a Gaussian PSF of sigma %.3f on %d x %d pixels.", sigma, size, size)
        return exposure.psf
