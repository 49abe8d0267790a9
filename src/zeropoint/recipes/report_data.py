"""What the report and the metrics need of a finished run, as plain values."""

from __future__ import annotations

import datetime
import platform
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from zeropoint.quality.report_data import ReportData
from zeropoint.recipes.calibrate_image import CalibratedImage
from zeropoint.recipes.session import ImageRun

__all__ = ["report_data", "run_information"]

_PACKAGES = (
    "zeropoint",
    "numpy",
    "scipy",
    "numba",
    "astropy",
    "piff",
    "galsim",
    "lsst-images",
    "lsst-pex-config",
)


def package_versions() -> dict[str, str]:
    """Return the versions of what the numbers depend on."""
    versions = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = "unknown"
    return versions


def run_information(run: ImageRun) -> dict[str, Any]:
    """Return what may differ between two runs on the same input: times, dates, versions."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "seconds": {name: round(value, 3) for name, value in run.seconds.items()},
        "stages": [
            {"name": s.name, "cpu_seconds": round(s.cpu_seconds, 4), "wall_seconds": round(s.wall_seconds, 4)}
            for s in run.result.stages
        ],
        "versions": package_versions(),
    }


def _psf_model(result: CalibratedImage) -> dict[str, Any]:
    """Return what made the PSF, if there is one."""
    assert result.config is not None
    if result.psf_fit is None:
        return {}
    choice = result.config.psf_measure_psf.psfDeterminer
    solver = getattr(choice.active, "solver", None)
    return {"psf_determiner": choice.name} | ({} if solver is None else {"psf_solver": solver})


def _library_color_term(result: CalibratedImage) -> dict[str, Any]:
    """Return the color term of the library that was applied, if one was."""
    assert result.config is not None
    config = result.config.photometry
    if result.photometry is None or not config.applyColorTerms:
        return {}
    library, name = config.colorterms, config.photoCatName
    term = library.getColorterm(result.exposure.visit_info.physical_filter, name)
    return {
        "color_term_library": name
        if name in library.data
        else next(entry for entry in library.data if fnmatchcase(name, entry)),
        "color_term_color": f"{term.primary} - {term.secondary}",
        "color_term_c0": term.c0,
        "color_term_c1": term.c1,
        "color_term_c2": term.c2,
    }


def report_data(run: ImageRun, references: str) -> ReportData:
    """Return the report's input for one run.

    Parameters
    ----------
    run
        A complete or partial run.
    references
        Name of the reference catalogue.
    """
    result = run.result
    applied = result.applied_photo_calib
    extra: dict[str, Any] = {}
    if result.astrometry is not None:
        fit = result.astrometry
        extra.update(
            hold_out_east=fit.hold_out_east,
            hold_out_north=fit.hold_out_north,
            n_chance_expected=fit.n_chance_expected,
            log10_false_probability=fit.log10_false_probability,
            n_astrometry_sources=fit.n_sources,
            n_astrometry_references=fit.n_references,
            astrometry_used=int(fit.used.sum()),
        )
    if result.photometry is not None:
        fit_p = result.photometry
        extra.update(
            zeropoint_err=fit_p.photo_calib.calibration_err / fit_p.photo_calib.calibration_mean * 1.0857362,
            zeropoint_hold_out=fit_p.hold_out_scatter,
            n_photometry_used=fit_p.n_good,
            hold_out_zp_std=fit_p.hold_out_zp_std,
        )
        extra.update(fit_p.metadata)
        info, amplifiers = result.exposure.visit_info, result.exposure.detector.amplifiers
        gain = float(np.median([amplifier.gain for amplifier in amplifiers]))
        # what a header's MAGZP or a nightly log would hold; free of an estimated gain
        extra["zeropoint_adu"] = fit_p.photo_calib.zeropoint - 2.5 * float(np.log10(gain))
        if info.exposure_time > 0:
            extra["zeropoint_adu_per_second"] = extra["zeropoint_adu"] - 2.5 * float(
                np.log10(info.exposure_time)
            )
    if result.psf_fit is not None:
        extra.update({f"psf_fit_{k}": v for k, v in result.psf_fit.metadata.items()})
    if result.config is not None:
        extra.update(_psf_model(result))
        extra.update(_library_color_term(result))
    return ReportData(
        stem=run.loaded.stem,
        image_path=str(run.loaded.path.name),
        exposure=result.exposure,
        unit="nJy" if applied is not None else "electron",
        summary=result.summary,
        stars=None if result.stars is None else result.stars.to_table(),
        psf_stars=None if result.psf_stars is None else result.psf_stars.to_table(),
        astrometry_matches=result.astrometry_matches,
        photometry_matches=result.photometry_matches,
        background=result.background,
        metadata=dict(result.metadata),
        stages=[(s.name, s.cpu_seconds, s.wall_seconds, dict(s.numbers)) for s in result.stages],
        caveats=[*run.caveats],
        notes=list(run.notes),
        config_changes=run.config_changes,
        versions=package_versions(),
        failure=result.failure,
        camera=run.loaded.card.name,
        band=result.exposure.visit_info.band,
        references=references,
        extra=extra,
        flux_scale=1.0 if applied is None else applied.calibration_mean,
        photo_calib=None if result.photometry is None else result.photometry.photo_calib,
    )
