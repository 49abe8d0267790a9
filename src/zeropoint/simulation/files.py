"""Simulated exposures as the files a user would have: a FITS image in ADU and a reference table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.time import Time

from zeropoint.simulation.exposures import SimulatedExposure

__all__ = ["write_image", "write_simulation"]


def write_simulation(
    simulated: SimulatedExposure, directory: str | Path, stem: str = "simulated"
) -> tuple[Path, Path]:
    """Write ``<stem>.fits`` and ``<stem>_references.fits``, readable with the built-in ``simcam`` card.

    Parameters
    ----------
    simulated
        The exposure.
    directory
        Folder, made if absent.
    stem
        File stem.

    Returns
    -------
    image, references
        The paths written.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    references_path = folder / f"{stem}_references.fits"
    simulated.references.write(references_path, overwrite=True)
    return write_image(simulated, folder / f"{stem}.fits"), references_path


def write_image(simulated: SimulatedExposure, path: Path) -> Path:
    """Write a simulated image, readable with the built-in ``simcam`` card; return its path."""
    s, exposure = simulated.settings, simulated.exposure
    assert exposure.wcs is not None
    info = exposure.visit_info
    header = fits.Header()
    header["INSTRUME"] = (s.instrument, "simulated camera")
    header["DETECTOR"] = (s.detector, "detector number")
    header["FPX"], header["FPY"] = exposure.detector.center_mm
    header.comments["FPX"] = header.comments["FPY"] = "[mm] detector's center in the focal plane"
    header["VISIT"] = (s.visit, "visit number")
    header["EXPID"] = (info.exposure, "exposure number")
    header["OBJECT"] = info.object_name
    header["FILTER"] = (info.physical_filter, "physical filter")
    header["EXPTIME"] = (s.exposure_time, "[s]")
    header["GAIN"] = (s.gain, "[e-/ADU]")
    header["RDNOISE"] = (s.read_noise_electrons, "[e-]")
    header["SATURATE"] = (s.full_well_electrons / s.gain, "[ADU]")
    header["AIRMASS"] = info.airmass
    header["DATE-OBS"] = (
        Time(info.mjd_tai, format="mjd", scale="tai").utc.isot,
        "UTC, middle of the exposure",
    )
    header["RA"], header["DEC"] = s.ra_deg, s.dec_deg
    header["BUNIT"] = "adu"
    header.update(exposure.wcs.to_astropy(exposure.shape).to_header(relax=True))
    image = fits.PrimaryHDU((exposure.image / s.gain).astype(np.float32), header)
    mask = fits.ImageHDU(exposure.mask, name="MASK")
    variance = fits.ImageHDU((exposure.variance / s.gain**2).astype(np.float32), name="VARIANCE")
    fits.HDUList([image, mask, variance]).writeto(path, overwrite=True)
    return path
