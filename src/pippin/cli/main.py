# SPDX-License-Identifier: Apache-2.0
"""``pippin VERB ...``: finds the verb, turns errors into messages and exit codes.

Exit codes: 0 done, 1 a result that says no (for example a failed arm), 2 bad input,
75 stopped by a signal and resumable, 130 interrupted.
"""

import importlib
import sys

VERBS: dict[str, str] = {
    "demo": "the whole line on the embedded pictures, with a report, in minutes",
    "train": "train a recipe",
    "sample": "draw images from a run",
    "evaluate": "measure a run or a folder of images",
    "bench": "measure how fast a recipe trains",
    "report": "write report.html for a run or a study",
    "study": "run or list the shipped studies",
    "autoencoder": "train a small autoencoder",
}
BAD_INPUT, RESUMABLE, INTERRUPTED = 2, 75, 130


def main(argv: list[str] | None = None) -> int:
    """Run one verb; returns the exit code."""
    arguments = sys.argv[1:] if argv is None else argv
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else BAD_INPUT
    if arguments[0] == "--version":
        from pippin import __version__

        print(f"pippin {__version__}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    if verb not in VERBS:
        print(f"error: no verb {verb!r}; there are: {', '.join(VERBS)}", file=sys.stderr)
        return BAD_INPUT
    return _guarded(verb, rest)


def _guarded(verb: str, arguments: list[str]) -> int:
    try:
        return importlib.import_module(f"pippin.cli.{verb}").main(arguments)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except (ValueError, OSError) as error:  # ConfigError and our other messages are ValueErrors
        print(f"error: {error}", file=sys.stderr)
        return BAD_INPUT


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {verb:<{width}}  {text}" for verb, text in VERBS.items())
    return (
        "usage: pippin VERB ...\n\n"
        "Apple-to-apple training recipes for latent diffusion models.\n\n"
        f"verbs:\n{verbs}\n\n"
        "`pippin VERB --help` shows the options of a verb."
    )


if __name__ == "__main__":
    sys.exit(main())
