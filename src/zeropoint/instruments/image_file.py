"""Open a FITS file and find its image."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from astropy.io import fits

from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard
from zeropoint.instruments.values import ImageContext

__all__ = ["open_headers", "open_image", "read_plane"]


def open_image(path: str | Path, card: CameraCard) -> tuple[ImageContext, npt.NDArray[np.float32]]:
    """Open a FITS file and return its headers and the image array (ADU, float32, as stored).

    Parameters
    ----------
    path
        FITS file: plain, gzipped or tile-compressed.
    card
        Camera card; its ``image.hdu`` says where the image is, else the first 2-d image is taken.

    Returns
    -------
    context : ImageContext
    adu : float32, shape (height, width)

    Raises
    ------
    InvalidInputError
        If the file is missing, is not FITS, is truncated, or has no 2-d image where the card says.
    """
    with _opened(Path(path)) as hdus:
        context = _context(Path(path), card, hdus)
        data = _as_float32(hdus[context.image_hdu].data)
    return context, data


def open_headers(path: str | Path, card: CameraCard) -> tuple[ImageContext, tuple[int, int]]:
    """Open a FITS file and return its headers and the image's (height, width), without its pixels.

    Parameters and errors are those of `open_image`; damage to compressed pixels is not noticed.
    """
    with _opened(Path(path)) as hdus:
        context = _context(Path(path), card, hdus)
        shape = hdus[context.image_hdu].shape
    return context, (int(shape[-2]), int(shape[-1]))


@contextmanager
def _opened(path: Path) -> Iterator[fits.HDUList]:
    """Open a FITS file; whatever is wrong with it is an InvalidInputError."""
    if path.is_dir():
        raise InvalidInputError(f"{path}: is a directory; name the FITS files in it.")
    if not path.exists():
        raise InvalidInputError(f"{path}: no such file.")
    try:
        with _strict_open(path) as hdus:
            yield hdus
    except InvalidInputError:
        raise
    except Exception as error:
        raise InvalidInputError(f"{path}: {_why_unreadable(error)}") from None


def _context(path: Path, card: CameraCard, hdus: fits.HDUList) -> ImageContext:
    headers = [hdu.header.copy() for hdu in hdus]
    return ImageContext(
        path, card, headers, _image_hdu(path, card, hdus, (card.get("image") or {}).get("hdu"))
    )


def read_plane(path: Path, hdu: Any) -> npt.NDArray[Any]:
    """Return the 2-d image of one HDU of a file that accompanies an image.

    Raises
    ------
    KeyError
        If there is no such HDU, or no image in it.
    InvalidInputError
        If the file cannot be read.
    """
    try:
        with _strict_open(path) as hdus:
            try:
                plane = hdus[_hdu_key(hdu)]
            except (KeyError, IndexError):
                raise KeyError(hdu) from None
            if not getattr(plane, "is_image", False) or plane.data is None:
                raise KeyError(hdu)
            return _without_thin_axes(np.array(plane.data))
    except KeyError:
        raise
    except Exception as error:
        raise InvalidInputError(f"{path}: {_why_unreadable(error)}") from None


@contextmanager
def _strict_open(path: Path) -> Iterator[fits.HDUList]:
    """Open a FITS file such that truncation is an error, and oddities of its headers are not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", message=".*truncated.*")
        # our own handle, because a failing fits.open leaves its own open
        with open(path, "rb") as file, fits.open(file, memmap=False) as hdus:
            yield hdus


def _why_unreadable(error: Exception) -> str:
    """Return what is wrong with a file in the words of a user."""
    text = " ".join(str(error).split())
    if isinstance(error, PermissionError):
        return "cannot be read: permission denied."
    if "SIMPLE" in text or "not appear to be a valid FITS" in text:
        return "is not a FITS file; name the image itself."
    if isinstance(error, EOFError) or "end-of-stream" in text or "CRC" in text:
        return "is truncated; copy it again."
    if "Empty" in text:
        return "is empty, truncated or not a FITS file; copy it again."
    if (
        "truncated" in text
        or "ended before" in text
        or isinstance(error, EOFError)
        or "buffer is too small" in text
    ):
        return "is truncated; copy it again."
    return f"cannot be read as FITS ({text.rstrip('.') or type(error).__name__}); is it complete?"


def _image_hdu(path: Path, card: CameraCard, hdus: fits.HDUList, wanted: Any) -> int:
    """Return the number of the HDU that holds the image."""
    if wanted is None:
        for i, hdu in enumerate(hdus):
            if _is_2d_image(hdu):
                return i
        raise InvalidInputError(f"{path}: has no 2-d image in any of its {len(hdus)} HDUs.")
    try:
        index = int(hdus.index_of(_hdu_key(wanted)))
    except (KeyError, ValueError, TypeError):
        index = -1
    if not 0 <= index < len(hdus):
        names = ", ".join(f"{i}:{hdu.name or 'PRIMARY'}" for i, hdu in enumerate(hdus))
        raise InvalidInputError(
            f"{path}: has no HDU {wanted!r} (it has {names}); correct image.hdu in {card.source}."
        )
    if not _is_2d_image(hdus[index]):
        raise InvalidInputError(
            f"{path}: HDU {wanted!r} is not a 2-d image; correct image.hdu in {card.source}."
        )
    return index


def _hdu_key(hdu: Any) -> Any:
    """Return what astropy takes: YAML has lists where astropy wants (name, version)."""
    return tuple(hdu) if isinstance(hdu, list) else hdu


def _is_2d_image(hdu: Any) -> bool:
    """Say whether an HDU is a 2-d image; further axes of length 1 do not count."""
    if not getattr(hdu, "is_image", False):
        return False
    # the shape of a tile-compressed image is that of the image, not of the table that holds it
    axes = tuple(getattr(hdu, "shape", ()))
    return len(axes) >= 2 and all(length == 1 for length in axes[:-2]) and min(axes[-2:]) > 0


def _as_float32(data: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    # values beyond float32 become infinite here, and later NO_DATA
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(_without_thin_axes(np.asarray(data)), np.float32)


def _without_thin_axes(data: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return data.reshape(data.shape[-2:]) if data.ndim > 2 and all(n == 1 for n in data.shape[:-2]) else data
