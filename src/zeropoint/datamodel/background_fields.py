"""Subtracted backgrounds as lsst-images fields, the form in which they are stored and shared, and back."""

from __future__ import annotations

from typing import Any

import astropy.units as u
import numpy as np
from lsst.images import BackgroundMap, Box
from lsst.images.fields import ChebyshevField, ProductField, SplineField, SumField

from zeropoint.datamodel.background import MIN_POINTS, BackgroundComponent, BackgroundList
from zeropoint.datamodel.fields import ChebyshevPolynomial
from zeropoint.errors import InvalidInputError

__all__ = ["background_list", "background_map", "chebyshev_field", "chebyshev_polynomial"]

#: What lsst-images makes of cells.
_SPLINE = "AKIMA_SPLINE"
_STYLES = {"CHEBYSHEV", *MIN_POINTS}


def background_map(
    background: BackgroundList | None, unit: u.UnitBase | None, *, cells: bool = False
) -> BackgroundMap:
    """Return the subtracted background as lsst-images fields, one per component plus their sum as subtracted.

    Parameters
    ----------
    background
        Components; None for nothing.
    unit
        Unit of the pixels.
    cells
        Add, as ``cells_<i>``, what component ``i`` was fitted to where the field does not say it, so that
        `background_list` gives the very same background back.
    """
    result = BackgroundMap()
    if background is None or len(background) == 0:
        return result
    fields = [_background_field(component, unit) for component in background]
    total = fields[0] if len(fields) == 1 else SumField(fields)
    result.add("subtracted", total, "Sum of all subtracted backgrounds.", is_subtracted=True)
    for i, component in enumerate(background):
        if cells and component.style != _SPLINE:
            what = f"{component.style} of the cells of component {i}; these are not subtracted."
            result.add(f"cells_{i}", _spline(component, unit), what)
    return result


def background_list(background: BackgroundMap) -> BackgroundList:
    """Return the subtracted background of a map, which may come from elsewhere.

    Parameters
    ----------
    background
        Fields: splines, Chebyshev polynomials, products of both, and sums of these. A map from `background_map` with
        ``cells`` gives the components back bit for bit, without the errors of their cells.

    Raises
    ------
    InvalidInputError
        If the subtracted background has fields of another kind.
    """
    if background.subtracted is None:
        return BackgroundList()
    field: Any = background.subtracted.field
    operands = field.operands if isinstance(field, SumField) else (field,)
    components = []
    for i, operand in enumerate(operands):
        cells = background.get(f"cells_{i}")
        style = "" if cells is None else cells.description.partition(" ")[0]
        known = cells is not None and isinstance(cells.field, SplineField) and style in _STYLES
        components.append(
            _component(operand, cells.field if known else None, style)  # type: ignore[union-attr]
        )
    return BackgroundList(components)


def chebyshev_field(polynomial: ChebyshevPolynomial, unit: u.UnitBase | None) -> ChebyshevField:
    """Return a Chebyshev polynomial over an image as an lsst-images field."""
    return ChebyshevField(
        _box(polynomial.width, polynomial.height), np.array(polynomial.coefficients), unit=unit
    )


def chebyshev_polynomial(field: Any) -> ChebyshevPolynomial:
    """Return an lsst-images field as a Chebyshev polynomial that counts pixels from the field's first.

    Raises
    ------
    TypeError
        If it is another kind of field.
    """
    if not isinstance(field, ChebyshevField):
        raise TypeError(f"A {type(field).__name__} is no Chebyshev polynomial.")
    box = field.bounds.bbox
    return ChebyshevPolynomial(box.x.size, box.y.size, np.array(field.coefficients, np.float64))


def _background_field(component: BackgroundComponent, unit: u.UnitBase | None) -> Any:
    if component.polynomial is not None:
        return chebyshev_field(component.polynomial, unit)
    spline = _spline(component, unit)
    return (
        spline
        if component.factor is None
        else ProductField([spline, chebyshev_field(component.factor, None)])
    )


def _spline(component: BackgroundComponent, unit: u.UnitBase | None) -> SplineField:
    return SplineField(
        _box(component.width, component.height),
        component.values.copy(),
        y=component.y_centers.copy(),
        x=component.x_centers.copy(),
        unit=unit,
    )


def _component(field: Any, cells: SplineField | None, style: str) -> BackgroundComponent:
    """Return a field as a component; ``cells`` and ``style`` complete it where they are known."""
    factor = None
    if isinstance(field, ProductField) and len(field.operands) == 2:
        first, second = field.operands
        if isinstance(first, SplineField) and isinstance(second, ChebyshevField):
            field, factor = first, chebyshev_polynomial(second)
    box = field.bounds.bbox
    if isinstance(field, ChebyshevField):
        polynomial = chebyshev_polynomial(field)
        if cells is None:  # its value in the middle stands for the cells
            x, y = np.array([0.5 * (box.x.size - 1)]), np.array([0.5 * (box.y.size - 1)])
            return _of_cells(polynomial(x=x, y=y)[None], x, y, box, "CHEBYSHEV", polynomial=polynomial)
        return _of_cells(cells.data, cells.x, cells.y, box, style, polynomial=polynomial)
    if isinstance(field, SplineField):
        x0, y0 = box.x.start, box.y.start
        return _of_cells(field.data, field.x - x0, field.y - y0, box, style or _SPLINE, factor=factor)
    raise InvalidInputError(f"A background of the kind {type(field).__name__} cannot be used.")


def _of_cells(
    values: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    box: Box,
    style: str,
    *,
    polynomial: ChebyshevPolynomial | None = None,
    factor: ChebyshevPolynomial | None = None,
) -> BackgroundComponent:
    values = np.array(values, np.float64)
    errors = np.full(values.shape, np.nan)
    return BackgroundComponent(
        values,
        errors,
        np.array(x, np.float64),
        np.array(y, np.float64),
        box.x.size,
        box.y.size,
        style,
        polynomial=polynomial,
        factor=factor,
    )


def _box(width: int, height: int) -> Box:
    return Box.factory[0:height, 0:width]
