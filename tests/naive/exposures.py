"""Small exposures and PSFs for tests."""

import numpy as np
from scipy.special import erf

from zeropoint.datamodel.exposure import Amplifier, DetectorInfo, Exposure, VisitInfo
from zeropoint.datamodel.psf_model import GaussianPsf, PsfModel


def exposure(image, variance=None, mask=None, psf=None, mjd=60000.0):
    image = np.array(image, np.float32)
    height, width = image.shape
    return Exposure(
        image,
        np.ones(image.shape, np.float32) if variance is None else np.array(variance, np.float32),
        np.zeros(image.shape, np.int32) if mask is None else np.array(mask, np.int32),
        DetectorInfo("test", "d", 0, width, height, (Amplifier("a", (0, 0, width - 1, height - 1)),)),
        VisitInfo(1, 15.0, mjd, "r_03", "r"),
        psf=psf if psf is not None else GaussianPsf(1.7, 11),
    )


def pixel_gaussian(sigma, dx, dy, half):
    """Return a Gaussian integrated over pixels, center (dx, dy) from the middle pixel."""
    k = np.arange(-half, half + 1)
    fx, fy = (
        0.5 * (erf((k - d + 0.5) / (sigma * 2**0.5)) - erf((k - d - 0.5) / (sigma * 2**0.5)))
        for d in (dx, dy)
    )
    return fy[:, None] * fx


class FixedPsf(PsfModel):
    """A PSF given by its kernel image."""

    def __init__(self, image):
        self.image, self.size, self.average_position = image, image.shape[0], (0.0, 0.0)

    def star_stamps(self, *, x, y):
        raise NotImplementedError

    def kernel_stamps(self, *, x, y):
        return np.repeat(self.image[None], len(x), axis=0)
