"""The PSF fits that are compared: our determiners, Piff itself, and Debian's PSFEx as a program."""

from __future__ import annotations

import importlib
import resource
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from psf_samples import Sample

from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.datamodel.psf_model import PixelGridPsf, PsfModel
from zeropoint.psf.candidates import PsfCandidates
from zeropoint.psf.quality import BAD_PLANES
from zeropoint.psf.registry import psfDeterminerRegistry

__all__ = ["METHODS", "TITLES", "Fit", "available", "fit"]

METHODS = ("native", "psfex", "pca", "Piff", "PSFEx")
TITLES = {
    "native": "`piff`, native solver",
    "psfex": "`psfex`",
    "pca": "`pca`",
    "Piff": "Piff itself",
    "PSFEx": "PSFEx (program)",
}
#: Where determiners register themselves.
_MODULES = {
    "native": "zeropoint.psf.piff_determiner",
    "Piff": "zeropoint.psf.piff_determiner",
    "psfex": "zeropoint.psf.psfex_determiner",
    "pca": "zeropoint.psf.pca_determiner",
}
#: PSFEx takes vignette pixels at or below this as bad.
_BAD_VIGNETTE = -1e30


@dataclass(frozen=True)
class Fit:
    """A model, the CPU seconds and the MiB it took, and how many stars shaped it."""

    psf: PsfModel
    cpu: float
    memory: float
    used: int


def available(method: str) -> bool:
    """Say whether a method can be run here."""
    if method == "PSFEx":
        from shutil import which

        return which("psfex") is not None
    return importlib.util.find_spec(_MODULES[method]) is not None


def _memory_kib(field: str) -> int:
    """Return a line of /proc/self/status in KiB (Linux)."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field))


def _reset_peak() -> int:
    """Set the process's peak memory to its present memory, and return that in KiB."""
    with open("/proc/self/clear_refs", "w") as control:
        control.write("5")
    return _memory_kib("VmRSS")


def fit(method: str, sample: Sample) -> Fit:
    """Fit the stars of a sample that are not reserved."""
    candidates = sample.candidates.take(~sample.reserved)
    if method == "PSFEx":
        return _program(candidates, sample)
    importlib.import_module(_MODULES[method])
    name = "piff" if method in ("native", "Piff") else method
    determiner_class = psfDeterminerRegistry[name]
    config = determiner_class.ConfigClass()
    if method == "Piff":
        import galsim  # noqa: F401
        import piff  # noqa: F401

        config.solver = "piff"
    config.validate()
    determiner = determiner_class(config)
    if method != "Piff":  # compile, or load, every kernel before the clock starts
        determiner.determine_psf(sample.exposure, candidates)
    before, clock = _reset_peak(), time.process_time()
    result = determiner.determine_psf(sample.exposure, candidates)
    cpu = time.process_time() - clock
    return Fit(result.psf, cpu, (_memory_kib("VmHWM") - before) / 1024, int(result.used.sum()))


# -- Debian's PSFEx -----------------------------------------------------------------------------------------


def _aperture(
    image: np.ndarray, variance: np.ndarray, bad: np.ndarray, radius: float
) -> tuple[np.ndarray, ...]:
    """Return sums in a circle around the middle pixel, bad pixels replaced by those opposite, and their errors."""
    half = image.shape[1] // 2
    r = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1])
    filled = np.where(bad, np.where(bad[:, ::-1, ::-1], 0.0, image[:, ::-1, ::-1]), image)
    inside = r <= radius
    return filled[:, inside].sum(axis=1), np.sqrt(np.where(bad, 0.0, variance)[:, inside].sum(axis=1))


def _half_light_radius(image: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Return the radius of half the light, pixels, of the sum in growing circles (interpolated)."""
    half = image.shape[1] // 2
    r = np.hypot(*np.mgrid[-half : half + 1, -half : half + 1]).ravel()
    order = np.argsort(r, kind="stable")
    inner = order[r[order] <= 10.0]
    growth = np.cumsum(np.where(bad, 0.0, image).reshape(len(image), -1)[:, inner], axis=1)
    share = growth / growth[:, -1:]
    area = np.sqrt(np.arange(1, len(inner) + 1) / np.pi)
    return np.array([np.interp(0.5, np.maximum.accumulate(s), area) for s in share])


def _write_catalogue(path: Path, candidates: PsfCandidates, sample: Sample) -> float:
    """Write the stars as SExtractor would (FITS_LDAC); return their typical FWHM, pixels."""
    bad = candidates.bad(bitmask(BAD_PLANES))
    image = candidates.image.astype(np.float64)
    radius = _half_light_radius(image, bad)
    fwhm = 2.0 * float(np.median(radius))
    flux, error = _aperture(image, candidates.variance, bad, max(4.0, 2.0 * fwhm))
    n, side, _ = image.shape
    vignette = np.where(bad, _BAD_VIGNETTE, image).astype(np.float32)
    sky = float(np.median(candidates.variance[~bad]))
    header = fits.Header()
    height, width = sample.exposure.shape
    for key, value in (
        ("SIMPLE", True), ("BITPIX", -32), ("NAXIS", 2), ("NAXIS1", width), ("NAXIS2", height), ("EXTEND", True),
        ("SEXBKDEV", np.sqrt(sky)), ("SEXBKGND", 0.0), ("SEXGAIN", 1.0), ("GAIN", 1.0), ("SATURATE", 1e9),
        ("EXPTIME", 30.0), ("FITSFILE", "stars.fits"), ("FITSEXT", 1), ("FITSNEXT", 1), ("SEXNDET", n), ("SEXNFIN", n),
    ):  # fmt: skip
        header[key] = value
    cards = header.tostring(endcard=True, padding=True)
    columns = [
        fits.Column("NUMBER", "1J", array=np.arange(1, n + 1)),
        fits.Column("X_IMAGE", "1D", array=candidates.x + 1.0),
        fits.Column("Y_IMAGE", "1D", array=candidates.y + 1.0),
        fits.Column("FLUX_APER", "1E", array=flux),
        fits.Column("FLUXERR_APER", "1E", array=error),
        fits.Column("FLUX_RADIUS", "1E", array=radius),
        fits.Column("ELONGATION", "1E", array=np.ones(n)),
        fits.Column("SNR_WIN", "1E", array=flux / error),
        fits.Column("FLAGS", "1I", array=np.zeros(n, np.int16)),
        fits.Column("VIGNET", f"{side * side}E", dim=f"({side}, {side})", array=vignette),
    ]
    head = fits.BinTableHDU.from_columns(
        [fits.Column("Field Header Card", f"{len(cards)}A", array=np.array([cards]))], name="LDAC_IMHEAD"
    )
    head.header["TDIM1"] = f"(80, {len(cards) // 80})"
    objects = fits.BinTableHDU.from_columns(columns, name="LDAC_OBJECTS")
    fits.HDUList([fits.PrimaryHDU(), head, objects]).writeto(path)
    # astropy fills strings with zeros, PSFEx wants the spaces of a FITS header
    content = path.read_bytes()
    at = content.index(cards.rstrip().encode())
    path.write_bytes(content[:at] + cards.encode() + content[at + len(cards) :])
    return fwhm


def _program(candidates: PsfCandidates, sample: Sample) -> Fit:
    """Run PSFEx with its defaults (automatic sampling), all stars admitted, degree 2."""
    with tempfile.TemporaryDirectory() as folder:
        fwhm = _write_catalogue(Path(folder) / "stars.cat", candidates, sample)
        # its automatic step, which it does not apply when all stars are admitted; the model holds 25 pixels
        step = fwhm / 2.35 * 0.5
        side = min(2 * int(0.5 * 25 / step + 1) + 1, 2 * candidates.side + 1)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            ["psfex", "stars.cat", "-SAMPLE_AUTOSELECT", "N", "-SAMPLE_FWHMRANGE", "0.1,100.0",
             "-SAMPLE_VARIABILITY", "10", "-PSF_SAMPLING", f"{step:.4f}", "-SAMPLE_MINSN", "1", "-SAMPLE_MAXELLIP", "1",
             "-PSF_SIZE", f"{side},{side}", "-CHECKPLOT_TYPE", "NONE", "-CHECKPLOT_DEV", "NULL",
             "-CHECKIMAGE_TYPE", "NONE", "-WRITE_XML", "N", "-NTHREADS", "1", "-PSFVAR_DEGREES", "2"],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        path = Path(folder) / "stars.psf"
        if done.returncode or not path.exists():
            raise RuntimeError(f"psfex ended with {done.returncode}: {done.stderr[-400:]}")
        psf, used = _read_psfex(path)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Fit(psf, cpu, after.ru_maxrss / 1024, used)


def _read_psfex(path: Path) -> tuple[PixelGridPsf, int]:
    """Return PSFEx's model, drawn with its Lanczos 4, and the stars it accepted."""
    with fits.open(path) as hdus:
        header, planes = hdus[1].header, np.array(hdus[1].data["PSF_MASK"][0], np.float64)
    degree = int(header["POLDEG1"]) if header["POLNGRP"] else 0
    # the first variable's power runs fastest
    exponents = np.array([(i, j) for j in range(degree + 1) for i in range(degree + 1 - j)])
    zero = [header["POLZERO1"], header["POLZERO2"]] if degree else [1.0, 1.0]
    scale = np.array([header["POLSCAL1"], header["POLSCAL2"]] if degree else [1.0, 1.0])
    norm = float(scale.max())
    planes = planes * ((norm / scale) ** exponents).prod(axis=1)[:, None, None]
    psf = PixelGridPsf(
        planes, exponents, x_ref=zero[0] - 1.0, y_ref=zero[1] - 1.0, norm=norm, size=25,
        scale=header["PSF_SAMP"], lanczos=4,
    )  # fmt: skip
    return psf, int(header["ACCEPTED"])
