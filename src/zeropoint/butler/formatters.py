"""How the Butler reads and writes our images, and tables with very long rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import astropy.io.fits
import astropy.units as u
import pyarrow as pa
from lsst.daf.butler import DatasetProvenance, FormatterV2
from lsst.daf.butler.formatters.parquet import ParquetFormatter
from lsst.images import Box, Image, Mask, MaskedImage, VisitImage
from lsst.images.formatters import GenericFormatter
from lsst.resources import ResourcePath
from lsst.utils.iteration import ensure_iterable

from zeropoint.butler.descriptor import CardDescriptor
from zeropoint.datamodel.arrow import read_columns, write_long_rows
from zeropoint.datamodel.header_cards import add_ordinary_cards
from zeropoint.datamodel.visit_image import observation_info, sky_projection
from zeropoint.instruments.observation_file import Observation
from zeropoint.recipes.post_isr import post_isr_image

__all__ = ["CardImageFormatter", "LongRowsFormatter", "VisitImageFormatter"]


class VisitImageFormatter(GenericFormatter):
    """Visit images as lsst-images writes them, with ordinary header cards besides.

    Notes
    -----
    Lossless, unless the repository's configuration names a recipe (``lossy16``). The Butler writes every file under
    a temporary name and moves it into place when it is complete.
    """

    _image: VisitImage | None = None

    def add_provenance(
        self, in_memory_dataset: Any, /, *, provenance: DatasetProvenance | None = None
    ) -> Any:
        """Remember the image, whose cards the header gets when it is written."""
        self._image = in_memory_dataset
        return super().add_provenance(in_memory_dataset, provenance=provenance)

    def _component_from_cache(self, component: str) -> tuple[bool, Any]:
        """Read a PSF from the file each time: Piff takes its tree apart, so that a remembered one serves once only."""
        return (False, None) if component == "psf" else super()._component_from_cache(component)

    def _update_header(self, header: astropy.io.fits.Header) -> None:
        super()._update_header(header)
        if isinstance(self._image, VisitImage):
            add_ordinary_cards(header, self._image)


class CardImageFormatter(FormatterV2):
    """Read a camera's FITS file in place as a post-ISR image; the dataset's own file is a descriptor of it.

    Notes
    -----
    Components that headers tell (``obs_info``, ``sky_projection``, ``bbox``, ``unit``) are had without the pixels.
    """

    default_extension: ClassVar[str] = ".json"
    can_read_from_local_file: ClassVar[bool] = True

    def read_from_local_file(self, path: str, component: str | None = None, expected_size: int = -1) -> Any:
        """Return the image, a part of it (parameter ``bbox``), a component, or a dictionary of some."""
        descriptor = CardDescriptor.read(path)
        parameters = dict(self.file_descriptor.parameters or {})
        if component == "components":
            names = parameters.pop("components", None)
            names = sorted(self.file_descriptor.storageClass.allComponents()) if names is None else names
            names = [name for name in ensure_iterable(names) if name != "components"]
            return _components(descriptor, names, parameters)
        if component is not None:
            return _components(descriptor, [component], parameters)[component]
        return _cut(post_isr_image(descriptor.load()), parameters)

    def write_local_file(self, in_memory_dataset: Any, uri: ResourcePath) -> None:
        """Refuse: a camera's own file is never written."""
        raise NotImplementedError("Camera images are read only; VisitImageFormatter writes images.")


class LongRowsFormatter(ParquetFormatter):
    """Parquet files of a few rows of hundreds of megabytes each, such as look-up tables.

    Notes
    -----
    A page holds whole rows, so that writing one takes memory: 13 times its size with the dictionaries that parquet
    tries by default, 4 times without. Reading some columns the usual way makes empty rows of the others, as long as theirs.
    """

    def read_from_uri(self, uri: ResourcePath, component: str | None = None, expected_size: int = -1) -> Any:
        """Leave reading to `read_from_local_file`."""
        return NotImplemented

    def read_from_local_file(self, path: str, component: str | None = None, expected_size: int = -1) -> Any:
        """Return the table or some of its columns (parameter ``columns``), or a component, as parquet files are read."""
        parameters = self.file_descriptor.parameters or {}
        if component is not None or not parameters.get("columns"):
            return super().read_from_local_file(path, component, expected_size)
        table = read_columns(path, list(ensure_iterable(parameters.pop("columns"))))
        if parameters.pop("strip_astropy_meta_yaml", True):
            metadata = dict(table.schema.metadata or {})
            metadata.pop(b"table_meta_yaml", None)
            table = table.replace_schema_metadata(metadata)
        return table

    def write_local_file(self, in_memory_dataset: Any, uri: ResourcePath) -> None:
        """Write Arrow tables one row at a time, without dictionaries; others as they are."""
        if isinstance(in_memory_dataset, pa.Table):
            write_long_rows(in_memory_dataset, uri.ospath)
        else:
            super().write_local_file(in_memory_dataset, uri)


def _components(descriptor: CardDescriptor, names: list[str], parameters: dict[str, Any]) -> dict[str, Any]:
    """Return some components, without reading pixels if headers suffice."""
    if set(names) <= _HEADER_COMPONENTS.keys():
        observation = descriptor.observation()
        return {name: _HEADER_COMPONENTS[name](observation) for name in names}
    image = post_isr_image(descriptor.load())
    return {name: _cut(getattr(image, name), parameters) for name in names}


def _cut(component: Any, parameters: dict[str, Any]) -> Any:
    """Return the part of pixels that the parameter ``bbox`` asks for; what has no pixels is whole."""
    box = parameters.get("bbox")
    if box is None or not isinstance(component, (Image, Mask, MaskedImage)):
        return component
    return component[box if isinstance(box, Box) else Box.from_legacy(box)]


def _box(observation: Observation) -> Box:
    height, width = observation.shape
    return Box.factory[0:height, 0:width]


_HEADER_COMPONENTS: dict[str, Callable[[Observation], Any]] = {
    "bbox": _box,
    "obs_info": lambda observation: observation_info(observation.visit_info, observation.detector),
    "sky_projection": lambda observation: sky_projection(
        observation.wcs, observation.detector, observation.visit_info.visit, observation.shape
    ),
    "unit": lambda _: u.electron,
}
