"""PSF models to and from Piff and ``lsst.images``.

Piff and GalSim are imported when a function is called: they are not needed to fit or evaluate a PSF.
"""

from __future__ import annotations

from math import comb
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from zeropoint.datamodel.psf_model import GaussianPsf, PixelGridPsf, PsfModel

if TYPE_CHECKING:
    import piff
    from lsst.images import Box
    from lsst.images.psfs import PointSpreadFunction

__all__ = ["PiffPsf", "from_lsst_psf", "from_piff", "is_convertible", "to_lsst_psf", "to_piff"]

FloatArray = npt.NDArray[np.float64]


class PiffPsf(PsfModel):
    """Any Piff PSF as a `PsfModel`, for models that have no pixel-grid form here (sky coordinates, colours).

    Parameters
    ----------
    impl
        The Piff PSF.
    size
        Odd stamp side, pixels.
    average_position
        Mean (x, y) of the stars used.
    properties
        Values of further interpolation properties (such as ``colorValue``) at which it is drawn.
    """

    def __init__(
        self,
        impl: piff.PSF,
        size: int,
        average_position: tuple[float, float],
        properties: dict[str, float] | None = None,
    ) -> None:
        self.impl = impl
        self.size = int(size)
        self.average_position = average_position
        self.properties = dict(properties or {})

    def _draw(self, x: Any, y: Any, center: bool | None) -> FloatArray:
        x, y = np.atleast_1d(np.asarray(x, np.float64)), np.atleast_1d(np.asarray(y, np.float64))
        stamps = np.empty((len(x), self.size, self.size))
        for k in range(len(x)):
            image = self.impl.draw(
                float(x[k]), float(y[k]), stamp_size=self.size, center=center, **self.properties
            )
            stamps[k] = image.array / image.array.sum()
        return stamps

    def star_stamps(self, *, x: Any, y: Any) -> np.ndarray:
        """See `PsfModel.star_stamps`."""
        return self._draw(x, y, None)

    def kernel_stamps(self, *, x: Any, y: Any) -> np.ndarray:
        """See `PsfModel.kernel_stamps`."""
        return self._draw(x, y, True)


def _substitute(exponents: np.ndarray, slope: float, x_shift: float, y_shift: float) -> FloatArray:
    """Return B with ``(slope x + x_shift)^i (slope y + y_shift)^j = sum_t B[s, t] x^a y^b``, (i, j) = row s."""
    rows = [(int(i), int(j)) for i, j in exponents]
    result = np.zeros((len(rows), len(rows)))
    for s, (i, j) in enumerate(rows):
        for t, (a, b) in enumerate(rows):
            if a <= i and b <= j:
                result[s, t] = (
                    comb(i, a) * comb(j, b) * slope ** (a + b) * x_shift ** (i - a) * y_shift ** (j - b)
                )
    return result


def to_piff(
    model: PixelGridPsf,
    *,
    pixel_scale: float = 1.0,
    star_x: npt.ArrayLike | None = None,
    star_y: npt.ArrayLike | None = None,
) -> piff.PSF:
    """Return a pixel-grid model as an ordinary Piff PSF.

    Parameters
    ----------
    model
        The model.
    pixel_scale
        Arcsec per pixel that Piff is told; profiles drawn in pixels do not depend on it.
    star_x, star_y : float, shape (n,)
        Positions of the stars that made the model; default one at the average position.

    Returns
    -------
    psf
        A ``SimplePSF`` of ``PixelGrid`` and ``BasisPolynomial`` in raw pixel coordinates, with a ``PixelScale``
        WCS and stars that carry positions but no pixels.
    """
    import galsim
    import piff

    order = int(model.exponents.sum(axis=1).max())
    grid = model.coefficients.shape[1]
    basis = piff.BasisPolynomial(order=order, keys=("x", "y"))
    wanted = [(i, j) for i in range(order + 1) for j in range(order + 1 - i)]
    own = {(int(i), int(j)): k for k, (i, j) in enumerate(model.exponents)}
    full = np.zeros((len(wanted), grid, grid))
    for k, key in enumerate(wanted):
        if key in own:
            full[k] = model.coefficients[own[key]]
    change = _substitute(
        np.array(wanted), 1.0 / model.norm, -model.x_ref / model.norm, -model.y_ref / model.norm
    )
    basis.q = np.ascontiguousarray(full.reshape(len(wanted), -1).T @ change)
    profile = piff.PixelGrid(
        scale=pixel_scale * model.scale,
        size=grid,
        interp=f"Lanczos({model.lanczos})",
        centered=True,
    )
    psf = piff.SimplePSF(profile, basis, max_iter=1)
    wcs = galsim.PixelScale(pixel_scale)
    psf.wcs = {0: wcs}
    psf.pointing = None
    ax, ay = model.average_position
    xs = np.atleast_1d(np.asarray([ax] if star_x is None else star_x, np.float64))
    ys = np.atleast_1d(np.asarray([ay] if star_y is None else star_y, np.float64))
    psf.stars = [
        piff.Star.makeTarget(x=float(x), y=float(y), wcs=wcs, stamp_size=1, properties={"chipnum": 0})
        for x, y in zip(xs, ys)
    ]
    return psf


def is_convertible(psf: piff.PSF) -> bool:
    """Say whether `from_piff` accepts a Piff PSF: a Lanczos PixelGrid, polynomial in x and y, one plain WCS."""
    import galsim
    import piff

    return (
        isinstance(psf, piff.SimplePSF)
        and isinstance(psf.model, piff.PixelGrid)
        and isinstance(psf.model.interp, galsim.Lanczos)
        and isinstance(psf.interp, piff.BasisPolynomial)
        and tuple(psf.interp._keys) in {("x", "y"), ("u", "v")}
        and len(set(psf.interp._orders)) == 1
        and len(psf.wcs) == 1
        and isinstance(next(iter(psf.wcs.values())), galsim.PixelScale)
        and psf.pointing is None
    )


def from_piff(
    psf: piff.PSF, *, size: int, x_ref: float = 0.0, y_ref: float = 0.0, norm: float = 1.0
) -> PixelGridPsf:
    """Return a Piff PSF as a pixel-grid model.

    Parameters
    ----------
    psf
        A Piff PSF for which `is_convertible` holds.
    size
        Odd stamp side, pixels.
    x_ref, y_ref, norm
        Centre and half-size of the detector, to which polynomials are normalised.

    Raises
    ------
    ValueError
        If the PSF has another form.
    """
    if not is_convertible(psf):
        raise ValueError("Only a Lanczos PixelGrid with a BasisPolynomial of x and y has a pixel-grid form.")
    wcs = next(iter(psf.wcs.values()))
    grid = psf.model.size
    exponents = np.argwhere(psf.interp._mask).astype(np.int64)
    q = psf.interp.q.T.reshape(-1, grid * grid)
    if tuple(psf.interp._keys) == ("u", "v"):
        q = q * wcs.scale ** exponents.sum(axis=1)[:, None]
    coefficients = _substitute(exponents, norm, x_ref, y_ref).T @ q
    used = [s for s in getattr(psf, "stars", []) if not s.is_flagged and not s.is_reserve]
    centre = (
        (float(np.mean([s.image_pos.x for s in used])), float(np.mean([s.image_pos.y for s in used])))
        if used
        else (x_ref, y_ref)
    )
    return PixelGridPsf(
        coefficients.reshape(-1, grid, grid),
        exponents,
        x_ref=x_ref,
        y_ref=y_ref,
        norm=norm,
        size=size,
        scale=psf.model.scale / wcs.scale,
        lanczos=round(psf.model.interp.xrange),
        average_position=centre,
    )


def to_lsst_psf(
    model: PsfModel,
    bounds: Box,
    *,
    pixel_scale: float = 1.0,
    star_x: npt.ArrayLike | None = None,
    star_y: npt.ArrayLike | None = None,
) -> PointSpreadFunction:
    """Return a model as the PSF of an ``lsst.images`` image.

    Parameters
    ----------
    model
        A pixel-grid, Gaussian or Piff model.
    bounds
        Where it may be evaluated: the image's box.
    pixel_scale, star_x, star_y
        See `to_piff`.

    Raises
    ------
    TypeError
        If the kind of model has no form in ``lsst.images``.
    """
    from lsst.images.psfs import GaussianPointSpreadFunction, PiffWrapper

    if isinstance(model, GaussianPsf):
        return GaussianPointSpreadFunction(sigma=model.sigma_pix, bounds=bounds, stamp_size=model.size)
    if isinstance(model, PixelGridPsf):
        impl = to_piff(model, pixel_scale=pixel_scale, star_x=star_x, star_y=star_y)
        return PiffWrapper(impl, bounds, model.size)
    if isinstance(model, PiffPsf):
        return PiffWrapper(model.impl, bounds, model.size)
    raise TypeError(f"A {type(model).__name__} has no form in lsst.images.")


def from_lsst_psf(psf: PointSpreadFunction) -> PsfModel:
    """Return the PSF of an ``lsst.images`` image as a model.

    Raises
    ------
    TypeError
        If the kind of PSF is not known here.
    """
    from lsst.images.psfs import GaussianPointSpreadFunction, PiffWrapper

    box = psf.bounds.bbox
    centre = (0.5 * (box.x.min + box.x.max), 0.5 * (box.y.min + box.y.max))
    if isinstance(psf, GaussianPointSpreadFunction):
        return GaussianPsf(psf.sigma, psf.kernel_bbox.x.size, centre)
    if isinstance(psf, PiffWrapper):
        size = psf.kernel_bbox.x.size
        if is_convertible(psf.piff_psf):
            norm = 0.5 * max(box.x.size, box.y.size)
            return from_piff(psf.piff_psf, size=size, x_ref=centre[0], y_ref=centre[1], norm=norm)
        return PiffPsf(psf.piff_psf, size, centre)
    raise TypeError(f"A {type(psf).__name__} is not a PSF known here.")
