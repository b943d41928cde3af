"""The command line: forms, exit codes, one clear line on stderr."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import mido
import numpy as np
import pytest

from rtserver import __version__, cli
from rtserver.audio import file

ROOT = Path(__file__).parent.parent
COMMANDS = (
    "run",
    "render",
    "separate",
    "follow",
    "perform",
    "latency",
    "devices",
    "doctor",
    "check",
    "calibrate",
    "monitor",
    "panic",
    "models",
    "demo",
)


def refused(capsys: pytest.CaptureFixture[str], code: int, *argv: str | Path) -> str:
    """The one line that a failing command leaves on stderr."""
    assert cli.main([str(a) for a in argv]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    return said.err


@pytest.fixture
def take(tmp_path: Path) -> Path:
    noise = np.random.default_rng(1).uniform(-0.3, 0.3, (1, 48000)).astype(np.float32)
    file.write(tmp_path / "take.wav", noise, 48000)
    return tmp_path / "take.wav"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: rtserver {command}")


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["sing"],
        ["separate", "in.wav"],  # no -o
        ["separate", "in.wav", "-o", "out", "--mask", "medium"],
        ["perform", "-o", "a.mid", "--notes", "many"],
        ["follow", "score.xml", "-o", "out.csv"],
        ["latency", "--js"],  # no abbreviations: they would change meaning when options are added
    ],
)
def test_bad_usage_ends_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    assert ended.value.code == 2
    assert "usage: rtserver" in capsys.readouterr().err


def test_a_bad_configuration_ends_with_2_and_the_path_of_the_field(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "show.toml").write_text("[audio]\nblock_sise = 64\n")
    said = refused(capsys, 2, "latency", tmp_path / "show.toml")
    assert said == "rtserver latency: audio.block_sise: unknown key; did you mean 'block_size'?\n"


def test_an_unknown_preset_in_a_configuration_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "show.toml").write_text('[separation]\npreset = "stag"\n')
    assert "separation.preset: no preset 'stag'; did you mean 'stage'?" in refused(capsys, 2, "latency", tmp_path / "show.toml")


def test_a_missing_file_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, 1, "separate", tmp_path / "none.wav", "-o", tmp_path)
    assert said == f"rtserver separate: {tmp_path / 'none.wav'}: no such file\n"


def test_an_unwritable_folder_ends_with_1(take: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, 1, "separate", take, "-o", take / "under" / "a" / "file")
    assert "cannot be written" in said


def test_a_constraint_that_cannot_be_kept_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, 2, "perform", "-o", tmp_path / "a.mid", "--scale", "C majr")
    assert "did you mean C major?" in said
    assert not (tmp_path / "a.mid").exists()


def test_latency_is_the_sum_of_its_terms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "show.toml").write_text('[audio]\nblock_size = 64\n[separation]\npreset = "stage"\n')
    assert cli.main(["latency", str(tmp_path / "show.toml"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert {o["output"] for o in report["outputs"]} == {"harmonic", "percussive"}
    for output in report["outputs"]:
        assert output["frames"] == sum(term["frames"] for term in output["terms"])
        assert output["seconds"] == output["frames"] / report["sample_rate"]


def test_separate_writes_both_parts_and_names_them(take: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["separate", str(take), "-o", str(tmp_path / "out"), "--preset", "stage"]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "out" / f"{part}.wav") for part in ("harmonic", "percussive")]


def test_separate_writes_what_margins_leave_too(take: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--preset", "stage", "--mask", "hard", "--margin-harmonic", "2", "--margin-percussive", "1.5"]
    assert cli.main(["separate", str(take), "-o", str(tmp_path / "out"), *options]) == 0
    written = capsys.readouterr().out.split()
    assert written == [str(tmp_path / "out" / f"{part}.wav") for part in ("harmonic", "percussive", "residual")]


def test_separate_by_kernels_writes_every_source(take: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--method",
        "kam",
        "--iterations",
        "1",
        "--identity",
        *(f"--kernel={name}" for name in ("hum=1x31", "voice=5x5", "hit=17x1")),
    ]
    assert cli.main(["separate", str(take), "-o", str(tmp_path / "out"), *options]) == 0
    assert capsys.readouterr().out.split() == [str(tmp_path / "out" / f"{name}.wav") for name in ("hum", "voice", "hit")]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (["--iterations", "2"], "--iterations"),
        (["--identity"], "--spatial"),
        (["--method", "kam", "--preset", "stage"], "--preset"),
        (["--method", "kam", "--score", "piece.mid"], "--score"),
        (["--score", "piece.mid"], "--score"),
        (["--model", "stems3-int8", "--part", "Bass"], "--part"),
        (["--method", "kam", "--margin-harmonic", "2"], "--margin-harmonic"),
        (["--method", "kam", "--iterations", "0"], "--iterations"),
        (["--method", "kam", "--kernel", "hum=1x2", "--kernel", "hit=17x1"], "--kernel"),
        (["--method", "kam", "--kernel", "hum=1x31"], "--kernel"),
        (["--method", "kam", "--kernel", "hum=1x31", "--kernel", "hit=17x1", "--kernel", "hum=1x5"], "--kernel"),
    ],
)
def test_separate_refuses_what_the_method_does_not_take(
    options: list[str], field: str, take: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refused(capsys, 2, "separate", take, "-o", tmp_path / "out", *options).startswith(f"rtserver separate: {field}: ")
    assert not (tmp_path / "out").exists()


def test_render_writes_every_output_as_long_as_the_input(take: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "show.toml").write_text("[generation]\nenabled = false\n")
    assert cli.main(["render", str(take), "-o", str(tmp_path / "out"), "-c", str(tmp_path / "show.toml")]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert {p.name for p in written} == {"harmonic.wav", "percussive.wav", "events.jsonl"}
    assert {file.info(p).n_frames for p in written if p.suffix == ".wav"} == {48000}


def test_perform_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    for name in ("a.mid", "b.mid"):
        assert cli.main(["perform", "-o", str(tmp_path / name), "--notes", "12", "--seed", "3"]) == 0
    assert (tmp_path / "a.mid").read_bytes() == (tmp_path / "b.mid").read_bytes()


def test_perform_keeps_its_constraints(tmp_path: Path) -> None:
    limits = ["--scale", "C major", "--range", "60", "71", "--polyphony", "1"]
    assert cli.main(["perform", "-o", str(tmp_path / "a.mid"), "--notes", "24", *limits]) == 0
    pitches = {m.note for m in mido.MidiFile(tmp_path / "a.mid") if m.type == "note_on"}
    assert pitches <= {60, 62, 64, 65, 67, 69, 71}


def test_follow_writes_its_table(tmp_path: Path) -> None:
    demo = ROOT / "rtserver" / "demo"
    files = [str(demo / "score.musicxml"), str(demo / "performance.mid"), "-o", str(tmp_path / "out.csv")]
    assert cli.main(["follow", *files, "--part", "piano", "--part", "1"]) == 0
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "t_avail,score_quarter,score_beat,tempo_bpm,confidence,state"
    assert len(lines) > 100


def test_an_unknown_part_ends_with_1_and_the_parts_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo = ROOT / "rtserver" / "demo"
    files = (demo / "score.musicxml", demo / "performance.mid", "-o", tmp_path / "out.csv")
    assert "no part 'Tuba'; its parts are 1 'Piano'" in refused(capsys, 1, "follow", *files, "--part", "Piano", "--part", "Tuba")


def test_an_unknown_method_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, 2, "follow", tmp_path / "score.mid", tmp_path / "in.mid", "-o", tmp_path / "out.csv", "--method", "guess")
    assert said.startswith("rtserver follow: method: no method 'guess'; known: semimarkov, semimarkov-templates, dixon")


def test_a_score_that_is_none_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "score.mid").write_bytes(b"nothing of the kind")
    assert "score.mid" in refused(capsys, 1, "follow", tmp_path / "score.mid", tmp_path / "in.mid", "-o", tmp_path / "out.csv")


@pytest.mark.parametrize("command", ["devices", "doctor"])
def test_programs_may_ask_what_the_machine_has(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--json"]) in (0, 1)  # 1 where the doctor finds something to mend
    assert json.loads(capsys.readouterr().out)


def test_there_is_no_progress_bar_in_a_pipe(take: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["separate", str(take), "-o", str(tmp_path), "--preset", "stage"])
    assert capsys.readouterr().err == ""


def test_run_without_a_device_ends_with_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("JACK_DEFAULT_SERVER", "rtserver-no-such-server")
    (tmp_path / "show.toml").write_text('[audio]\ndevice = "rtserver no such device"\n')
    assert "no " in refused(capsys, 1, "run", tmp_path / "show.toml")


@pytest.mark.parametrize("command", ["monitor", "panic"])
def test_without_a_server_there_is_one_line_and_1(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = refused(capsys, 1, command, "--control", f"ipc://{tmp_path}/nobody")
    assert said.startswith(f"rtserver {command}: no server answers at ipc://{tmp_path}/nobody")


def test_run_says_when_it_is_up_and_ends_on_ctrl_c(jack_server: str, tmp_path: Path) -> None:
    sockets = "".join(f'{key} = "ipc://{tmp_path}/{key}"\n' for key in ("control", "events", "bulk"))
    show = f'name = "rtscli"\n[audio]\nblock_size = 1024\ndevice = "system"\n[wire]\n{sockets}'
    (tmp_path / "show.toml").write_text(show)
    command = [sys.executable, "-m", "rtserver", "run", str(tmp_path / "show.toml")]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        assert "rtscli is up: harmonic 48.0 ms" in server.stdout.readline()
        server.send_signal(signal.SIGINT)
        assert server.wait(30.0) == 0
    finally:
        server.kill()
        server.communicate()


def test_the_module_runs_too() -> None:
    done = subprocess.run([sys.executable, "-m", "rtserver", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"rtserver {__version__}\n"


def test_the_wheel_installs_and_runs_outside_the_checkout(tmp_path: Path) -> None:
    """Built from the repository's files alone; its dependencies are those of this environment, which is not otherwise used."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: which files belong to the repository is unknown")
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "source" / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "-w", tmp_path, tmp_path / "source"]
    subprocess.run(build, check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {n.split("/")[0] for n in names} == {"rtserver", f"rtserver-{__version__}.dist-info"}
    assert {"rtserver/zoo/performer.onnx", "rtserver/demo/score.musicxml", "rtserver/demo/performance.flac"} <= set(names)

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", "--quiet", "--no-index", "--no-deps", wheel], check=True, cwd=tmp_path)
    site_packages = str(Path(np.__file__).parent.parent)  # on PYTHONPATH its .pth files are not read, so this checkout stays invisible
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": site_packages, "XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path)}

    def outside(*command: str | Path) -> str:
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert str(tmp_path / "venv") in outside(python, "-c", "import rtserver; print(rtserver.__file__)")
    rtserver = tmp_path / "venv" / "bin" / "rtserver"
    assert "separate" in outside(rtserver, "--help")
    assert "frames" in outside(rtserver, "latency")
    assert "a.mid" in outside(rtserver, "perform", "-o", "a.mid", "--notes", "2")


def test_the_version_is_stated_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "rtserver.__version__"}
    assert f"[{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_latency_tells_of_every_song(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "show.toml").write_text('[setlist]\nsongs = ["a.toml", "b.toml"]')
    (tmp_path / "a.toml").write_text('[separation]\npreset = "stage"')
    (tmp_path / "b.toml").write_text("")
    assert cli.main(["latency", str(tmp_path / "show.toml"), "--json"]) == 0
    songs = json.loads(capsys.readouterr().out)["songs"]
    assert [songs[name][0]["frames"] for name in ("a", "b")] == [384, 640]
