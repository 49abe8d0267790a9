"""Configuration of final characterization: Rubin's field names and class defaults."""

from __future__ import annotations

import lsst.pex.config as pexConfig

from zeropoint.association.reserve import ReserveIsolatedStars
from zeropoint.catalogs.selectors import reject_selectors_with_matches, sourceSelectorRegistry
from zeropoint.measurement.aperture_corrections import MeasureApCorr
from zeropoint.measurement.apply_aperture_corrections import ApplyApCorr
from zeropoint.measurement.single_frame import SingleFrameMeasurement
from zeropoint.psf import measure_psf as _measure_psf  # noqa: F401  (registers the determiners)
from zeropoint.psf.candidates import MakePsfCandidates
from zeropoint.psf.registry import psfDeterminerRegistry
from zeropoint.recipes.config_files import FileConfig, InconsistentConfigError
from zeropoint.recipes.legacy_fields import step

__all__ = ["FinalizeCharacterizationConfig"]

_PLUGINS = (
    "base_FPPosition",
    "base_PsfFlux",
    "base_GaussianFlux",
    "ext_photometryKron_KronFlux",
    "ext_convolved_ConvolvedFlux",
    "ext_gaap_GaapFlux",
    "ext_shapeHSM_HsmShapeRegauss",
    "ext_shapeHSM_HsmSourceMoments",
    "ext_shapeHSM_HsmPsfMoments",
    "ext_shapeHSM_HsmSourceMomentsRound",
    "ext_shapeHSM_HigherOrderMomentsSource",
    "ext_shapeHSM_HigherOrderMomentsPSF",
)


class FinalizeCharacterizationConfig(FileConfig):
    """Fields of FinalizeCharacterizationTask of the LSST Science Pipelines (July 2026), with its class defaults.

    Differences are listed in ``docs/deviations.md``.
    """

    id_column = pexConfig.Field[str](
        doc="Column of the isolated-star sources that holds the id of the source.", default="sourceId"
    )
    reserve_selection = step(ReserveIsolatedStars, "Choose the stars that no PSF is fitted to.")
    source_selector = sourceSelectorRegistry.makeField(
        doc="Select the sources that may become PSF candidates.", default="science"
    )
    make_psf_candidates = step(MakePsfCandidates, "Cut and mask the candidates' stamps.")
    psf_determiner = psfDeterminerRegistry.makeField(doc="Fits the PSF model.", default="piff")
    measurement = step(SingleFrameMeasurement, "Measure the candidates with the new PSF.")
    measure_ap_corr = step(MeasureApCorr, "Measure aperture corrections.")
    apply_ap_corr = step(ApplyApCorr, "Apply aperture corrections to the candidates.")
    do_add_sky_moments = pexConfig.Field[bool](
        doc="Add the second moments of stars and PSF on the sky, along RA/Dec and altitude/azimuth?",
        default=False,
    )
    do_add_fgcm_photometry = pexConfig.Field[bool](
        doc="Add the magnitudes of the photometric standard stars?", default=False
    )
    fgcmPhotometryBands = pexConfig.ListField[str](
        doc="Bands of these magnitudes.", default=["g", "r", "i", "z", "y"]
    )
    do_follow_input_psf = pexConfig.Field[bool](
        doc="Make stamps and model as large as those of the PSF that the image has, where that is larger?",
        default=False,
    )
    ap_corr_stars = pexConfig.ChoiceField[str](
        doc="Which stars measure the aperture corrections.",
        default="candidates",
        allowed={
            "candidates": "All candidates, also reserved ones and those that the fit of the PSF dropped; as upstream.",
            "used": "Only stars that shaped the PSF.",
        },
    )
    keep_partial_ap_corr_map = pexConfig.Field[bool](
        doc="If the correction of one flux cannot be measured, keep those of the others? If not, there are none.",
        default=False,
    )

    def setDefaults(self) -> None:
        """Apply the overrides that the task itself makes."""
        super().setDefaults()
        sources = self.source_selector["science"]
        sources.doFlags = sources.doSignalToNoise = True
        sources.doFluxLimit = sources.doUnresolved = sources.doIsolated = False
        sources.signalToNoise.minimum = 50.0
        sources.signalToNoise.maximum = 1000.0
        sources.signalToNoise.fluxField = "base_GaussianFlux_instFlux"
        sources.signalToNoise.errField = "base_GaussianFlux_instFluxErr"
        sources.flags.bad = [
            "base_PixelFlags_flag_edge",
            "base_PixelFlags_flag_nodata",
            "base_PixelFlags_flag_interpolatedCenter",
            "base_PixelFlags_flag_saturatedCenter",
            "base_PixelFlags_flag_crCenter",
            "base_PixelFlags_flag_bad",
            "base_PixelFlags_flag_interpolated",
            "base_PixelFlags_flag_saturated",
            "slot_Centroid_flag",
            "base_GaussianFlux_flag",
        ]
        # one of the apertures that all images have
        self.psf_determiner["psfex"].photometricFluxField = "base_CircularApertureFlux_12_0_instFlux"
        stars = self.measure_ap_corr.sourceSelector["science"]
        stars.doFlags = stars.doUnresolved = False
        plugins = self.measurement.plugins
        plugins.names = list(_PLUGINS)
        convolved, gaap = plugins["ext_convolved_ConvolvedFlux"], plugins["ext_gaap_GaapFlux"]
        convolved.seeing.append(8.0)
        gaap.sigmas = [0.5, 0.7, 1.0, 1.5, 2.5, 3.0]
        gaap.doPsfPhotometry = True
        # coarse pixels or bad seeing leave none of these for some images
        self.measure_ap_corr.allowFailure += [*convolved.getAllResultNames(), *gaap.getAllGaapResultNames()]
        slots = self.measurement.slots
        # positions and these fluxes are the input catalogue's
        slots.centroid = slots.apFlux = slots.calibFlux = None
        slots.shape = "ext_shapeHSM_HsmSourceMoments"
        slots.psfShape = "ext_shapeHSM_HsmPsfMoments"

    @property
    def uses_standard_stars(self) -> bool:
        """Whether the table of photometric standard stars is looked at."""
        return bool(self.do_add_fgcm_photometry or self.uses_color)

    @property
    def uses_color(self) -> bool:
        """Whether the PSF depends on the colour of stars."""
        return self.psf_determiner.name == "piff" and bool(self.psf_determiner["piff"].useColor)

    def validate(self) -> None:
        """Reject combinations that cannot work."""
        super().validate()
        reject_selectors_with_matches(self, "source_selector")
        if self.measurement.slots.centroid is not None:
            raise InconsistentConfigError(
                FinalizeCharacterizationConfig.measurement,
                self,
                "slots.centroid must be None: the positions are those of the sources.",
            )
        if self.do_add_sky_moments and None in (
            self.measurement.slots.shape,
            self.measurement.slots.psfShape,
        ):
            raise InconsistentConfigError(
                FinalizeCharacterizationConfig.do_add_sky_moments,
                self,
                "moments on the sky need slots.shape and slots.psfShape of measurement.",
            )
        if self.psf_determiner.name == "piff":
            self._check_stamps()

    def _check_stamps(self) -> None:
        """Check that the candidates' stamps hold what the determiner needs."""
        stamp = self.psf_determiner["piff"].stampSize or 0
        side = self.make_psf_candidates.kernelSize
        if side < stamp:
            raise InconsistentConfigError(
                FinalizeCharacterizationConfig.make_psf_candidates,
                self,
                f"kernelSize ({side}) must be at least the stampSize ({stamp}) of psf_determiner['piff'].",
            )
