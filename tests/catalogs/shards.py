"""Small reference catalogues in Rubin's shard format, written for the tests."""

import numpy as np
from astropy.io import fits

from zeropoint.catalogs.htm import htm_index


def write_shard(path, *, ra, dec, flux, version=1, flux_unit="nJy", extra=(), aliases=()):
    """Write one table as afw writes SimpleCatalogs: flag bits in one column, long keywords."""
    n = len(ra)
    flags = np.zeros((n, 2), bool)
    flags[::2, 1] = True
    columns = [
        fits.Column("flags", "2X", array=flags),
        fits.Column("id", "K", array=np.arange(n) + 1),
        fits.Column("coord_ra", "D", unit="rad", array=ra),
        fits.Column("coord_dec", "D", unit="rad", array=dec),
        fits.Column("r_flux", "D", unit=flux_unit, array=flux),
        fits.Column("r_fluxErr", "D", unit=flux_unit, array=np.asarray(flux) * 0.01),
        *[fits.Column(name, kind, unit=unit, array=values) for name, kind, unit, values in extra],
    ]
    hdu = fits.BinTableHDU.from_columns(columns)
    hdu.header["FLAGCOL"] = 1
    hdu.header["TFLAG1"], hdu.header["TFLAG2"] = "photometric", "resolved"
    hdu.header["AFW_TYPE"] = "SIMPLE"
    if version is not None:
        hdu.header["HIERARCH REFCAT_FORMAT_VERSION"] = version
    for alias in aliases:
        hdu.header.append(("ALIAS", alias), end=True)
    hdu.writeto(path)


def write_directory(directory, *, ra, dec, flux, depth=7, **settings):
    """Write rows to one shard per trixel."""
    index = htm_index(ra, dec, depth)
    extra = settings.pop("extra", ())
    for trixel in np.unique(index):
        rows = index == trixel
        write_shard(
            directory / f"{trixel}.fits",
            ra=ra[rows],
            dec=dec[rows],
            flux=flux[rows],
            extra=[(name, kind, unit, values[rows]) for name, kind, unit, values in extra],
            **settings,
        )
    return np.unique(index)
