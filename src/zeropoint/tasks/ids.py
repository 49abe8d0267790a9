"""Catalogue ids from data ids: Rubin's ``DetectorVisitIdGenerator`` on the Butler's dimension packer."""

from __future__ import annotations

import lsst.pex.config as pexConfig
from lsst.daf.butler import DataCoordinate
from lsst.pipe.base import Instrument, ObservationDimensionPacker

from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.errors import InvalidInputError

__all__ = ["DetectorVisitIdGeneratorConfig"]


class DetectorVisitIdGeneratorConfig(pexConfig.Config):
    """How catalogue ids are made from visit and detector."""

    release_id = pexConfig.Field[int](
        doc="Number of the processing campaign, from 0; kept in the ids.", default=0
    )
    n_releases = pexConfig.Field[int](
        doc="Campaigns that can be told apart (one more than the highest release_id); a power of 2.",
        default=64,
    )
    packer = Instrument.make_dimension_packer_config_field()

    @classmethod
    def make_field(
        cls, doc: str = "Configuration for how to generate catalog IDs from data IDs."
    ) -> pexConfig.ConfigField:
        """Return a field for the configuration of a task."""
        return pexConfig.ConfigField(doc, dtype=cls)

    def apply(self, data_id: DataCoordinate, *, detector: int | None = None) -> CatalogIdGenerator:
        """Return the generator of one detector of one visit.

        Parameters
        ----------
        data_id
            Instrument, visit and detector, expanded with the instrument's record (or with
            ``packer["observation"].n_detectors`` and ``n_observations`` set).
        detector
            Detector, where the data id has none.

        Raises
        ------
        InvalidInputError
            If visit or detector are beyond the instrument's limits, or the instrument packs in another way.
        """
        packer = self.packer.apply(data_id, is_exposure=False)
        if type(packer) is not ObservationDimensionPacker:
            raise InvalidInputError(
                f"id_generator.packer: {type(packer).__name__} is not supported; use 'observation'."
            )
        limits = self.packer["observation"]
        n_detectors, n_visits = limits.n_detectors, limits.n_observations
        if n_detectors is None or n_visits is None:
            record = data_id.records["instrument"]
            assert record is not None
            n_detectors = record.detector_max if n_detectors is None else n_detectors
            n_visits = record.visit_max if n_visits is None else n_visits
        try:
            return CatalogIdGenerator(
                visit=int(data_id["visit"]),
                detector=int(data_id["detector"] if detector is None else detector),
                n_visits=int(n_visits),
                n_detectors=int(n_detectors),
                release_id=self.release_id,
                n_releases=self.n_releases,
            )
        except ValueError as error:
            raise InvalidInputError(f"No catalogue ids can be made for {data_id}: {error}") from None
