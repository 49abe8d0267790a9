"""One small simulated image through CharacterizeImageTask and CalibrateTask."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lsst.images import VisitImage
from lsst.pipe.base import Struct

from zeropoint.catalogs.reference_shards import ReferenceShards
from zeropoint.catalogs.references import ReferenceObjectLoader
from zeropoint.datamodel.ids import CatalogIdGenerator
from zeropoint.recipes.characterized_file import characterized_image
from zeropoint.recipes.overrides import apply_override
from zeropoint.simulation.exposures import SimulatedExposure
from zeropoint.tasks.calibrate import CalibrateConfig, CalibrateTask
from zeropoint.tasks.characterize_image import CharacterizeImageConfig, CharacterizeImageTask

IDS = CatalogIdGenerator(20261120, 0, 1 << 28, 1 << 8)


def configured(kind: type, overrides: dict[str, Any]) -> Any:
    """Return a configuration with some fields set."""
    config = kind()
    for name, value in overrides.items():
        apply_override(config, name, value)
    return config


@dataclass(frozen=True)
class Pair:
    """The image, both tasks, and what they made of it."""

    simulated: SimulatedExposure
    first_task: CharacterizeImageTask
    first: Struct
    second_task: CalibrateTask
    second: Struct
    #: the characterized exposure before the second task changed it
    characterized: Any

    def copy_of_first(self) -> VisitImage:
        """Return the characterized image with pixels of its own."""
        from dataclasses import replace

        return characterized_image(replace(self.first.record, exposure=self.characterized.copy()))


class MakePair:
    """Makes the two tasks with overrides and reference loaders."""

    def __init__(self, simulated: SimulatedExposure) -> None:
        self.simulated = simulated

    def first(self, overrides: dict[str, Any] | None = None) -> CharacterizeImageTask:
        """Return the first task."""
        return CharacterizeImageTask(config=configured(CharacterizeImageConfig, overrides or {}))

    def second(
        self, first: Pair | CharacterizeImageTask, overrides: dict[str, Any] | None = None
    ) -> CalibrateTask:
        """Return the second task for what the first one writes; the fitter keeps the distortion that it is told."""
        task = first if isinstance(first, CharacterizeImageTask) else first.first_task
        given = {"astrometry.wcsFitter": "FitAffineWcsTask", **(overrides or {})}
        config = configured(CalibrateConfig, given)
        source = ReferenceShards("simulated", [lambda: self.simulated.references])
        return CalibrateTask(
            ReferenceObjectLoader(source, config.astromRefObjLoader),
            ReferenceObjectLoader(source, config.photoRefObjLoader),
            icSourceSchema=task.outputSchema,
            config=config,
        )

    def run(self) -> Pair:
        """Run both on the simulated exposure."""
        first = self.first()
        one = first.run(self.simulated.exposure.copy(), idGenerator=IDS)
        kept = one.record.exposure.copy()
        second = self.second(first)
        two = second.run(one.exposure, one.background, one.sourceCat, IDS)
        return Pair(self.simulated, first, one, second, two, kept)
