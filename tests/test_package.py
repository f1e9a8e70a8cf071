# SPDX-License-Identifier: Apache-2.0
"""The wheel has what an installed user needs."""

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_wheel_carries_weights_tables_and_templates(tmp_path):
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("pippin-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for name in (
        "pippin/encoders/weights/openmoji-f4/diffusion_pytorch_model.safetensors",
        "pippin/encoders/weights/openmoji-f4/config.json",
        "pippin/data/tables/openmoji.csv",
        "pippin/data/tables/NOTICE.md",
        "pippin/study/report.html.jinja",
        "pippin/study/report.css",
        "pippin/cli/main.py",
    ):
        assert name in names, name
    assert not [name for name in names if name.startswith(("tests", "scripts"))]
    assert wheel.stat().st_size < 5_000_000
