# SPDX-License-Identifier: Apache-2.0
"""The software environment of a run, recorded with every result: versions, commit, platform."""

import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pippin


@cache
def environment() -> dict[str, str]:
    """Versions of pippin, Python and torch, the commit of the source tree, and the platform.

    Cached at the first call of the process, because that is the code that the process runs.
    """
    return {
        "pippin": pippin.__version__,
        "commit": _commit(Path(pippin.__file__).parent),
        "python": platform.python_version(),
        "torch": _version("torch"),
        "diffusers": _version("diffusers"),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _commit(folder: Path) -> str:
    """The commit of the checkout that holds the package, with "+changes" where files differ from
    it; "none" for an installed package, even where it is installed inside another checkout."""
    if _git(folder, "ls-files", "--error-unmatch", "__init__.py") is None:
        return "none"
    commit = _git(folder, "rev-parse", "--short=12", "HEAD")
    if commit is None:
        return "none"
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no", ".")
    return f"{commit}+changes" if changed else commit


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
