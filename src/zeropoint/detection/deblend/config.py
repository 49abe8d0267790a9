"""Configuration of the single-band deblender."""

from __future__ import annotations

import lsst.pex.config as pexConfig

__all__ = ["SourceDeblendConfig"]


class SourceDeblendConfig(pexConfig.Config):
    """How blends are taken apart."""

    edgeHandling = pexConfig.ChoiceField(
        dtype=str,
        doc="What to do with templates that are bright where the footprint ends.",
        default="ramp",
        allowed={
            "clip": "Let the template end there.",
            "ramp": "Continue the image with the PSF beyond the edge before mirroring.",
            "noclip": "Keep pixels whose mirror image leaves the parent's box, if the parent touches the edge.",
        },
    )
    strayFluxRule = pexConfig.ChoiceField(
        dtype=str,
        doc="Who gets the positive pixels that no template covers.",
        default="trim",
        allowed={
            "r-to-peak": "Everyone, by 1/(1 + r^2) from the peak.",
            "r-to-footprint": "Everyone, by 1/(1 + r^2) from the child's footprint.",
            "nearest-footprint": "The child with the nearest footprint.",
            "trim": "Nobody; they leave the parent's footprint.",
        },
    )
    strayFluxToPointSources = pexConfig.ChoiceField(
        dtype=str,
        doc="When may point sources get stray flux?",
        default="necessary",
        allowed={
            "necessary": "When the blend has no other child.",
            "always": "Always.",
            "never": "Never; without another child the stray flux stays unassigned.",
        },
    )
    assignStrayFlux = pexConfig.Field(
        dtype=bool, default=True, doc="Assign stray flux to children? Overruled by the rule trim."
    )
    clipStrayFluxFraction = pexConfig.Field(
        dtype=float, default=0.001, doc="Shares of a stray pixel below this fraction are dropped."
    )
    psfChisq1 = pexConfig.Field(
        dtype=float,
        default=1.5,
        doc="A peak is a point source below this chi2/dof of the fit at the peak pixel.",
    )
    psfChisq2 = pexConfig.Field(
        dtype=float, default=1.5, doc="Limit on chi2/dof of the fit with a displacement."
    )
    psfChisq2b = pexConfig.Field(
        dtype=float, default=1.5, doc="Limit on chi2/dof of the fit with the PSF at the displaced position."
    )
    maskPlanes = pexConfig.ListField(
        dtype=str, default=["SAT", "INTRP", "NO_DATA"], doc="Planes left out of the noise estimate."
    )
    maskLimits = pexConfig.DictField(
        keytype=str,
        itemtype=float,
        default={"NO_DATA": 0.25},
        doc="Plane -> largest fraction of a parent's pixels that may have it.",
    )
    weightTemplates = pexConfig.Field(
        dtype=bool, default=False, doc="Scale the templates to fit the image before dividing the flux?"
    )
    removeDegenerateTemplates = pexConfig.Field(
        dtype=bool, default=False, doc="Remove one of two templates that are nearly the same?"
    )
    maxTempDotProd = pexConfig.Field(
        dtype=float, default=0.5, doc="Normalised dot product above which two templates count as the same."
    )
    medianSmoothTemplate = pexConfig.Field(
        dtype=bool, default=True, doc="Smooth templates with a 5x5 median?"
    )
    maxNumberOfPeaks = pexConfig.Field(
        dtype=int, default=0, doc="Only the brightest peaks of a parent are deblended (0 or less: all)."
    )
    maxFootprintArea = pexConfig.Field(
        dtype=int, default=10000, doc="Parents of a larger area [pixels] are skipped (0 or less: never)."
    )
    maxFootprintSize = pexConfig.Field(
        dtype=int, default=0, doc="Parents with a longer box side [pixels] are skipped (0 or less: never)."
    )
    minFootprintAxisRatio = pexConfig.Field(
        dtype=float, default=0.0, doc="Parents with a smaller axis ratio are skipped (0 or less: never)."
    )
    notDeblendedMask = pexConfig.Field(
        dtype=str, default="NOT_DEBLENDED", optional=True, doc="Plane set on skipped parents; None for none."
    )
    tinyFootprintSize = pexConfig.RangeField(
        dtype=int,
        default=2,
        min=2,
        inclusiveMin=True,
        doc="Peaks whose PSF-fit stamp has a side [pixels] not above this are dropped.",
    )
    propagateAllPeaks = pexConfig.Field(
        dtype=bool,
        default=False,
        doc="Make a child of every peak of a deblended parent, with the parent's footprint and zero flux if need be?",
    )
    catchFailures = pexConfig.Field(
        dtype=bool, default=True, doc="Flag a parent on which the deblender fails, instead of raising?"
    )
    useCiLimits = pexConfig.Field(
        dtype=bool, default=False, doc="Deblend only a few parents, for quick tests of a pipeline?"
    )
    ciDeblendChildRange = pexConfig.ListField(
        dtype=int, default=[2, 10], doc="With useCiLimits: smallest and largest number of peaks."
    )
    ciNumParentsToDeblend = pexConfig.Field(
        dtype=int, default=10, doc="With useCiLimits: number of parents to deblend."
    )
