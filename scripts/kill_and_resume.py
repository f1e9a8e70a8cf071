# SPDX-License-Identifier: Apache-2.0
"""Kill every verb that writes, at random moments, and compare what comes out.

    python scripts/kill_and_resume.py --folder DIR
    python scripts/kill_and_resume.py --folder DIR --verbs import study --rounds 20

Each verb runs once undisturbed. Then, in each round, it is started in a new folder, and by SIGKILL
its first process, one of its children or all of them are killed; the same command is given again
until it comes to its end. All files and numbers must then equal those of the undisturbed run, but
for times, locks, reports and TensorBoard's files; no process may outlive its parent, and where one
child was killed no traceback may be printed.

Prints a markdown table; the exit code is 1 where anything differs.
"""

import argparse
import importlib
import os
import random
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from kills.digests import digests
from kills.trial import LONGEST, Call, survivors
from kills.verbs import VERBS, Verb, command, make_inputs, train

ATTEMPTS = 4
"""Rounds that may end before their kill, for each that is to be hit."""
CALLS = 4
"""Calls in which a killed verb has come to its end."""


@dataclass(kw_only=True)
class Seen:
    """What happened to one verb."""

    seconds: float = 0.0
    """Of the undisturbed run."""
    hits: dict[str, int] = field(default_factory=dict)
    """Who was killed -> how often at work."""
    outputs: int = 0
    faults: list[str] = field(default_factory=list)

    def row(self, name: str) -> str:
        """Of the table."""
        hits = " | ".join(str(self.hits.get(who, "-")) for who in ("parent", "child", "group"))
        verdict = "; ".join(self.faults[:3]) if self.faults else f"all {self.outputs} equal"
        return f"| {name} | {self.seconds:.1f} s | {hits} | {verdict} |"


class Campaign:
    """All rounds of some verbs.

    Args:
        folder: with ``inputs``.
        rounds: for each verb and each of the three ways to kill.
        seed: of the moments.
    """

    def __init__(self, folder: Path, rounds: int, seed: int) -> None:
        self.folder, self.inputs, self.rounds, self.seed = folder, folder / "inputs", rounds, seed

    def run(self, name: str) -> Seen:
        """Kill one verb as often as asked for."""
        verb, seen = VERBS[name], Seen()
        whole = self._place(name, "whole", verb)
        began = time.monotonic()
        fault = self._finish(verb, whole)
        seen.seconds = time.monotonic() - began
        if fault:
            seen.faults.append(f"undisturbed: {fault}")
            return seen
        wanted = digests(whole)
        seen.outputs, longest = len(wanted), seen.seconds
        for who in verb.kinds:
            seen.hits[who] = 0
            for attempt in range(ATTEMPTS * self.rounds):
                if seen.hits[who] == self.rounds:
                    break
                key = f"{who}-{attempt}"
                place = self._place(name, key, verb)
                draws = random.Random(f"{self.seed} {name} {key}")
                hit, fault = self._round(verb, place, who, draws.uniform(0, longest), draws)
                seen.hits[who] += hit
                longest = longest if hit else 0.9 * longest  # the first run may have been slow
                fault = fault or _difference(wanted, digests(place))
                if fault:
                    seen.faults.append(f"{key}: {fault}")
                else:
                    shutil.rmtree(place)
        return seen

    def _round(
        self, verb: Verb, place: Path, who: str, moment: float, draws: random.Random
    ) -> tuple[bool, str]:
        """Whether the kill hit a process at work, and what went wrong."""
        call = self._call(verb, place)
        hit, below = False, set[int]()
        if not call.wait(moment):
            found = call.kill(who, draws)
            hit, below = found is not None, found or below
        if not call.wait(LONGEST):
            call.kill("group", draws)
            return hit, "hangs after the kill" if hit else "hangs"
        if left := survivors(below):
            return hit, f"{len(left)} processes outlive their parent: {'; '.join(left.values())}"
        if who == "child" and verb.own_words and "Traceback" in _said(place):
            return hit, "a traceback"
        return hit, self._finish(verb, place)

    def _finish(self, verb: Verb, place: Path) -> str:
        """Give the command until it ends well; what is wrong where it does not."""
        for _ in range(CALLS):
            call = self._call(verb, place)
            if not call.wait(LONGEST):
                call.kill("group", random.Random(0))
                return "hangs when it is given again"
            if call.code == 0:
                return ""
            if call.code == 2 and verb.refuses and verb.refuses in _said(place):
                return ""
        return f"exit code {call.code} when it is given again: {_said(place)[-200:]!r}"

    def _call(self, verb: Verb, place: Path) -> Call:
        return Call(work=verb.call(self.inputs), folder=place, log=_log(place))

    def _place(self, name: str, key: str, verb: Verb) -> Path:
        """A new working directory."""
        place = self.folder / name.replace(" ", "-") / key
        place.mkdir(parents=True)
        for one in verb.copies:
            shutil.copytree(self.inputs / one, place / one)
        return place


def _log(place: Path) -> Path:
    return place.with_name(f"{place.name}.log")


def _said(place: Path) -> str:
    return _log(place).read_text(errors="replace") if _log(place).exists() else ""


def _difference(wanted: dict[str, str], found: dict[str, str]) -> str:
    unlike = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    return f"{len(unlike)} differ, such as {sorted(unlike)[0]}" if unlike else ""


def set_up(folder: Path) -> None:
    """The inputs of all verbs; what is heavy to import is imported once, here."""
    inputs = folder / "inputs"
    inputs.mkdir(parents=True)
    make_inputs(inputs)
    importlib.import_module("pippin.run.execute")
    made = [train(inputs)]
    arguments = [str(inputs / "pipeline"), "converted", "--from", "diffusers"]
    made += [command("convert", *arguments, "--autoencoder", "pippin/openmoji-f4")]
    for work in made:
        call = Call(work=work, folder=inputs, log=inputs / "log")
        if not call.wait(LONGEST) or call.code != 0:
            raise SystemExit(f"exit code {call.code}: {(inputs / 'log').read_text()[-2000:]}")


def work_on(campaign: Campaign, verbs: list[str]) -> bool:
    """Take verbs that no other lane has taken, one after the other; whether all came out equal."""
    well = True
    for name in verbs:
        try:
            taken = campaign.folder / f".taken-{name.replace(' ', '-')}"
            os.close(os.open(taken, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        seen = campaign.run(name)
        well = well and not seen.faults
        print(seen.row(name), flush=True)
    return well


def main() -> int:
    """All verbs, and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, required=True, help="new")
    parser.add_argument("--rounds", type=int, default=5, help="of each way to kill each verb")
    parser.add_argument("--verbs", nargs="+", choices=VERBS, default=list(VERBS))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--lanes", type=int, default=2, help="verbs at once")
    options = parser.parse_args()
    folder = options.folder.resolve()
    os.environ["OMP_NUM_THREADS"] = "1"
    set_up(folder)
    print("| verb | undisturbed | parent | child | group | files and numbers |")
    print("| --- | --- | --- | --- | --- | --- |", flush=True)
    campaign = Campaign(folder, options.rounds, options.seed)
    lanes = [
        Call(
            work=lambda: 0 if work_on(campaign, options.verbs) else 1,
            folder=folder,
            log=folder / "table",
        )
        for _ in range(options.lanes)
    ]
    for lane in lanes:
        while not lane.wait(LONGEST):
            pass
    print((folder / "table").read_text(), end="")
    return 0 if all(lane.code == 0 for lane in lanes) else 1


if __name__ == "__main__":
    sys.exit(main())
