"""Mask planes from a camera's own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

from zeropoint.datamodel.mask_planes import bitmask
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.values import ImageContext

__all__ = ["read_mask"]


def read_mask(context: ImageContext, shape: tuple[int, ...]) -> np.ndarray:
    """Return the int32 mask of an image as its camera card describes it; zeros without a mask entry.

    Raises
    ------
    InvalidInputError
        If the mask file or HDU is missing or has another shape.
    """
    mask = np.zeros(shape, np.int32)
    spec = context.card.get("mask")
    if not spec:
        return mask
    path = Path(context.expand(str(spec["file"]))) if "file" in spec else context.path
    if not path.exists():
        if spec.get("optional"):
            return mask
        raise InvalidInputError(
            f"{context.path}: the mask file {path} does not exist; put it there, or set mask.optional in the camera card."
        )
    kind = spec.get("kind", "bits")
    try:
        with fits.open(path, memmap=False) as hdus:
            if kind == "sdss":
                _paint_runs(mask, hdus, spec.get("planes") or {})
                return mask
            raw = np.array(hdus[spec.get("hdu", 0)].data)
    except (KeyError, IndexError):
        if spec.get("optional"):
            return mask
        raise InvalidInputError(
            f"{path}: has no mask HDU {spec.get('hdu', 0)!r}; correct mask.hdu in {context.card.source}."
        ) from None
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be read as FITS ({error}).") from None
    if raw.shape != shape:
        raise InvalidInputError(f"{path}: the mask has shape {raw.shape}, the image {shape}.")
    return _decode(context, raw, kind, spec)


def _decode(context: ImageContext, raw: np.ndarray, kind: str, spec: dict[str, Any]) -> np.ndarray:
    if kind == "zeropoint":
        return raw.astype(np.int32)
    planes = spec.get("planes") or {}
    mask = np.zeros(raw.shape, np.int32)
    if kind == "nonzero":
        mask[raw != 0] = np.int32(bitmask(["BAD"]))
    elif kind == "bits":
        values = raw.astype(np.int64)
        for plane, bits in planes.items():
            select = 0
            for bit in np.atleast_1d(bits):
                select |= 1 << int(bit)
            mask[(values & select) != 0] |= np.int32(bitmask([plane]))
    elif kind == "values":
        for plane, numbers in planes.items():
            mask[np.isin(raw, np.atleast_1d(numbers))] |= np.int32(bitmask([plane]))
    else:
        raise InvalidInputError(
            f"Camera card {context.card.source}: mask.kind is {kind!r}; use bits, values, nonzero, sdss or zeropoint."
        )
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
