"""Configuration of the UpdateVisitSummary recipe: Rubin's field names and class defaults."""

from __future__ import annotations

import re

import lsst.pex.config as pexConfig
from lsst.sphgeom import HealpixPixelization

from zeropoint.astrometry.refit_pointing import RefitPointing
from zeropoint.astrometry.sip_approximation import FitSipApproximation
from zeropoint.quality.summary import ComputeExposureSummaryStats
from zeropoint.recipes.config_files import FileConfig, InconsistentConfigError
from zeropoint.recipes.legacy_fields import step

__all__ = ["UpdateVisitSummaryConfig", "healpix_level"]

_HEALPIX = re.compile(r"^healpix(\d+)$")


def healpix_level(provider: str) -> int | None:
    """Return the level of a ``wcs_provider`` of the form ``healpixN``, None of another.

    Raises
    ------
    ValueError
        If there is no such level.
    """
    match = _HEALPIX.match(provider)
    if match is None:
        return None
    level = int(match[1])
    HealpixPixelization(level)
    return level


def _is_wcs_provider(provider: str) -> bool:
    try:
        return provider in ("input_summary", "tract", "global") or healpix_level(provider) is not None
    except (ValueError, RuntimeError):
        return False


class UpdateVisitSummaryConfig(FileConfig):
    """Fields of UpdateVisitSummaryTask of the LSST Science Pipelines (2026), with its class defaults.

    Differences are listed in ``docs/deviations.md``.
    """

    compute_summary_stats = step(ComputeExposureSummaryStats, "Summary statistics.")
    wcs_provider = pexConfig.Field[str](
        doc="Where WCSs come from: 'input_summary' keeps those of the summary, with their statistics; 'tract': "
        "wcs_overrides_tract, the tract that is nearest; 'global': wcs_overrides_global; 'healpixN': "
        "wcs_overrides_skypix, the HEALPix pixel of level N that a detector's middle lies in.",
        default="input_summary",
        optional=False,
        check=_is_wcs_provider,
    )
    photo_calib_provider = pexConfig.ChoiceField[str](
        doc="Where photometric calibrations come from.",
        allowed={
            "input_summary": "those of the summary are kept, with their statistics",
            "tract": "photo_calib_overrides_tract: the tract that is nearest",
            "global": "photo_calib_overrides_global",
        },
        default="input_summary",
        optional=False,
    )
    background_provider = pexConfig.ChoiceField[str](
        doc="Where backgrounds come from.",
        allowed={
            "input_summary": "those subtracted from the images are final, as are their statistics",
            "replacement": "background_overrides are subtracted on top of background_originals",
        },
        default="input_summary",
        optional=False,
    )
    wcs_consistency_threshold = pexConfig.RangeField[float](
        doc="Farthest that a corner may move from where the summary's WCS has it, arcsec; WCSs that move it farther, or "
        "have none to be compared with, are dropped. None: no limit.",
        default=None,
        optional=True,
        min=0.0,
    )
    refit_pointing = step(RefitPointing, "Compare the WCSs with the camera's geometry.")
    camera_dimensions = pexConfig.ListField[str](
        doc="Dimensions of the 'camera' connection. Concerns the task.", default=["instrument"]
    )
    do_refit_pointing = pexConfig.Field[bool](
        doc="Compare the WCSs with the camera's geometry, and drop those that cannot be right?", default=True
    )
    do_write_visit_geometry = pexConfig.Field[bool](
        doc="Write the region of the visit and of each detector? Concerns the task.", default=False
    )
    do_fit_sip_approximations = pexConfig.Field[bool](
        doc="Give every WCS a form that FITS headers can hold?", default=True
    )
    fit_sip_approximations = step(FitSipApproximation, "Fit TAN-SIP WCSs to WCSs.")

    def validate(self) -> None:
        """Reject combinations that cannot work."""
        super().validate()
        kind = type(self)
        if self.wcs_consistency_threshold is not None and self.wcs_provider == "input_summary":
            raise InconsistentConfigError(
                kind.wcs_consistency_threshold,
                self,
                "must be None where wcs_provider is 'input_summary': nothing is compared.",
            )
        if self.do_write_visit_geometry and not self.do_refit_pointing:
            raise InconsistentConfigError(
                kind.do_write_visit_geometry, self, "needs do_refit_pointing, which makes the regions."
            )
