"""The columns of standardised source tables, as the published tables have them, and what their consumers read."""

from __future__ import annotations

RADII = (3, 6, 9, 12, 17, 25, 35, 50, 70)


def _both(names: list[str], pre: str, source: str) -> dict[str, tuple[str, str]]:
    return dict.fromkeys(names, (pre, source))


def _flags(stem: str, *endings: str) -> list[str]:
    return [f"{stem}{ending}" for ending in endings]


_FLUXES = ["calib", *(f"ap{radius:02d}" for radius in RADII), "psf", "gaussian"]
_BOOL = [
    *(f"ap{radius:02d}Flux_flag" for radius in RADII),
    *(f"apFlux_{radius}_0_flag" for radius in (12, 17, 35, 50)),
    *_flags("apFlux_12_0_flag_", "apertureTruncated", "sincCoeffsTruncated"),
    "normCompTophatFlux_flag",
    *_flags("localBackground_flag", "", "_noGoodPixels", "_noPsf"),
    *_flags("psfFlux_flag", "", "_apCorr", "_edge", "_noGoodPixels"),
    *_flags("pixelFlags_", "bad", "cr", "crCenter", "edge", "interpolated", "interpolatedCenter", "nodata"),
    *_flags("pixelFlags_", "offimage", "saturated", "saturatedCenter", "suspect", "suspectCenter"),
    *_flags("centroid_flag", "", "_almostNoSecondDerivative", "_badError", "_edge", "_noSecondDerivative"),
    *_flags("centroid_flag", "_notAtMaximum", "_resetToPeak"),
    *("jacobian_flag", "invalidPsfFlag", "variance_flag", "variance_flag_emptyFootprint"),
    *("gaussianFlux_flag", "extendedness_flag", "sizeExtendedness_flag"),
    *_flags("blendedness_flag", "", "_noCentroid", "_noShape"),
    *_flags("calib_", "astrometry_used", "photometry_used", "photometry_reserved"),
    *_flags("calib_psf_", "candidate", "used", "reserved"),
    *_flags("deblend_", "skipped", "deblendedAsPsf", "hasStrayFlux", "masked", "parentTooBig"),
    *_flags("deblend_", "patchedTemplate", "rampedTemplate", "tooManyPeaks"),
    *_flags("hsmPsfMoments_flag", "", "_no_pixels", "_not_contained", "_parent_source"),
    *_flags("iDebiasedPSF_flag", "", "_no_pixels", "_not_contained", "_parent_source", "_galsim", "_edge"),
    *_flags("hsmShapeRegauss_flag", "", "_galsim", "_no_pixels", "_not_contained", "_parent_source"),
    *("sky_source", "detect_isPrimary"),
]
_DOUBLE = [
    *("coord_ra", "coord_dec", "ra", "dec", "x", "y"),
    *(f"apFlux_{radius}_0_instFlux{end}" for radius in (12, 17, 35, 50) for end in ("", "Err")),
    *(f"{stem}_instFlux{end}" for stem in ("normCompTophatFlux", "localBackground") for end in ("", "Err")),
    *("psfFlux_apCorr", "psfFlux_apCorrErr", "jacobian_value", "variance_value"),
]
_DOUBLE_THEN_SINGLE = [
    *(f"{name}Flux{end}" for name in _FLUXES for end in ("", "Err")),
    *("sky", "skyErr", "extendedness", "sizeExtendedness", "blendedness_abs"),
    *(f"i{axes}{end}" for end in ("", "PSF", "DebiasedPSF") for axes in ("xx", "yy", "xy")),
]
#: Output column -> its dtype in PreSource and in Source.
COLUMNS = {
    **_both(["sourceId", "parentSourceId", "visit"], "i8", "i8"),
    **_both(["deblend_nChild", "footprintArea_value"], "i4", "i4"),
    **_both(["detector"], "i2", "i2"),
    **_both(["band", "physical_filter"], "U", "U"),
    **_both(_DOUBLE, "f8", "f8"),
    **_both(_DOUBLE_THEN_SINGLE, "f8", "f4"),
    # single precision as in the input
    **_both(["raErr", "decErr", "ra_dec_Cov", "xErr", "yErr", "psfFlux_area"], "f4", "f4"),
    **_both(_BOOL, "b1", "b1"),
}
#: What only Source has.
LOCAL = {
    **dict.fromkeys(["localPhotoCalib", "localPhotoCalibErr"], "f8"),
    **dict.fromkeys([f"localWcs_CDMatrix_{i}_{j}" for i in (1, 2) for j in (1, 2)], "f8"),
    **dict.fromkeys(["localPhotoCalib_flag", "localWcs_flag"], "b1"),
}
#: What Source lacks where the older pair has no adaptive moments, as by default.
NOT_IN_OLDER_PAIR = [
    *(f"i{axes}DebiasedPSF" for axes in ("xx", "yy", "xy")),
    *(name for name in _BOOL if name.startswith(("hsm", "iDebiased"))),
    *("jacobian_flag", "jacobian_value", "apFlux_12_0_flag_sincCoeffsTruncated"),
]

_AP = [f"apFlux_{r}_0_{end}" for r in (12, 17) for end in ("instFlux", "instFluxErr", "flag")]
_BAD_PIXELS = [
    "pixelFlags_" + name
    for name in (
        "edge",
        "interpolatedCenter",
        "saturatedCenter",
        "crCenter",
        "bad",
        "interpolated",
        "saturated",
    )
]
_WHERE = ["visit", "detector", "ra", "dec", "x", "y"]
#: Columns that each consumer reads.
CONSUMERS = {
    "association of isolated stars, kept": [
        *("sourceId", *_WHERE, "physical_filter", "band", "xErr", "yErr", *_AP, "ixx", "iyy", "ixy"),
        *("normCompTophatFlux_instFlux", "normCompTophatFlux_instFluxErr"),
        *("localBackground_instFlux", "localBackground_flag"),
    ],
    "association of isolated stars, selection": [
        *(*_BAD_PIXELS, "centroid_flag", "normCompTophatFlux_flag", "sizeExtendedness"),
        *("parentSourceId", "deblend_nChild", "detect_isPrimary"),
    ],
    "association of isolated stars, wide pixels": [
        f"apFlux_{r}_0_{end}" for r in (35, 50) for end in ("instFlux", "instFluxErr", "flag")
    ],
    "FgcmBuildStarsTable": [
        *(*_WHERE, "calib_psf_candidate", *_AP, *_BAD_PIXELS, "centroid_flag"),
        *("localBackground_flag", "localBackground_instFlux"),
        *("extendedness", "parentSourceId", "deblend_nChild", "detect_isPrimary"),
    ],
    "gbdes": ["x", "y", "xErr", "yErr", "ixx", "ixy", "iyy", "visit", "detector"],
}
