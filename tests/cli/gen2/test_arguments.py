from __future__ import annotations

from pathlib import Path

import pytest

from zeropoint.cli.gen2.arguments import OldCommandLine, expand_files, parse
from zeropoint.errors import OptionError


def parsed(line: str) -> OldCommandLine:
    return parse("fgcmBuildStarsTable.py", line.split(), "")


def test_the_whole_old_syntax_is_understood() -> None:
    command = parsed(
        "/repo --rerun lut:me/stars --id visit=1^3..5 ccd=0 --id visit=9 -c minPerBand=3 matchRadius=2.0 "
        "-C a.py b.py --config minPerBand=4 -L debug fgcm=warn -j 4 --timeout 60 --show config=min* data run "
        "--clobber-config --no-versions --calib CALIB"
    )
    assert command.repopath == "/repo"
    assert (command.rerun, command.output, command.calib) == ("lut:me/stars", "", "CALIB")
    assert [dict(choice.values) for choice in command.ids] == [
        {"visit": ("1", "3..5"), "ccd": ("0",)},
        {"visit": ("9",)},
    ]
    # later ones win, so files and fields keep their order
    assert command.overrides == (
        ("minPerBand", "3"),
        ("matchRadius", "2.0"),
        ("", "a.py"),
        ("", "b.py"),
        ("minPerBand", "4"),
    )
    assert command.show == (("config", "min*"), ("data", ""), ("run", ""))
    assert (command.log_level, command.processes, command.timeout_s, command.redo) == ("DEBUG", 4, 60.0, True)
    assert command.notes == ("--no-versions has no effect: every run keeps the versions of its packages.",)


def test_argument_files_may_name_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("visits.txt").write_text(
        "# the night\n--id visit=1228^1230\n  ccd=0..10 # without guiders\n\n@more.txt\n"
    )
    Path("more.txt").write_text('-c \'physicalFilterMap={"HSC R": "r"}\'\n')
    command = parsed("/repo @visits.txt --output out")
    assert dict(command.ids[0].values) == {"visit": ("1228", "1230"), "ccd": ("0..10",)}
    assert command.overrides == (("physicalFilterMap", '{"HSC R": "r"}'),)
    Path("more.txt").write_text("@visits.txt")
    with pytest.raises(OptionError, match=r"@visits.txt: the file of arguments includes itself"):
        expand_files(["@visits.txt"])
    with pytest.raises(OptionError, match=r"@gone.txt: .* cannot be read \(No such file"):
        expand_files(["@gone.txt"])


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("/repo --output a --rerun b", "exclude each other"),
        ("/repo --output a -c minPerBand", "write NAME=VALUE"),
        ("/repo --output a -L loud", "write a level"),
        ("/repo --output a --show everything", "there are config, data"),
        ("/repo --output a --show history", "say of which field"),
    ],
)
def test_wrong_options_are_named(line: str, complaint: str) -> None:
    with pytest.raises(OptionError, match=complaint):
        parsed(line)


@pytest.mark.parametrize(
    "line", ["", "--output a", "/repo --outptu a", "/repo stray --output a", "/repo -j x"]
)
def test_wrong_usage_exits_with_2(line: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        parsed(line)
    assert caught.value.code == 2
    assert "usage: fgcmBuildStarsTable.py REPOPATH [@file" in capsys.readouterr().err


def test_help_is_given_with_and_without_a_repository(capsys: pytest.CaptureFixture) -> None:
    for line in ("--help", "/repo -h"):
        with pytest.raises(SystemExit) as caught:
            parsed(line)
        assert caught.value.code == 0
        assert "--clobber-config" in capsys.readouterr().out
