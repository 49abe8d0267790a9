"""Reference magnitudes of the stars of a fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from astropy.table import Table

from zeropoint.errors import InvalidInputError
from zeropoint.fgcm.accounting import Accounting
from zeropoint.fgcm.flags import StarFlag
from zeropoint.fgcm.magnitudes import MAG_PER_LN
from zeropoint.fgcm.model.exposures import FitExposures
from zeropoint.fgcm.model.observations import FitStars
from zeropoint.fgcm.model.passband_source import PassbandSource
from zeropoint.fgcm.model.sed import MAX_SLOPE
from zeropoint.fgcm.model.settings import FitDataSettings
from zeropoint.fgcm.model.star_tables import StarColumns, hashed_uniform

__all__ = ["load_references"]

_NO_MAGNITUDE = 90.0
#: Added to the seed, so that the choice of references is not that of reserved stars.
_SALT = 0x5EF


def load_references(
    reader: StarColumns,
    stars: FitStars,
    visits: Table,
    exposures: FitExposures,
    passbands: PassbandSource,
    settings: FitDataSettings,
    accounting: Accounting,
) -> FitStars:
    """Return the stars with their reference magnitudes.

    Parameters
    ----------
    reader
        ``fgcmReferenceStars`` or ``fgcm_reference_stars``.
    stars
        By fgcm_id.
    visits
        ``fgcmVisitCatalog``: its metadata say which band a filter is of.
    exposures, passbands, settings
        Of the fit.
    accounting
        Gets the stage ``fit_references``.

    Returns
    -------
    stars : FitStars
        If more stars than ``ref_star_max_frac_use`` have a reference, the excess is flagged REFSTAR_RESERVED: those whose id
        has the largest hashes.

    Raises
    ------
    InvalidInputError
        If the magnitudes are in other filters than the table's metadata say, or none of them is of a band.
    """
    ids = reader.column("fgcm_id").astype(np.int64)
    mag, err = (np.array(reader.column(name), np.float32) for name in ("ref_mag", "ref_mag_err"))
    names = [str(name) for name in reader.meta.get("FILTERNAMES", _standard_filters(exposures, passbands))]
    columns = _band_columns(reader, visits, exposures, settings, names, mag.shape[1] if mag.ndim == 2 else 1)
    mag, err = mag.reshape(len(ids), -1), err.reshape(len(ids), -1)
    # of duplicates the most precise counts, whatever their order
    order = np.lexsort((mag[:, 0], err[:, 0], ids))
    first = np.zeros(len(ids), np.bool_)
    first[order[np.unique(ids[order], return_index=True)[1]]] = True
    place = np.minimum(np.searchsorted(stars.fgcm_id, ids), len(stars) - 1)
    known = stars.fgcm_id[place] == ids
    if len(ids) and 2 * int(known.sum()) < len(ids):
        raise InvalidInputError(
            f"{reader.name} has {int((~known).sum())} of {len(ids)} references of stars that the star list does not have: the tables "
            "are of different star lists; make the star list again, or give all tables of one."
        )
    ref_mag, ref_err = stars.ref_mag.copy(), stars.ref_err.copy()
    taken = np.zeros(len(ids), np.bool_)
    n_faint = 0
    for band, column in columns.items():
        there = first & known & (np.abs(mag[:, column]) < _NO_MAGNITUDE) & (err[:, column] > 0)
        good = there & (err[:, column] <= MAG_PER_LN / settings.ref_star_sn_min)
        n_faint += int(np.count_nonzero(there & ~good))
        ref_mag[place[good], band], ref_err[place[good], band] = mag[good, column], err[good, column]
        taken |= good
    slope = _catalog_slopes(reader, stars, exposures, settings, names, (mag, err), first & known, place)
    flag = stars.flag.copy()
    matched = np.flatnonzero(np.isfinite(ref_mag).any(axis=1))
    n_most = int(settings.ref_star_max_frac_use * len(stars))
    n_excess = max(len(matched) - n_most, 0)
    if n_excess:
        drawn = hashed_uniform(stars.fgcm_id[matched], settings.random_seed + _SALT)
        flag[matched[np.argsort(drawn, kind="stable")[n_most:]]] |= np.int32(StarFlag.REFSTAR_RESERVED)
    rejected = {
        "duplicate": int((~first).sum()),
        "no_star": int((first & ~known).sum()),
        "no_good_magnitude": int((first & known & ~taken).sum()),
    }
    accounting.add(
        "fit_references", read=len(ids), kept=int(taken.sum()), rejected=rejected,
        noted={"reserved": n_excess, "magnitudes_below_refStarSnMin": n_faint},
    )  # fmt: skip
    return replace(stars, ref_mag=ref_mag, ref_err=ref_err, flag=flag, catalog_slope=slope)


def _catalog_slopes(
    reader: StarColumns,
    stars: FitStars,
    exposures: FitExposures,
    settings: FitDataSettings,
    names: list[str],
    magnitudes: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    taken: npt.NDArray[np.bool_],
    place: npt.NDArray[np.integer],
) -> npt.NDArray[np.float32] | None:
    """Return the slopes of spectra that reference magnitudes tell, (n_star, n_band); None where none are asked for."""
    if not settings.catalog_slopes:
        return None
    slopes = np.full((len(stars), exposures.n_band), np.nan, np.float32)
    for band, each in settings.catalog_slopes.items():
        missing = [name for name in (each.first, each.second) if name not in names]
        if missing or band not in exposures.bands:
            what = f"the band {band}" if not missing else f"{missing[0]} of {reader.name}"
            raise InvalidInputError(
                f"catalogSlopes[{band!r}] names {what}, which there is not; bands are {', '.join(exposures.bands)}, reference "
                f"magnitudes are in {', '.join(names)}."
            )
        (a, b), (mag, err) = (names.index(name) for name in (each.first, each.second)), magnitudes
        good = taken & (np.abs(mag[:, (a, b)]) < _NO_MAGNITUDE).all(axis=1) & (err[:, (a, b)] > 0).all(axis=1)
        color = mag[good, a] - mag[good, b]
        factor = -each.constant / (each.first_wavelength - each.second_wavelength) / MAG_PER_LN
        slopes[place[good], exposures.bands.index(band)] = np.clip(factor * color, -MAX_SLOPE, MAX_SLOPE)
    return slopes


def _band_columns(
    reader: StarColumns,
    visits: Table,
    exposures: FitExposures,
    settings: FitDataSettings,
    names: list[str],
    n_columns: int,
) -> dict[int, int]:
    """Return band -> column of the reference magnitudes."""
    bands: Mapping[str, str] = settings.filter_bands or visits.meta.get("BANDS", {})
    if len(names) != n_columns:
        raise InvalidInputError(
            f"{reader.name} has magnitudes in {n_columns} filters, but the visits' standard filters are {', '.join(names)}: is it "
            "of another star list or look-up table?"
        )
    columns = {
        exposures.bands.index(bands[name]): k
        for k, name in enumerate(names)
        if bands.get(name) in exposures.bands
    }
    if not columns:
        raise InvalidInputError(
            f"{reader.name} has magnitudes in {', '.join(names)}, none of which is of the bands {', '.join(exposures.bands)}."
        )
    return columns


def _standard_filters(exposures: FitExposures, passbands: PassbandSource) -> list[str]:
    """Return the standard filters of the visits by wavelength: the columns of a table that lost its metadata."""
    used: npt.NDArray[np.int16] = np.unique(exposures.filter[exposures.filter >= 0])
    wavelength = dict(zip(passbands.std_physical_filters, passbands.lambda_std.tolist(), strict=True))
    names = {passbands.std_physical_filters[k] for k in used.tolist()}
    return sorted(names, key=lambda name: (wavelength[name], name))
