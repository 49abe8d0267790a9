"""Simulated exposures as files, and calibrations in a repository."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import starlink.Ast as Ast
from lsst.daf.butler import Butler, CollectionType, DatasetType, Timespan
from lsst.images import Image
from lsst.images.cameras import CameraFrameSet, CameraFrameSetSerializationModel
from lsst.images.serialization import write_archive

from zeropoint.datamodel.exposure import Exposure
from zeropoint.instruments.card import CameraCard, load_card
from zeropoint.instruments.reader import LoadedImage
from zeropoint.recipes.post_isr import post_isr_image
from zeropoint.simulation import write_simulation
from zeropoint.simulation.exposures import SimulatedExposure

#: Exposure ids of each visit: a good one, one without stars, and one of two snaps.
VISITS = {101: (101,), 102: (102,), 103: (103, 104)}
#: Position angle of the simulated camera's +Y axis, degrees.
SKY_ANGLE = 12.0


def write_exposures(simulated: SimulatedExposure, folder: Path) -> tuple[dict[int, Path], Path]:
    """Write the exposures of `VISITS` as files of the simulated camera, and the references."""
    rng = np.random.default_rng(5)
    images = {}
    for visit, exposures in VISITS.items():
        for number in exposures:
            exposure = simulated.exposure.copy()
            exposure.visit_info = replace(exposure.visit_info, visit=visit, exposure=number)
            settings = replace(simulated.settings, visit=visit)
            if len(exposures) == 2:
                settings = replace(settings, exposure_time=15.0)
                scene = rng.poisson(simulated.noiseless / 2) + rng.normal(0, 5, exposure.shape)
                exposure.image = scene.astype(np.float32)
                exposure.variance = np.maximum(exposure.image, 1) + np.float32(25)
            elif visit == 102:
                exposure.image = rng.normal(600, 25, exposure.shape).astype(np.float32)
            images[number], references = write_simulation(
                replace(simulated, exposure=exposure, settings=settings), folder, f"exposure{number}"
            )
    return images, references


def flat_fielded(exposure: Exposure) -> tuple[Exposure, np.ndarray]:
    """Return an exposure as a background-flat one, and the correction that leads back."""
    height, width = exposure.shape
    correction = (1.0 + 0.1 * np.linspace(-1, 1, width)[None, :] * np.ones((height, 1))).astype(np.float32)
    flat = exposure.copy()
    flat.image *= correction
    flat.variance *= correction**2
    flat.metadata["LSST ISR FLAT APPLIED"] = True
    return flat, correction


def camera_model(simulated: SimulatedExposure) -> CameraFrameSet:
    """Return the simulated camera without its distortion: one detector on the axis, 10 micrometre pixels."""
    s = simulated.settings
    frames = Ast.FrameSet(Ast.Frame(2, "Ident=FOCAL_PLANE,Unit(1)=mm,Unit(2)=mm"))
    per_mm = np.deg2rad(s.pixel_scale / 3600) / 0.01
    field_angle = Ast.Frame(2, "Ident=FIELD_ANGLE,Unit(1)=rad,Unit(2)=rad")
    frames.addframe(1, Ast.ZoomMap(2, per_mm), field_angle)
    detector = Ast.Frame(2, "Ident=DETECTOR_000,Unit(1)=pixel,Unit(2)=pixel")
    detector.set(f"Bottom(1)=0,Bottom(2)=0,Top(1)={s.width},Top(2)={s.height}")
    centre = Ast.ShiftMap([0.5 * (s.width - 1), 0.5 * (s.height - 1)])
    frames.addframe(1, Ast.CmpMap(Ast.ZoomMap(2, 100.0), centre, True), detector)
    lines: list[str] = []
    Ast.Channel(None, SimpleNamespace(astsink=lines.append)).write(frames)
    return CameraFrameSetSerializationModel(instrument="SimCam", ast="\n".join(lines)).deserialize(None)


def visit_image_file(simulated: SimulatedExposure, path: Path) -> Path:
    """Write visit 105 as a post-ISR visit image of another pipeline: flattened for backgrounds, pointing known."""
    exposure, _ = flat_fielded(simulated.exposure)
    settings = simulated.settings
    exposure.visit_info = replace(
        exposure.visit_info,
        visit=105,
        exposure=105,
        boresight_ra_deg=settings.ra_deg,
        boresight_dec_deg=settings.dec_deg,
        boresight_rotation_deg=SKY_ANGLE,
    )
    image = post_isr_image(LoadedImage(exposure, path.stem, path, load_card("simcam")))
    write_archive(image, str(path))
    return path


def camera_card(folder: Path) -> CameraCard:
    """Return the card of the simulated camera, for visits of snaps."""
    path = folder / "snaps.yaml"
    path.write_text(
        "extends: simcam\nvisit_system: by-group\ndetector: {id: 0, name: S00, pixel_size_mm: 0.01}\n"
    )
    return load_card(path)


def certify_calibrations(butler: Butler, simulated: SimulatedExposure) -> None:
    """Put a flat, an illumination correction and a camera model into the collection SimCam/calib."""
    _, correction = flat_fielded(simulated.exposure)
    image = Image(correction, yx0=(0, 0))
    detector = ("instrument", "detector", "physical_filter")
    data_id = {"instrument": "SimCam", "physical_filter": "r_sim"}
    butler.collections.register("SimCam/calib", CollectionType.CALIBRATION)
    butler.collections.register("SimCam/calib/1", CollectionType.RUN)
    for name, dimensions, storage_class, value in (
        ("flat", detector, "ImageV2", image),
        ("illuminationCorrection", detector, "ImageV2", image),
        ("astrometry_camera", ("instrument", "physical_filter"), "ZpCamera", camera_model(simulated)),
    ):
        dataset_type = DatasetType(
            name, dimensions, storage_class, universe=butler.dimensions, isCalibration=True
        )
        butler.registry.registerDatasetType(dataset_type)
        extra = {"detector": 0} if "detector" in dimensions else {}
        ref = butler.put(value, dataset_type, {**data_id, **extra}, run="SimCam/calib/1")
        butler.registry.certify("SimCam/calib", [ref], Timespan(None, None))
