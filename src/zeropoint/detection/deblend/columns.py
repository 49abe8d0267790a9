"""The deblender's catalogue columns."""

from __future__ import annotations

from zeropoint.datamodel.catalog import ColumnSpec

__all__ = ["COLUMNS"]

#: In the order of the output tables.
COLUMNS: tuple[ColumnSpec, ...] = (
    ColumnSpec("deblend_nChild", "i4", doc="Number of children."),
    ColumnSpec("deblend_deblendedAsPsf", "bool", doc="The child was modelled as a point source."),
    ColumnSpec("deblend_psfCenter_x", "f8", "pixel", "Centre of the deblender's PSF fit, x."),
    ColumnSpec("deblend_psfCenter_y", "f8", "pixel", "Centre of the deblender's PSF fit, y."),
    ColumnSpec("deblend_psf_instFlux", "f8", "count", "Flux of the deblender's PSF fit."),
    ColumnSpec("deblend_tooManyPeaks", "bool", doc="More peaks than the limit; the faintest were left out."),
    ColumnSpec("deblend_parentTooBig", "bool", doc="The footprint exceeds the size limits; not deblended."),
    ColumnSpec("deblend_masked", "bool", doc="Too many masked pixels; not deblended."),
    ColumnSpec("deblend_failed", "bool", doc="The deblender failed on this parent."),
    ColumnSpec("deblend_skipped", "bool", doc="Not deblended, or at least one peak was dropped."),
    ColumnSpec("deblend_rampedTemplate", "bool", doc="The template was continued beyond an edge."),
    ColumnSpec(
        "deblend_patchedTemplate", "bool", doc="The template has pixels that were not made symmetric."
    ),
    ColumnSpec("deblend_hasStrayFlux", "bool", doc="The child was given pixels that no template covered."),
    ColumnSpec("deblend_peak_center_x", "i4", "pixel", "Peak pixel in the parent, x; box centre of a blend."),
    ColumnSpec("deblend_peak_center_y", "i4", "pixel", "Peak pixel in the parent, y; box centre of a blend."),
    ColumnSpec(
        "deblend_peakId", "i4", doc="Rank of the peak in its parent, 1 is the brightest; 0 for blends."
    ),
    ColumnSpec("deblend_nPeaks", "i4", doc="Number of peaks in this blend; 1 for children."),
    ColumnSpec("deblend_parentNPeaks", "i4", doc="Number of peaks in the parent; 0 for blends."),
)
