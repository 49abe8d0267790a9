"""Configuration of the association of isolated stars."""

from __future__ import annotations

import lsst.pex.config as pexConfig

from zeropoint.catalogs.selectors import ScienceSourceSelectorConfig, sourceSelectorRegistry

__all__ = ["IsolatedStarAssociationConfig"]

_EXTRA_COLUMNS = [
    "x",
    "y",
    "xErr",
    "yErr",
    "apFlux_12_0_instFlux",
    "apFlux_12_0_instFluxErr",
    "apFlux_12_0_flag",
    "apFlux_17_0_instFlux",
    "apFlux_17_0_instFluxErr",
    "apFlux_17_0_flag",
    "localBackground_instFlux",
    "localBackground_flag",
    "ixx",
    "iyy",
    "ixy",
]

_BAD_FLAGS = [
    "pixelFlags_edge",
    "pixelFlags_interpolatedCenter",
    "pixelFlags_saturatedCenter",
    "pixelFlags_crCenter",
    "pixelFlags_bad",
    "pixelFlags_interpolated",
    "pixelFlags_saturated",
    "centroid_flag",
]


class IsolatedStarAssociationConfig(pexConfig.Config):
    """Which sources are associated, and what is an isolated star."""

    inst_flux_field = pexConfig.Field[str](
        default="normCompTophatFlux_instFlux",
        doc="Flux column to keep, with its error (the name and Err). The selector's own limits name theirs.",
    )
    match_radius = pexConfig.RangeField[float](
        default=1.0, min=1e-3, max=3600.0, doc="Sources within this radius are one star, arcsec."
    )
    isolation_radius = pexConfig.RangeField[float](
        default=2.0,
        min=1e-3,
        max=3600.0,
        doc="Stars this close to another are dropped, both of them, arcsec; should be at least twice match_radius.",
    )
    grouping = pexConfig.ChoiceField[str](
        default="components",
        allowed={
            "components": "Chains of sources within match_radius of the next are one group.",
            "greedy": "A source and all its neighbors within match_radius are a group, those with most neighbors "
            "first: Rubin's rule.",
        },
        doc="How the sources of a band are grouped into stars.",
    )
    reject_duplicate_visits = pexConfig.Field[bool](
        default=True,
        doc="Drop groups with two sources of one visit, which are blends, and count their sources as neighbors.",
    )
    nside_split = pexConfig.Field[int](
        default=32,
        check=lambda nside: nside > 0 and nside & (nside - 1) == 0,
        doc="HEALPix nside by which Rubin's task splits its work, a power of two. Here a tract is grouped in one pass, so "
        "that it has no effect; it is here for override files that set it.",
    )
    band_order = pexConfig.ListField[str](
        default=["i", "z", "r", "g", "y", "u"],
        minLength=1,
        doc="Bands in order of priority: a star's position comes from the first in which it is seen. Sources in other "
        "bands are left out, and the run's report says so.",
    )
    id_column = pexConfig.Field[str](default="sourceId", doc="Column with the id of the source.")
    ra_column = pexConfig.Field[str](default="ra", doc="Column with the right ascension, degrees.")
    dec_column = pexConfig.Field[str](default="dec", doc="Column with the declination, degrees.")
    physical_filter_column = pexConfig.Field[str](
        default="physical_filter", doc="Column with the name of the physical filter."
    )
    band_column = pexConfig.Field[str](default="band", doc="Column with the name of the band.")
    extra_columns = pexConfig.ListField[str](
        default=_EXTRA_COLUMNS, doc="Further columns to keep, copied as they are."
    )
    source_selector = sourceSelectorRegistry.makeField(doc="Which sources are associated.", default="science")

    def setDefaults(self) -> None:
        """Unflagged, unresolved, primary sources that are not blended, of signal-to-noise 8 to 1000."""
        super().setDefaults()
        science: ScienceSourceSelectorConfig = self.source_selector["science"]
        science.doFlags = science.doUnresolved = science.doSignalToNoise = True
        science.doIsolated = science.doRequireFiniteRaDec = science.doRequirePrimary = True
        science.flags.bad = [
            *_BAD_FLAGS,
            self.inst_flux_field.removesuffix("_instFlux") + "_flag",
        ]
        science.signalToNoise.minimum = 8.0
        science.signalToNoise.maximum = 1000.0
        science.signalToNoise.fluxField = self.inst_flux_field
        science.signalToNoise.errField = f"{self.inst_flux_field}Err"
        science.isolated.parentName = "parentSourceId"
        science.isolated.nChildName = "deblend_nChild"
        science.unresolved.name = "sizeExtendedness"
        science.requireFiniteRaDec.raColName = self.ra_column
        science.requireFiniteRaDec.decColName = self.dec_column

    def validate(self) -> None:
        """Check that names occur once and that the radii are in order."""
        super().validate()
        cls = type(self)
        if len(set(self.band_order)) < len(self.band_order):
            raise pexConfig.FieldValidationError(cls.band_order, self, "a band is listed twice.")
        if self.isolation_radius < self.match_radius:
            raise pexConfig.FieldValidationError(
                cls.isolation_radius,
                self,
                f"isolation_radius ({self.isolation_radius:g}) must not be below match_radius ({self.match_radius:g}): "
                "sources would match several stars.",
            )
        names = self.source_columns
        twice = sorted(
            {name for name in names if names.count(name) > 1} | ({"source_row", "obj_index"} & set(names))
        )
        if twice:
            raise pexConfig.FieldValidationError(
                cls.extra_columns,
                self,
                f"{', '.join(twice)}: these columns are kept anyway; do not list them again.",
            )

    @property
    def source_columns(self) -> list[str]:
        """Columns of the visits' tables that are kept, in their order in the output."""
        return [
            self.id_column,
            "visit",
            "detector",
            self.ra_column,
            self.dec_column,
            self.physical_filter_column,
            self.band_column,
            self.inst_flux_field,
            f"{self.inst_flux_field}Err",
            *self.extra_columns,
        ]
