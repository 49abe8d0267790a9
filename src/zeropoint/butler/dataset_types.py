"""Dataset types that ingestion writes, and their registration."""

from __future__ import annotations

from lsst.daf.butler import Butler, DatasetType, DimensionUniverse
from lsst.daf.butler.registry import ConflictingDefinitionError

# not exported by the middleware, and the only sign of a registration that was cut short
from lsst.daf.butler.registry.datasets.byDimensions.tables import MissingDatabaseTableError

from zeropoint.errors import InvalidInputError

__all__ = ["CARD_DATASET", "POST_ISR_DATASET", "card_type", "ensure_dataset_type", "post_isr_type"]

#: Camera cards.
CARD_DATASET = "camera_card"
#: Post-ISR images.
POST_ISR_DATASET = "post_isr_image"


def card_type(universe: DimensionUniverse) -> DatasetType:
    """Return the dataset type of camera cards."""
    return DatasetType(CARD_DATASET, ("instrument",), "StructuredDataDict", universe=universe)


def post_isr_type(universe: DimensionUniverse) -> DatasetType:
    """Return the dataset type of post-ISR images."""
    return DatasetType(
        POST_ISR_DATASET, ("instrument", "exposure", "detector"), "VisitImage", universe=universe
    )


def ensure_dataset_type(butler: Butler, dataset_type: DatasetType) -> None:
    """Register a dataset type, and repair a registration that was cut short (disk full, process killed).

    Parameters
    ----------
    butler
        Writeable.
    dataset_type
        What to register.

    Raises
    ------
    InvalidInputError
        If it is registered with another definition.
    """
    try:
        butler.registry.registerDatasetType(dataset_type)
    except ConflictingDefinitionError as error:
        text = str(error).splitlines()[0].rstrip(".")
        raise InvalidInputError(
            f"Dataset type {dataset_type.name} means something else in this repository: {text}."
        ) from None
    try:
        butler.query_datasets(dataset_type.name, collections="*", find_first=False, limit=1, explain=False)
    except MissingDatabaseTableError:
        # the middleware writes the type first and makes its tables then; no dataset can exist yet
        butler.registry.removeDatasetType(dataset_type.name)
        butler.registry.registerDatasetType(dataset_type)
