"""Gray that varies within detectors or smoothly over the focal plane: clouds with structure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from numpy.polynomial import chebyshev

from zeropoint.datamodel.fields import chebyshev_terms
from zeropoint.fgcm.terms.chebyshev import (
    FluxFields,
    constant_fields,
    fit_flux_fields,
    flux_field_magnitudes,
    to_magnitude,
)
from zeropoint.fgcm.terms.gray import DetectorGray, GrayResiduals
from zeropoint.fgcm.terms.groups import BoolArray, FloatArray, group_sums, ratio
from zeropoint.fgcm.terms.robust import robust_group_means

__all__ = ["FocalPlaneForm", "focal_plane_gray", "focal_plane_offsets", "sub_detector_gray"]

#: Points across a detector at which a field over the focal plane becomes one over the detector.
_NODES = 12
#: Least determinant, over that of stars all over the detector, for the map from pixels to the focal plane.
_SINGULAR = 1e-3
#: Stars that such a map needs.
_MAP_STARS = 6
#: Pull, with the excess of scatter about the field in its error, from which on a star is an outlier of it.
_CLIP = 5.0

IndexArray = npt.NDArray[np.integer]
#: The surfaces are given positions from -1 to 1, which this size makes of offset positions.
_UNIT = (2, 2)


def sub_detector_gray(
    constant: DetectorGray,
    residuals: GrayResiduals,
    ec: IndexArray,
    sample: BoolArray,
    x: npt.NDArray[np.floating],
    y: npt.NDArray[np.floating],
    size: tuple[int, int],
    *,
    order: int,
    triangular: bool,
    chosen: BoolArray,
) -> DetectorGray:
    """Fit a field to the gray of each detector of the chosen exposures.

    Parameters
    ----------
    constant
        Gray of the detectors (`zeropoint.fgcm.terms.gray.detector_gray`).
    residuals, ec, sample
        As for it.
    x, y : float, shape (n_obs,)
        Pixel positions.
    size
        Width and height of the detectors in pixels.
    order, triangular
        ``ccdGraySubCcdChebyshevOrder``, ``ccdGraySubCcdTriangular``.
    chosen : bool, shape (n_exp,)
        Exposures whose gray may vary (``ccdGraySubCcdDict`` of their bands).

    Returns
    -------
    gray : DetectorGray
        With coefficients, and the value at the detector's center as the gray. Detectors with fewer than ten stars for each
        parameter, and those of other exposures, have the constant. Outliers of the fields are left out, and errors contain
        the scatter about them.
    """
    n_exp, n_det = constant.gray.shape
    rows = np.flatnonzero(sample & chosen[ec // n_det])
    fields, weight = _robust_fields(
        GrayResiduals(residuals.gray[rows], residuals.variance[rows]), ec[rows], n_exp * n_det, x[rows], y[rows], size, order,
        triangular=triangular,
    )  # fmt: skip
    coefficients = constant_fields(constant.gray.ravel(), order).coefficients
    coefficients[fields.has_shape] = fields.coefficients[fields.has_shape]
    gray, err = constant.gray.copy(), constant.err.copy()
    gray.ravel()[fields.has_shape] = to_magnitude(fields.center_flux[fields.has_shape])
    err.ravel()[fields.has_shape] = 1.0 / np.sqrt(weight[fields.has_shape])
    shape = (n_exp, n_det, order + 1, order + 1)
    return replace(constant, gray=gray, err=err, coefficients=coefficients.reshape(shape))


def _robust_fields(
    residuals: GrayResiduals,
    group: IndexArray,
    n_groups: int,
    x: npt.NDArray[np.floating],
    y: npt.NDArray[np.floating],
    size: tuple[int, int],
    order: int,
    *,
    triangular: bool = False,
    shaped: BoolArray | None = None,
) -> tuple[FluxFields, FloatArray]:
    """Fit fields, and again without outliers and with the excess of scatter; return them and the sums of the weights."""

    def fitted(variance: npt.NDArray[np.floating], kept: npt.NDArray[np.intp]) -> FluxFields:
        return fit_flux_fields(
            residuals.gray[kept], variance[kept], group[kept], n_groups, x[kept], y[kept], size,
            order=order, triangular=triangular, shaped=shaped,
        )  # fmt: skip

    everything = np.arange(len(group))
    fields, variance, kept = fitted(residuals.variance, everything), residuals.variance, everything
    about = residuals.gray - flux_field_magnitudes(fields.coefficients, group, x, y, size)
    found = robust_group_means(
        about, residuals.variance, group, n_groups, np.ones(len(group), bool), n_sigma=_CLIP
    )
    if found.outlier.any() or found.excess.any():
        kept = np.flatnonzero(~found.outlier)
        variance = residuals.variance + found.excess.astype(np.float32)[group]
        fields = fitted(variance, kept)
    return fields, group_sums(1.0 / variance[kept].astype(np.float64), group[kept], n_groups)


def focal_plane_offsets(
    ra: FloatArray,
    dec: FloatArray,
    exposure: IndexArray,
    boresight_ra: FloatArray,
    boresight_dec: FloatArray,
    rotation: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Return where stars fall on the focal plane: gnomonic offsets from the boresight, turned with the camera.

    Parameters
    ----------
    ra, dec : float64, shape (n,)
        Positions of the stars, degrees.
    exposure : int, shape (n,)
        Exposure of each.
    boresight_ra, boresight_dec, rotation : float64, shape (n_exp,)
        Boresight and position angle of the camera, degrees; an unknown angle counts as 0.

    Returns
    -------
    u, v : float64, shape (n,)
        Offsets, degrees.
    """
    d, d0 = np.deg2rad(dec), np.deg2rad(boresight_dec)[exposure]
    da = np.deg2rad(ra - boresight_ra[exposure])
    cosine = np.sin(d) * np.sin(d0) + np.cos(d) * np.cos(d0) * np.cos(da)
    xi = np.rad2deg(np.cos(d) * np.sin(da) / cosine)
    eta = np.rad2deg((np.sin(d) * np.cos(d0) - np.cos(d) * np.sin(d0) * np.cos(da)) / cosine)
    angle = np.deg2rad(np.nan_to_num(rotation))[exposure]
    cos, sin = np.cos(angle), np.sin(angle)
    return eta * sin - xi * cos, eta * cos + xi * sin


@dataclass(frozen=True)
class FocalPlaneForm:
    """How gray becomes a surface over the focal plane.

    Parameters
    ----------
    order
        Order of the surface (``ccdGrayFocalPlaneChebyshevOrder``).
    min_ccd
        Detectors with stars that an exposure needs (``ccdGrayFocalPlaneFitMinCcd``).
    max_stars
        Most stars in a fit; of more, some are drawn (``ccdGrayFocalPlaneMaxStars``).
    seed
        Of the draw, which depends on the exposure beside it.
    sub_order
        Order of the fields over detectors (``ccdGraySubCcdChebyshevOrder``); None: each detector gets a constant.
    sub_triangular
        Whether these leave out terms whose orders add up to more.
    """

    order: int = 3
    min_ccd: int = 1
    max_stars: int = 50000
    seed: int = 0
    sub_order: int | None = None
    sub_triangular: bool = True


@dataclass(frozen=True)
class _Surfaces:
    """Fitted surfaces: coefficients (n_exp, order + 1, order + 1), which exposures have one, positions from -1 to 1."""

    coefficients: FloatArray
    fitted: BoolArray
    u: FloatArray
    v: FloatArray

    def magnitudes(self, exposure: IndexArray, u: FloatArray, v: FloatArray) -> FloatArray:
        return flux_field_magnitudes(self.coefficients, exposure, u + 0.5, v + 0.5, _UNIT)


def focal_plane_gray(
    constant: DetectorGray,
    residuals: GrayResiduals,
    ec: IndexArray,
    sample: BoolArray,
    offsets: tuple[FloatArray, FloatArray],
    x: npt.NDArray[np.floating],
    y: npt.NDArray[np.floating],
    size: tuple[int, int],
    form: FocalPlaneForm,
    chosen: BoolArray,
) -> DetectorGray:
    """Fit a surface over the focal plane to the gray of each of the chosen exposures.

    Parameters
    ----------
    constant
        Gray of the detectors, with or without fields; what is not fitted here stays.
    residuals, ec, sample
        As for `zeropoint.fgcm.terms.gray.detector_gray`.
    offsets : float64, two of shape (n_obs,)
        Positions on the focal plane (`focal_plane_offsets`).
    x, y : float, shape (n_obs,)
        Pixel positions.
    size
        Width and height of the detectors in pixels.
    form
        Orders and limits.
    chosen : bool, shape (n_exp,)
        Exposures with a surface (``ccdGrayFocalPlaneDict`` of their bands).

    Returns
    -------
    gray : DetectorGray
        Of a fitted exposure, the gray of each detector with stars is that of the surface's mean flux over them (with fields,
        their value at the center), and its error that of a surface with as many parameters. Exposures with too few detectors or stars (ten for each parameter), and
        those whose surface is not positive, keep the gray of each detector.
    """
    n_exp, n_det = constant.gray.shape
    rows = np.flatnonzero(sample & chosen[ec // n_det])
    rows = rows[np.isfinite(offsets[0][rows]) & np.isfinite(offsets[1][rows])]
    if len(rows) == 0:
        return constant
    surfaces, weight = _fit_surfaces(residuals, ec // n_det, rows, offsets, form, constant.n_stars)
    on = surfaces.fitted[ec[rows] // n_det]
    rows, u, v = rows[on], surfaces.u[on], surfaces.v[on]
    where = ec[rows]
    flux = 10.0 ** (-0.4 * surfaces.magnitudes(where // n_det, u, v))
    count = np.bincount(where, minlength=n_exp * n_det)
    gray = to_magnitude(ratio(group_sums(flux, where, n_exp * n_det), count)).reshape(n_exp, n_det)
    seen = (count > 0).reshape(n_exp, n_det)
    err = np.sqrt(ratio(float((form.order + 1) ** 2), weight))
    result = replace(
        constant,
        gray=np.where(seen, gray, constant.gray),
        err=np.where(seen, err[:, None], constant.err),
    )
    if form.sub_order is None:
        return result
    return _with_fields(result, constant, surfaces, where, (u, v), (x[rows], y[rows]), size, form, seen)


def _fit_surfaces(
    residuals: GrayResiduals,
    exposure: IndexArray,
    rows: npt.NDArray[np.intp],
    offsets: tuple[FloatArray, FloatArray],
    form: FocalPlaneForm,
    n_stars: npt.NDArray[np.int64],
) -> tuple[_Surfaces, FloatArray]:
    """Return the surfaces, with the positions of all rows, and the sums of the weights of what was fitted."""
    scale = max(float(np.abs(offset[rows]).max()) for offset in offsets)
    u, v = (offset / (scale if scale > 0 else 1.0) for offset in offsets)
    drawn = _draw(rows, exposure[rows], form)
    enough = (n_stars > 0).sum(axis=1) >= max(form.min_ccd, 1)
    fields, weight = _robust_fields(
        GrayResiduals(residuals.gray[drawn], residuals.variance[drawn]), exposure[drawn], len(n_stars),
        u[drawn] + 0.5, v[drawn] + 0.5, _UNIT, form.order, shaped=enough,
    )  # fmt: skip
    return _Surfaces(fields.coefficients, fields.has_shape, u[rows], v[rows]), weight


def _draw(rows: npt.NDArray[np.intp], exposure: IndexArray, form: FocalPlaneForm) -> npt.NDArray[np.intp]:
    """Return at most ``max_stars`` rows of each exposure, in their order."""
    count = np.bincount(exposure)
    if count.max() <= form.max_stars:
        return rows
    keep = np.ones(len(rows), bool)
    for e in np.flatnonzero(count > form.max_stars):
        members = np.flatnonzero(exposure == e)
        chosen = np.random.default_rng((form.seed, int(e))).permutation(len(members))[: form.max_stars]
        keep[members] = False
        keep[members[chosen]] = True
    return rows[keep]


def _with_fields(
    result: DetectorGray,
    constant: DetectorGray,
    surfaces: _Surfaces,
    ec: IndexArray,
    position: tuple[FloatArray, FloatArray],
    pixels: tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]],
    size: tuple[int, int],
    form: FocalPlaneForm,
    seen: BoolArray,
) -> DetectorGray:
    """Turn the surface into a field over each detector, through the map from pixels that its stars give."""
    n_exp, n_det = result.gray.shape
    order = int(form.sub_order or 0)
    fields = constant_fields(np.where(seen, result.gray, constant.gray).ravel(), order).coefficients
    if constant.coefficients is not None:
        kept = ~seen.ravel()
        fields[kept] = constant.coefficients.reshape(fields.shape)[kept]
    maps, known = _pixel_maps(ec, position, pixels, size, n_exp * n_det)
    groups = np.flatnonzero(known)
    nodes = np.cos(np.pi * (np.arange(_NODES) + 0.5) / _NODES)
    s, t = (values.ravel() for values in np.meshgrid(nodes, nodes))
    design = np.stack([np.ones_like(s), s, t])
    place = maps[groups] @ design
    owner = np.repeat(groups // n_det, design.shape[1])
    magnitudes = surfaces.magnitudes(owner, place[:, 0].ravel(), place[:, 1].ravel())
    flux = 10.0 ** (-0.4 * magnitudes).reshape(len(groups), -1)
    terms = chebyshev_terms(order, order, triangular=form.sub_triangular)
    ts, tt = chebyshev.chebvander(s, order), chebyshev.chebvander(t, order)
    basis = np.stack([tt[:, j] * ts[:, i] for j, i in terms], axis=1)
    solution = flux @ np.linalg.pinv(basis).T
    found = np.zeros((len(groups), order + 1, order + 1))
    for k, (j, i) in enumerate(terms):
        found[:, j, i] = solution[:, k]
    fields[groups] = found
    gray = result.gray.copy()
    center = np.einsum("gij,i,j->g", found, *(2 * [chebyshev.chebvander(0.0, order).ravel()]))
    gray.ravel()[groups] = to_magnitude(center)
    return replace(result, gray=gray, coefficients=fields.reshape(n_exp, n_det, order + 1, order + 1))


def _pixel_maps(
    ec: IndexArray,
    position: tuple[FloatArray, FloatArray],
    pixels: tuple[npt.NDArray[np.floating], npt.NDArray[np.floating]],
    size: tuple[int, int],
    n: int,
) -> tuple[FloatArray, BoolArray]:
    """Return the linear maps of each group from pixels (-1 to 1) to the focal plane, (n, 2, 3), and where there is one."""
    s, t = ((2.0 * np.asarray(p, np.float64) + 1.0 - w) / w for p, w in zip(pixels, size))
    columns = (np.ones_like(s), s, t)
    normal = np.zeros((n, 3, 3))
    right = np.zeros((n, 2, 3))
    for i in range(3):
        for j in range(i + 1):
            normal[:, i, j] = normal[:, j, i] = group_sums(columns[i] * columns[j], ec, n)
        for k in range(2):
            right[:, k, i] = group_sums(columns[i] * position[k], ec, n)
    count = normal[:, 0, 0].copy()
    known = count >= _MAP_STARS
    # a detector covered evenly has the determinant count^3 / 9
    known &= np.linalg.det(normal) > _SINGULAR / 9.0 * count**3
    maps = np.full((n, 2, 3), np.nan)
    maps[known] = np.linalg.solve(normal[known], right[known].transpose(0, 2, 1)).transpose(0, 2, 1)
    return maps, known
