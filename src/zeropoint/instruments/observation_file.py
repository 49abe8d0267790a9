"""What a FITS file's headers say of an observation, read without its pixels."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from zeropoint.datamodel.exposure import DetectorInfo, PointingUncertainty, VisitInfo
from zeropoint.datamodel.wcs import SkyWcs
from zeropoint.errors import InvalidInputError
from zeropoint.instruments.card import CameraCard
from zeropoint.instruments.companions import companion_file
from zeropoint.instruments.image_file import open_headers, open_image
from zeropoint.instruments.levels import pedestal, read_noise, stated_gain
from zeropoint.instruments.observation import detector_info, id_number, visit_info
from zeropoint.instruments.pointing import initial_wcs, pointing_degrees, pointing_uncertainty
from zeropoint.instruments.values import ImageContext
from zeropoint.instruments.variance import saturation_level

__all__ = ["Observation", "header_digest", "read_observation"]

#: Keywords that tell one camera's files from another's.
_IDENTITY_KEYS = ("INSTRUME", "TELESCOP")


@dataclass(frozen=True)
class Observation:
    """The facts of one image.

    Parameters
    ----------
    path
        The file.
    visit_info, detector
        Visit and detector; gain and read noise of amplifiers are not filled.
    wcs
        Initial WCS.
    pointing
        How far it may be off, where the card says so.
    caveats
        Sentences on what is missing.
    identity
        Values of the header keywords that name the camera.
    header_digest
        Hash of all headers, to notice that a file has changed.
    """

    path: Path
    visit_info: VisitInfo
    detector: DetectorInfo
    wcs: SkyWcs
    pointing: PointingUncertainty | None
    caveats: tuple[str, ...]
    identity: dict[str, str]
    header_digest: str

    @property
    def shape(self) -> tuple[int, int]:
        """Image's (height, width)."""
        return self.detector.height, self.detector.width


def read_observation(path: str | Path, card: CameraCard) -> Observation:
    """Read what an image's headers and camera card say, as `load_image` would, but without the pixels.

    Pixels are read only where the card gives no visit number, which then is their hash.

    Parameters
    ----------
    path
        FITS file, plain or compressed.
    card
        The camera card.

    Raises
    ------
    InvalidInputError
        If the file is missing or damaged, or its header lacks what the card promises; the message names the file.
    """
    context, shape = open_headers(path, card)
    _check_promises(context, shape)
    if id_number(context, "visit") is None:
        _, adu = open_image(path, card)
    else:
        adu = np.zeros((0, 0), np.float32)
    caveats: list[str] = []
    visit = visit_info(context, adu, pointing_degrees(context), caveats)
    detector = detector_info(context, np.nan, np.nan, shape)
    wcs = initial_wcs(context, shape)
    if wcs is None:
        raise InvalidInputError(
            f"{context.path}: camera card {context.card.source} finds images from their stars (wcs.index_files), but a "
            "repository must know where they are before it reads pixels; calibrate them with `zeropoint calibrate`, or "
            "give a WCS or a boresight."
        )
    caveats.extend(
        f"the header has no {keys}, which the camera card names for `{name}`"
        for name, keys in context.absent.items()
    )
    return Observation(
        Path(path),
        visit,
        detector,
        wcs,
        pointing_uncertainty(context),
        tuple(caveats),
        {key: value for key in _IDENTITY_KEYS if (value := str(context.header_value(key) or "").strip())},
        header_digest(context),
    )


def header_digest(context: ImageContext) -> str:
    """Return a hash of all headers of a file."""
    # padded with blanks to whole blocks, or not, by the way a file was opened
    text = "\n".join(header.tostring(sep="\n", padding=False) for header in context.headers)
    return hashlib.sha256(text.encode("ascii", "replace")).hexdigest()


def _check_promises(context: ImageContext, shape: tuple[int, int]) -> None:
    """Raise if something is missing that `load_image` needs, or by which a repository tells images apart."""
    card = context.card
    by_amplifier = any("gain" in each for each in (card.get("detector") or {}).get("amplifiers") or ())
    id_number(context, "visit")
    id_number(context, "exposure")
    needed = ("visit", "exposure", "filter", *(() if by_amplifier else ("gain",)))
    for name in ("filter", "gain"):
        context.resolve(name, card.get(name))
    for name in needed:
        if name in context.absent:
            raise InvalidInputError(
                f"{context.path}: the header has no {context.absent[name]}, which camera card {card.source} names for "
                f"`{name}`; is it an image of this camera? If it is, give that entry a `default`."
            )
    gain = stated_gain(context, shape)
    read_noise(context, 1.0 if gain is None else gain, shape)
    pedestal(context)
    saturation_level(context)
    companion_file(context, "mask")
    companion_file(context, "variance")
