# SPDX-License-Identifier: Apache-2.0
"""Damage files of every kind that pippin reads, and classify the readers' responses.

    python scripts/fuzz.py --folder DIR                          # 25 mutations of every file
    python scripts/fuzz.py --folder DIR --mutations 100 --kinds "export weights" study.json

Small artefacts of every kind are created once. Then each file is damaged many times (a flipped
bit, a truncation, zeros, foreign bytes, a changed digit, a JSON value of another type, a missing
key, ...), always starting from the intact file, and read in a separate process. Every response is
one of

- message: an error that `pippin` would print in one line and that names the file;
- skipped: the reader skips the damaged part and names it;
- equal: the content read is unchanged;
- accepted: other content is read silently;
- unnamed, traceback, hang: faults.

Prints a Markdown table. The exit code is 1 for any fault, and for an accepted change that the kind
of file does not explain. Seeds are fixed: the same command damages the same bytes.
"""

import argparse
import json
import multiprocessing
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from fuzz_files import KINDS, Kind, SkippedError, make_artefacts
from rich.console import Console
from rich.progress import Progress

from pippin.cli.failures import explain

FAULTS = ("unnamed", "traceback", "hang", "crash")
RESPONSES = ("message", "skipped", "equal", "accepted", *FAULTS)
TIMEOUT = 20.0
"""Seconds after which a reader counts as hung; intact files are read in less than one."""

Mutation = Callable[[bytes, random.Random], bytes]


def flip_bit(content: bytes, draws: random.Random) -> bytes:
    """Flip one bit."""
    place = draws.randrange(len(content))
    return (
        content[:place] + bytes([content[place] ^ 1 << draws.randrange(8)]) + content[place + 1 :]
    )


def cut(content: bytes, draws: random.Random) -> bytes:
    """Truncate, as after a full disk."""
    return content[: draws.randrange(len(content))]


def zero(content: bytes, draws: random.Random) -> bytes:
    """Zero a block, as after a power cut."""
    start = draws.randrange(len(content))
    end = min(len(content), start + draws.choice((1, 16, 512)))
    return content[:start] + bytes(end - start) + content[end:]


def insert(content: bytes, draws: random.Random) -> bytes:
    """Insert foreign bytes."""
    start = draws.randrange(len(content))
    return content[:start] + draws.randbytes(draws.choice((1, 3, 64))) + content[start:]


def repeat(content: bytes, draws: random.Random) -> bytes:
    """Repeat a part."""
    start = draws.randrange(len(content))
    end = min(len(content), start + draws.choice((8, 256)))
    return content[:end] + content[start:end] + content[end:]


def replace_all(content: bytes, draws: random.Random) -> bytes:
    """Replace the whole content."""
    return draws.choice(
        (b"", b"\n", b"[]", b"{}", b"null", b"[" * 100_000, b"\xff\xfe\x00", b"PK\x03\x04")
    )


def change_digit(content: bytes, draws: random.Random) -> bytes:
    """Change one digit."""
    places = [place for place, byte in enumerate(content[:100_000]) if 48 <= byte <= 57]
    if not places:
        return flip_bit(content, draws)
    place = draws.choice(places)
    digit = 48 + (content[place] - 48 + draws.randrange(1, 10)) % 10
    return content[:place] + bytes([digit]) + content[place + 1 :]


def change_value(content: bytes, draws: random.Random) -> bytes:
    """Change one value of a JSON object, or remove its key."""
    lines = content.splitlines(keepends=True) if content.count(b"\n") > 1 else [content]
    whole = _json(content)
    number = 0 if whole is not None else draws.randrange(len(lines))
    tree = whole if whole is not None else _json(lines[number])
    places = _container_keys(tree)
    if not places:
        return flip_bit(content, draws)
    holder, key = draws.choice(places)
    if isinstance(holder, dict) and draws.random() < 0.25:
        del holder[key]
    else:
        holder[key] = draws.choice((None, True, -1, 1e308, 10**40, "", "x", "../x", [], {}, [[]]))
    changed = json.dumps(tree).encode()
    if whole is not None:
        return changed
    return b"".join([*lines[:number], changed + b"\n", *lines[number + 1 :]])


MUTATIONS: tuple[Mutation, ...] = (
    flip_bit,
    cut,
    zero,
    insert,
    repeat,
    replace_all,
    change_digit,
    change_value,
)


def _json(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _container_keys(tree: object) -> list[tuple[dict | list, str | int]]:
    """All (container, key) pairs of a JSON value."""
    keys = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    pairs = []
    for key, value in keys:
        pairs += [(tree, key), *_container_keys(value)]
    return pairs


def response(kind: Kind, path: Path, expected: str | None) -> tuple[str, str]:
    """Response of a reader to the current file, and its message or content."""
    try:
        read = kind.read(path)
    except SkippedError as skipped:
        return ("skipped" if path.name in str(skipped) else "unnamed"), str(skipped)
    except Exception as error:
        failure = explain(error, "train")
        if failure is None:
            return "traceback", f"{type(error).__name__}: {error}"
        named = path.name in failure.message
        return ("message" if named else "unnamed"), failure.message
    return ("equal" if read == expected else "accepted"), read


def _in_child(kind: Kind, path: Path, expected: str | None, sender: Connection) -> None:
    sender.send(response(kind, path, expected))
    sender.close()


def read_in_process(kind: Kind, path: Path, expected: str | None) -> tuple[str, str]:
    """:func:`response` in a separate process, which may hang or crash."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_in_child, args=(kind, path, expected, sender))
    child.start()
    sender.close()
    try:
        if not receiver.poll(TIMEOUT):
            return "hang", f"no response in {TIMEOUT:g} s"
        return receiver.recv()
    except EOFError:
        child.join()
        return "crash", f"exit code {child.exitcode}"
    finally:
        child.kill()
        child.join()


def fuzz(
    kind: Kind, folder: Path, mutations: int, seed: int, progress: Callable[[], None]
) -> list:
    """Damage one kind of file repeatedly; (response, message, mutation, number) of each."""
    (path,) = folder.glob(kind.path)
    content = path.read_bytes()
    expected = kind.read(path)  # here too, so that forked readers need no imports
    seen = []
    for number in range(mutations):
        draws = random.Random(f"{seed} {kind.name} {number}")
        mutation = MUTATIONS[number % len(MUTATIONS)]
        changed = mutation(content, draws)
        if changed != content:
            path.write_bytes(changed)
            seen.append((*read_in_process(kind, path, expected), mutation.__name__, number))
        progress()
    path.write_bytes(content)
    return seen


def main() -> int:
    """Create artefacts, damage them, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--folder", type=Path, required=True, help="new, or that of an earlier call"
    )
    parser.add_argument("--mutations", type=int, default=40, help="mutations per file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=[kind.name for kind in KINDS])
    options = parser.parse_args()
    torch.set_num_threads(1)
    kinds = [kind for kind in KINDS if options.kinds is None or kind.name in options.kinds]
    artefacts = options.folder / "artefacts"
    if not artefacts.is_dir():
        make_artefacts(options.folder / "making")
        (options.folder / "making").rename(artefacts)
    began, counts, faults = time.monotonic(), {}, []
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("damaging files", total=len(kinds) * options.mutations)
        for kind in kinds:
            place = options.folder / "damaged"
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(artefacts, place, symlinks=True)
            step = lambda: progress.advance(task)  # noqa: E731
            seen = fuzz(kind, place, options.mutations, options.seed, step)
            counts[kind.name] = Counter(state for state, *_ in seen)
            bad = {*FAULTS, *(() if kind.explained else ("accepted",))}
            faults += [(kind.name, *result) for result in seen if result[0] in bad]
    print(f"| file | {' | '.join(RESPONSES)} | why a change may be accepted |")
    print("| --- |" + " ---: |" * len(RESPONSES) + " --- |")
    for kind in kinds:
        cells = " | ".join(str(counts[kind.name][state] or "") for state in RESPONSES)
        print(f"| {kind.name} | {cells} | {kind.explained or ''} |")
    total = sum(counts.values(), Counter())
    print(
        f"\n{total.total()} mutations of {len(kinds)} kinds in {time.monotonic() - began:.0f} s; "
        f"{len(faults)} faults"
    )
    for name, state, words, mutation, number in faults:
        print(f"- {name}, mutation {number} ({mutation}): {state}: {words[:200]!r}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
