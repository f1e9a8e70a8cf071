# SPDX-License-Identifier: Apache-2.0
"""Files that reports are written to: their suffixes, and what may be replaced."""

from collections.abc import Callable, Collection
from pathlib import Path

from pippin.config import ConfigError
from pippin.system.files import NotRegularError, read_regular

PAGE = ".html"
CSV_HEAD = "kind,arm,metric,"
"""Beginning of a CSV table."""
LATEX_HEAD = "% Written by pippin report."
"""Beginning of a LaTeX table."""
_FOOTER = "Written by pippin."

_IS_REPORT: dict[str, Callable[[str], bool]] = {
    PAGE: lambda text: text.lower().startswith("<!doctype html") and _FOOTER in text,
    ".tex": lambda text: text.startswith(LATEX_HEAD),
    ".csv": lambda text: text.startswith(CSV_HEAD),
    ".md": lambda text: text.startswith("**") and "\n| arm |" in text,
}
SUFFIXES = tuple(_IS_REPORT)
"""Suffixes of the files of a study's report."""


def check_output(out: Path, allowed: Collection[str] = SUFFIXES, subject: str = "a study") -> None:
    """Refuse an unknown suffix, and a file that no report was written to.

    Args:
        out: the file to write.
        allowed: suffixes of what is reported.
        subject: what is reported, for the message.

    Raises:
        ConfigError: the message says what is allowed and what to type.
    """
    if out.suffix not in allowed:
        name = out.with_suffix(PAGE) if out.name else out / f"report{PAGE}"
        given = f"the suffix {out.suffix!r}" if out.suffix else "no suffix"
        raise ConfigError(
            f"--out {out} has {given}; a report on {subject} is written as "
            f"{', '.join(allowed)}: type --out {name}"
        )
    refuse_other_content(out)


def refuse_other_content(out: Path) -> None:
    """Refuse to replace a file that is not a report of this suffix.

    Raises:
        ConfigError: a folder, a special file, or a file with other content; an empty file may be
            replaced.
    """
    if not (out.exists() or out.is_symlink()):
        return
    try:
        text = read_regular(out).decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    except (NotRegularError, OSError) as error:
        raise ConfigError(f"{out} cannot be replaced ({error}); give another --out") from error
    if text and not _IS_REPORT[out.suffix](text):
        raise ConfigError(
            f"{out} exists and is no {out.suffix} file that pippin report wrote, so it is not "
            "replaced; give another --out, or move the file away"
        )
