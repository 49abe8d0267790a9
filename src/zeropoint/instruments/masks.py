"""Mask planes from a camera's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.companions import companion_file
from zeropoint.instruments.image_file import read_plane
from zeropoint.instruments.values import ImageContext

__all__ = ["read_mask"]


def read_mask(context: ImageContext, shape: tuple[int, ...]) -> npt.NDArray[np.int32]:
    """Return the int32 mask of an image as its camera card describes it; zeros without a mask entry.

    Parameters
    ----------
    context
        The image.
    shape
        (height, width) of the image.

    Raises
    ------
    InvalidInputError
        If the mask file or HDU is missing or has another shape.
    """
    spec, path = context.card.get("mask"), companion_file(context, "mask")
    if path is None:
        return np.zeros(shape, np.int32)
    kind, planes = spec.get("kind", "bits"), spec.get("planes") or {}
    if kind == "sdss":
        return _read_runs(path, shape, planes)
    try:
        raw = read_plane(path, spec.get("hdu", 0))
    except KeyError:
        if spec.get("optional"):
            return np.zeros(shape, np.int32)
        raise InvalidInputError(
            f"{path}: has no mask image in HDU {spec.get('hdu', 0)!r}; correct mask.hdu in {context.card.source}."
        ) from None
    if raw.shape != shape:
        raise InvalidInputError(
            f"{path}: the mask has {_size(raw.shape)} pixels, the image {context.path.name} {_size(shape)}."
        )
    return _decode(context, path, raw, kind, planes)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in reversed(shape))


def _decode(
    context: ImageContext, path: Path, raw: npt.NDArray[Any], kind: str, planes: dict[str, Any]
) -> npt.NDArray[np.int32]:
    """Translate the camera's mask values to our planes."""
    if kind == "nonzero":
        return np.where(raw != 0, np.int32(bitmask(["BAD"])), np.int32(0))
    if raw.dtype.kind not in "iu" and not np.array_equal(raw, np.rint(raw)):
        raise InvalidInputError(
            f"{path}: the mask holds numbers that are not integers; use mask.kind: nonzero, or correct mask.hdu in "
            f"{context.card.source}."
        )
    if kind == "zeropoint":
        return raw.astype(np.int32)
    values = raw.astype(np.int64)
    mask = np.zeros(raw.shape, np.int32)
    for plane, numbers in planes.items():
        wanted = _integers(context, plane, numbers, largest=62 if kind == "bits" else None)
        if kind == "bits":
            select = sum(1 << number for number in set(wanted))
            mask[(values & select) != 0] |= np.int32(bitmask([plane]))
        else:
            mask[np.isin(values, wanted)] |= np.int32(bitmask([plane]))
    return mask


def _integers(context: ImageContext, plane: str, numbers: Any, largest: int | None) -> list[int]:
    """Return one number or a list of them as integers."""
    result = numbers if isinstance(numbers, list) else [numbers]
    for number in result:
        if (
            not isinstance(number, int)
            or isinstance(number, bool)
            or (largest and not 0 <= number <= largest)
        ):
            limits = f"a bit number from 0 to {largest}" if largest else "an integer"
            raise InvalidInputError(
                f"Camera card {context.card.source}: mask.planes.{plane} has {number!r}, which is not {limits}."
            )
    return result


def _read_runs(path: Path, shape: tuple[int, ...], planes: dict[str, Any]) -> npt.NDArray[np.int32]:
    """Return the mask of an SDSS fpM file: one table of runs a mask type."""
    mask = np.zeros(shape, np.int32)
    try:
        with fits.open(path, memmap=False) as hdus:
            _paint_runs(mask, hdus, planes)
    except Exception as error:
        raise InvalidInputError(f"{path}: cannot be read as an SDSS mask ({error}).") from None
    return mask


def _paint_runs(mask: np.ndarray, hdus: fits.HDUList, planes: dict[str, Any]) -> None:
    """Paint SDSS fpM masks in place: one table a mask type, rows of runs (y, x0, x1)."""
    height, width = mask.shape
    for plane, kinds in planes.items():
        bit = np.int32(bitmask([plane]))
        for kind in np.atleast_1d(kinds):
            data = hdus[int(kind) + 1].data
            if data is None:
                continue
            for row in data:
                runs = np.asarray(row["s"], np.uint8)
                # each span is six bytes: three big-endian 16-bit numbers y, x0, x1
                spans = runs[: len(runs) // 6 * 6].view(">u2").reshape(-1, 3).astype(int)
                for y, x0, x1 in spans:
                    if y < height and x0 < width:
                        mask[y, x0 : min(x1, width - 1) + 1] |= bit
