"""PSF models as text that keeps every bit, which a trip through Piff's polynomial of raw positions does not."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np

from zeropoint.datamodel.psf_model import GaussianPsf, PixelGridPsf, PsfModel
from zeropoint.psf.piff_io import PiffPsf

__all__ = ["psf_from_text", "psf_to_text"]

_GRID = ("x_ref", "y_ref", "norm", "size", "scale", "lanczos")


def psf_to_text(model: PsfModel) -> str:
    """Return a model as JSON.

    Parameters
    ----------
    model
        A pixel-grid, Gaussian or Piff model; of the last, only what Piff's own object does not know.

    Raises
    ------
    TypeError
        If it is of another kind.
    """
    data: dict[str, Any] = {"average_position": [float(value) for value in model.average_position]}
    if isinstance(model, PixelGridPsf):
        data |= {"kind": "grid", **{name: getattr(model, name) for name in _GRID}}
        data["exponents"] = model.exponents.tolist()
        data["shape"] = list(model.coefficients.shape)
        data["coefficients"] = base64.b64encode(model.coefficients.astype("<f8").tobytes()).decode()
    elif isinstance(model, GaussianPsf):
        data |= {"kind": "gaussian", "sigma": model.sigma_pix, "size": model.size}
    elif isinstance(model, PiffPsf):
        data |= {"kind": "piff", "size": model.size, "properties": model.properties}
    else:
        raise TypeError(f"A {type(model).__name__} cannot be written as text.")
    return json.dumps(data)


def psf_from_text(text: str, stored: PsfModel) -> PsfModel:
    """Return the model that `psf_to_text` wrote.

    Parameters
    ----------
    text
        JSON.
    stored
        The same PSF as it came from a file, whose Piff object a Piff model needs.

    Raises
    ------
    ValueError
        If the text is nothing of the kind.
    """
    try:
        data = json.loads(text)
        x, y = (float(value) for value in data["average_position"])
        kind = data["kind"]
        if kind == "grid":
            coefficients = np.frombuffer(base64.b64decode(data["coefficients"]), "<f8").reshape(data["shape"])
            exponents = np.array(data["exponents"], np.int64)
            grid = {name: data[name] for name in _GRID}
            return PixelGridPsf(coefficients, exponents, average_position=(x, y), **grid)
        if kind == "gaussian":
            return GaussianPsf(data["sigma"], data["size"], (x, y))
        if kind == "piff" and isinstance(stored, PiffPsf):
            return PiffPsf(stored.impl, data["size"], (x, y), data["properties"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a PSF: {error}") from None
    raise ValueError(f"not a PSF of the kind {kind!r}")
