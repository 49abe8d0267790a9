"""What is simulated: one frozen record of numbers."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FieldPlace", "SimulationSettings"]

#: How FWHM, e1 and e2 of the PSF follow (u, v, u^2, u v, v^2), u and v from -1 to 1 over the field.
_PSF_PATTERN = ((0.4, -0.25, 0.5, 0.3, 0.2), (0.5, 0.0, 0.0, -0.2, 0.3), (0.0, -0.4, -0.2, 0.3, 0.0))


@dataclass(frozen=True)
class FieldPlace:
    """Where a detector lies in the field of its camera.

    Parameters
    ----------
    x, y
        Pixel position of the boresight, usually outside of the detector.
    half
        Half the side of the field, pixels: distortion and PSF follow the place in the field in this unit.
    """

    x: float
    y: float
    half: float


@dataclass(frozen=True)
class SimulationSettings:
    """Parameters of one simulated exposure.

    Parameters
    ----------
    width, height
        Pixels.
    pixel_scale
        Arcsec per pixel at the centre.
    fwhm_arcsec
        PSF full width at half maximum at the centre.
    moffat_beta
        Wing slope of the Moffat PSF.
    psf_variation
        Relative change of the FWHM towards a corner (a quadratic of position); the ellipticity changes by the
        same amount.
    psf_pattern
        The quadratics: coefficients of u, v, u^2, u v and v^2 for FWHM, e1 and e2, in units of `psf_variation`.
    psf_ellipticity
        Ellipticity (distortion) at the centre, e1; e2 is half of it.
    pixel_response
        False: the Moffat is the effective PSF, pixel included. True: it is convolved with the pixel.
    sky_electrons, read_noise_electrons, gain, full_well_electrons
        Sky per pixel, read noise, e-/ADU and saturation.
    sky_gradient
        Relative change of the sky across the image.
    exposure_time
        Seconds.
    zeropoint
        AB magnitude of a star all of whose light gives one electron over the exposure. A calibrated zeropoint counts the
        light inside the calibration aperture (12 pixels) only: it is lower by the light outside, about 5 mmag with the
        default PSF (`SimulatedExposure.aperture_zeropoint`).
    n_stars
        Stars placed in the image, down to `magnitude_faint`.
    magnitude_bright, magnitude_faint, magnitude_slope
        ``N(m) ~ 10^(slope m)`` between the limits.
    n_cosmic_rays
        Events.
    reference_limit
        Faintest magnitude in the reference catalogue.
    reference_position_error_mas, reference_magnitude_error
        Errors put on the reference catalogue (per axis; one band).
    wcs_offset_arcsec, wcs_rotation_deg
        How far the header's WCS is from the truth.
    distortion_pixels
        Cubic optical distortion at the corner; known to the header's WCS.
    rotation_deg
        Position angle of the +y axis.
    ra_deg, dec_deg, band, visit, detector, seed
        Where the boresight points, what, and the random seed.
    instrument
        Name of the camera.
    field
        Place of the detector in the field; None: the detector is the field.
    exposure
        Exposure number; negative: the visit's.
    snap
        Number of the snap: snaps of one seed show one scene with noise and cosmic rays of their own.
    mjd_tai
        Middle of the exposure, MJD in TAI.
    """

    width: int = 2048
    height: int = 2048
    pixel_scale: float = 0.2
    fwhm_arcsec: float = 0.8
    moffat_beta: float = 3.5
    psf_variation: float = 0.06
    psf_pattern: tuple[tuple[float, ...], ...] = _PSF_PATTERN
    psf_ellipticity: float = 0.03
    pixel_response: bool = False
    sky_electrons: float = 600.0
    read_noise_electrons: float = 7.0
    gain: float = 1.6
    full_well_electrons: float = 80000.0
    sky_gradient: float = 0.02
    exposure_time: float = 30.0
    zeropoint: float = 31.8
    n_stars: int = 1900
    magnitude_bright: float = 16.0
    magnitude_faint: float = 25.5
    magnitude_slope: float = 0.22
    n_cosmic_rays: int = 120
    reference_limit: float = 21.5
    reference_position_error_mas: float = 5.0
    reference_magnitude_error: float = 0.01
    wcs_offset_arcsec: float = 3.0
    wcs_rotation_deg: float = 0.05
    distortion_pixels: float = 5.0
    rotation_deg: float = 12.0
    ra_deg: float = 150.1
    dec_deg: float = 2.2
    band: str = "r"
    visit: int = 20261120
    detector: int = 0
    seed: int = 1
    exposure: int = -1
    snap: int = 0
    mjd_tai: float = 61000.25
    instrument: str = "SimCam"
    field: FieldPlace | None = None

    def field_coordinates(self, x: float, y: float) -> tuple[float, float]:
        """Return a pixel position in the field, from -1 to 1 on either axis."""
        if self.field is None:
            return 2.0 * x / self.width - 1.0, 2.0 * y / self.height - 1.0
        return (x - self.field.x) / self.field.half, (y - self.field.y) / self.field.half
