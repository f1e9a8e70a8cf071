# SPDX-License-Identifier: Apache-2.0
"""Program of a Space: pippin's playground for the model in the folder ``model``."""

import runpy
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
MODEL = str(FOLDER / "model")

if __name__ == "__main__":
    sys.path.insert(0, str(FOLDER))  # the copy of pippin's code beside this file
    # Spaces reach a program on any address of its machine, at this port.
    sys.argv = ["pippin", "play", MODEL, "--address", "0.0.0.0", "--port", "7860"]
    runpy.run_module("pippin", run_name="__main__")
