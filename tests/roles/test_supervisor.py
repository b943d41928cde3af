"""What the supervisor does that needs no server. (Everything else: tests/faults.)"""

import os
import subprocess
import sys
import tempfile

from rtserver.roles import supervisor


def test_run_folders_of_dead_servers_go_and_others_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    names = (f"rtserver-{gone.stdout.strip()}-a", f"rtserver-{os.getpid()}-b", "rtserver-notes-c")
    dead, alive, foreign = (tmp_path / name for name in names)
    for folder in (dead, alive, foreign):
        folder.mkdir()
        (folder / "score.npz").touch()
    supervisor._sweep()
    assert sorted(tmp_path.iterdir()) == sorted([alive, foreign])
