"""Images without a pointing: their initial WCS comes from the stars alone, where the camera card asks for it."""

from __future__ import annotations

from zeropoint.astrometry.blind import BlindWcs, BlindWcsConfig
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.first_look import bright_stars
from zeropoint.instruments.reader import LoadedImage

__all__ = ["find_on_sky_in_place"]


def find_on_sky_in_place(loaded: LoadedImage) -> str:
    """Set the initial WCS of an image that has none, in place; return a sentence for the report.

    Parameters
    ----------
    loaded
        An image whose camera card names index files.

    Raises
    ------
    InvalidInputError
        If the card names none, or the optional package or a file is missing.
    MatcherFailure
        If no index file knows the stars.
    """
    search, exposure = loaded.search, loaded.exposure
    if search is None:
        raise InvalidInputError(f"{loaded.path}: the image has no initial WCS.")
    config = BlindWcsConfig()
    config.index_files = list(search.index_files)
    config.pixel_scale_low, config.pixel_scale_high = search.scale_low, search.scale_high
    x, y = bright_stars(exposure, max_stars=config.max_stars)
    found = BlindWcs(config).run(x=x, y=y, shape=exposure.shape)
    exposure.wcs = found.wcs
    # what the card says of the uncertainty told the search where to look
    exposure.pointing = None
    return (
        f"the initial WCS was found from {found.n_stars} stars alone, with {found.index_file}: "
        f"{found.pixel_scale:.4g} arcsec a pixel, log odds {found.log_odds:.0f}"
    )
