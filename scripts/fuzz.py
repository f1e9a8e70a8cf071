# SPDX-License-Identifier: Apache-2.0
"""Damage files of every kind that pippin reads, and see how each reader answers.

    python scripts/fuzz.py --folder DIR                          # 25 mutations of every file
    python scripts/fuzz.py --folder DIR --mutations 100 --kinds "export weights" study.json

Small artefacts of every kind are made once. Then each file is damaged many times (a flipped bit, a
cut, zeros, foreign bytes, a changed digit, a JSON value of another type, a lost key, ...), each
time from the whole file, and read in a process of its own. Every answer is one of

- message: an error that `pippin` would print in one line, and that names the file;
- skipped: the reader goes on without the damaged part and names it;
- equal: what is read is what was there before;
- accepted: something else is read, in silence;
- unnamed, traceback, hang: faults.

Prints a Markdown table. The exit code is 1 for any fault, and for an accepted change that its kind
does not explain. Seeds are fixed: the same command damages the same bytes.
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
ANSWERS = ("message", "skipped", "equal", "accepted", *FAULTS)
TIMEOUT = 20.0
"""Seconds after which a reader counts as hung; whole files are read in less than one."""

Mutation = Callable[[bytes, random.Random], bytes]


def flip_bit(content: bytes, draws: random.Random) -> bytes:
    """One bit."""
    place = draws.randrange(len(content))
    return (
        content[:place] + bytes([content[place] ^ 1 << draws.randrange(8)]) + content[place + 1 :]
    )


def cut(content: bytes, draws: random.Random) -> bytes:
    """The end is missing, as after a full disk."""
    return content[: draws.randrange(len(content))]


def zero(content: bytes, draws: random.Random) -> bytes:
    """A block of zeros, as after a power cut."""
    start = draws.randrange(len(content))
    end = min(len(content), start + draws.choice((1, 16, 512)))
    return content[:start] + bytes(end - start) + content[end:]


def insert(content: bytes, draws: random.Random) -> bytes:
    """Foreign bytes in the middle."""
    start = draws.randrange(len(content))
    return content[:start] + draws.randbytes(draws.choice((1, 3, 64))) + content[start:]


def repeat(content: bytes, draws: random.Random) -> bytes:
    """A part twice."""
    start = draws.randrange(len(content))
    end = min(len(content), start + draws.choice((8, 256)))
    return content[:end] + content[start:end] + content[end:]


def replace_all(content: bytes, draws: random.Random) -> bytes:
    """Another file altogether."""
    return draws.choice(
        (b"", b"\n", b"[]", b"{}", b"null", b"[" * 100_000, b"\xff\xfe\x00", b"PK\x03\x04")
    )


def change_digit(content: bytes, draws: random.Random) -> bytes:
    """One digit becomes another one."""
    places = [place for place, byte in enumerate(content[:100_000]) if 48 <= byte <= 57]
    if not places:
        return flip_bit(content, draws)
    place = draws.choice(places)
    digit = 48 + (content[place] - 48 + draws.randrange(1, 10)) % 10
    return content[:place] + bytes([digit]) + content[place + 1 :]


def change_value(content: bytes, draws: random.Random) -> bytes:
    """One value of one JSON object becomes something else, or its key goes."""
    lines = content.splitlines(keepends=True) if content.count(b"\n") > 1 else [content]
    whole = _json(content)
    number = 0 if whole is not None else draws.randrange(len(lines))
    tree = whole if whole is not None else _json(lines[number])
    places = _places(tree)
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


def _places(tree: object) -> list[tuple[dict | list, str | int]]:
    """Every place in a JSON value that holds another value."""
    keys = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    found = []
    for key, value in keys:
        found += [(tree, key), *_places(value)]
    return found


def answer(kind: Kind, path: Path, wanted: str | None) -> tuple[str, str]:
    """How the reader of a kind answers to the file as it is now, and its words."""
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
    return ("equal" if read == wanted else "accepted"), read


def _in_child(kind: Kind, path: Path, wanted: str | None, sender: Connection) -> None:
    sender.send(answer(kind, path, wanted))
    sender.close()


def read_apart(kind: Kind, path: Path, wanted: str | None) -> tuple[str, str]:
    """:func:`answer` in a process of its own, which may hang or crash."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_in_child, args=(kind, path, wanted, sender))
    child.start()
    sender.close()
    try:
        if not receiver.poll(TIMEOUT):
            return "hang", f"no answer in {TIMEOUT:g} s"
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
    """Damage one kind's file again and again; (answer, words, mutation, number) of each."""
    (path,) = folder.glob(kind.path)
    content = path.read_bytes()
    wanted = kind.read(path)  # in this process too, so that the others need not import anything
    seen = []
    for number in range(mutations):
        draws = random.Random(f"{seed} {kind.name} {number}")
        mutation = MUTATIONS[number % len(MUTATIONS)]
        changed = mutation(content, draws)
        if changed != content:
            path.write_bytes(changed)
            seen.append((*read_apart(kind, path, wanted), mutation.__name__, number))
        progress()
    path.write_bytes(content)
    return seen


def main() -> int:
    """Make, damage, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="new, or of an earlier call")
    parser.add_argument("--mutations", type=int, default=40, help="of every file")
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
            faults += [(kind.name, *one) for one in seen if one[0] in bad]
    print(f"| file | {' | '.join(ANSWERS)} | why a change may be accepted |")
    print("| --- |" + " ---: |" * len(ANSWERS) + " --- |")
    for kind in kinds:
        cells = " | ".join(str(counts[kind.name][state] or "") for state in ANSWERS)
        print(f"| {kind.name} | {cells} | {kind.explained or ''} |")
    total = sum((one for one in counts.values()), Counter())
    print(
        f"\n{total.total()} mutations of {len(kinds)} kinds in {time.monotonic() - began:.0f} s; "
        f"{len(faults)} faults"
    )
    for name, state, words, mutation, number in faults:
        print(f"- {name}, mutation {number} ({mutation}): {state}: {words[:200]!r}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
