"""Lines of the log name the image they are about."""

import logging

from zeropoint.cli.logs import about_image, start_logging


def test_warnings_name_the_image_once(monkeypatch, capsys):
    # as in a new process: without the test runner's handlers
    monkeypatch.setattr(logging.root, "handlers", [])
    start_logging("WARNING")
    log = logging.getLogger("zeropoint.some.step")
    with about_image("night_7"):
        log.warning("No %s.", "sky")
        log.warning("night_7: said already")
        log.info("not shown")
    log.warning("after")
    assert capsys.readouterr().err.splitlines() == [
        "WARNING zeropoint.some.step: night_7: No sky.",
        "WARNING zeropoint.some.step: night_7: said already",
        "WARNING zeropoint.some.step: after",
    ]
