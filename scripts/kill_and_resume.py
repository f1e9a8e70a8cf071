# SPDX-License-Identifier: Apache-2.0
"""Kill every verb that writes at random moments, resume, and compare the results.

    python scripts/kill_and_resume.py --folder DIR
    python scripts/kill_and_resume.py --folder DIR --verbs import study --rounds 20

Each verb runs once undisturbed. Each further trial starts it in a new folder, kills by SIGKILL its
main process, one of its children or all of them, and repeats the command until it finishes. All
files and numbers must then equal those of the undisturbed run, except times, locks, reports and
TensorBoard's files; no process may outlive its parent, and no traceback may be printed when one
child was killed.

Prints a markdown table; the exit code is 1 if anything differs.
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
"""Maximum trials per required hit, because a run may finish before its kill."""
CALLS = 4
"""Maximum number of calls until a killed verb finishes."""


@dataclass(kw_only=True)
class VerbResult:
    """Result of one verb."""

    seconds: float = 0.0
    """Duration of the undisturbed run."""
    hits: dict[str, int] = field(default_factory=dict)
    """Kind of victim -> number of kills that hit a process at work."""
    outputs: int = 0
    faults: list[str] = field(default_factory=list)

    def row(self, name: str) -> str:
        """Row of the table."""
        hits = " | ".join(str(self.hits.get(who, "-")) for who in ("parent", "child", "group"))
        verdict = "; ".join(self.faults[:3]) if self.faults else f"all {self.outputs} equal"
        return f"| {name} | {self.seconds:.1f} s | {hits} | {verdict} |"


class Campaign:
    """All trials of some verbs.

    Args:
        folder: the folder with ``inputs``.
        rounds: kills per verb and kind of victim.
        seed: seed of the kill times.
    """

    def __init__(self, folder: Path, rounds: int, seed: int) -> None:
        self.folder, self.inputs, self.rounds, self.seed = folder, folder / "inputs", rounds, seed

    def run(self, name: str) -> VerbResult:
        """Kill one verb as often as required."""
        verb, result = VERBS[name], VerbResult()
        undisturbed = self._make_folder(name, "whole", verb)
        start = time.monotonic()
        fault = self._finish(verb, undisturbed)
        result.seconds = time.monotonic() - start
        if fault:
            result.faults.append(f"undisturbed: {fault}")
            return result
        expected = digests(undisturbed)
        result.outputs, longest = len(expected), result.seconds
        for who in verb.kinds:
            result.hits[who] = 0
            for attempt in range(ATTEMPTS * self.rounds):
                if result.hits[who] == self.rounds:
                    break
                key = f"{who}-{attempt}"
                folder = self._make_folder(name, key, verb)
                draws = random.Random(f"{self.seed} {name} {key}")
                hit, fault = self._round(verb, folder, who, draws.uniform(0, longest), draws)
                result.hits[who] += hit
                longest = longest if hit else 0.9 * longest  # the first run may have been slow
                fault = fault or _difference(expected, digests(folder))
                if fault:
                    result.faults.append(f"{key}: {fault}")
                else:
                    shutil.rmtree(folder)
        return result

    def _round(
        self, verb: Verb, folder: Path, who: str, moment: float, draws: random.Random
    ) -> tuple[bool, str]:
        """Whether the kill hit a process at work, and the fault, if any."""
        call = self._call(verb, folder)
        hit, below = False, set[int]()
        if not call.wait(moment):
            victims = call.kill(who, draws)
            hit, below = victims is not None, victims or below
        if not call.wait(LONGEST):
            call.kill("group", draws)
            return hit, "hangs after the kill" if hit else "hangs"
        if left := survivors(below):
            return hit, f"{len(left)} processes outlive their parent: {'; '.join(left.values())}"
        if who == "child" and verb.own_words and "Traceback" in _output(folder):
            return hit, "a traceback"
        return hit, self._finish(verb, folder)

    def _finish(self, verb: Verb, folder: Path) -> str:
        """Repeat the command until it succeeds; the fault if it does not."""
        for _ in range(CALLS):
            call = self._call(verb, folder)
            if not call.wait(LONGEST):
                call.kill("group", random.Random(0))
                return "hangs when repeated"
            if call.code == 0:
                return ""
            if call.code == 2 and verb.refuses and verb.refuses in _output(folder):
                return ""
        return f"exit code {call.code} when repeated: {_output(folder)[-200:]!r}"

    def _call(self, verb: Verb, folder: Path) -> Call:
        return Call(work=verb.call(self.inputs), folder=folder, log=_log(folder))

    def _make_folder(self, name: str, key: str, verb: Verb) -> Path:
        """Create a new working directory."""
        folder = self.folder / name.replace(" ", "-") / key
        folder.mkdir(parents=True)
        for name in verb.copies:
            shutil.copytree(self.inputs / name, folder / name)
        return folder


def _log(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.log")


def _output(folder: Path) -> str:
    return _log(folder).read_text(errors="replace") if _log(folder).exists() else ""


def _difference(expected: dict[str, str], result: dict[str, str]) -> str:
    differing = [name for name in {**expected, **result} if expected.get(name) != result.get(name)]
    return f"{len(differing)} differ, such as {sorted(differing)[0]}" if differing else ""


def set_up(folder: Path) -> None:
    """Create the inputs of all verbs, and import heavy modules once before the forks."""
    inputs = folder / "inputs"
    inputs.mkdir(parents=True)
    make_inputs(inputs)
    importlib.import_module("pippin.studies.execution")
    made = [train(inputs)]
    arguments = [str(inputs / "pipeline"), "converted", "--from", "diffusers"]
    made += [command("convert", *arguments, "--autoencoder", "pippin/openmoji-f4")]
    for work in made:
        call = Call(work=work, folder=inputs, log=inputs / "log")
        if not call.wait(LONGEST) or call.code != 0:
            raise SystemExit(f"exit code {call.code}: {(inputs / 'log').read_text()[-2000:]}")


def work_on(campaign: Campaign, verbs: list[str]) -> bool:
    """Run verbs that no other lane has taken; whether all results are equal."""
    all_equal = True
    for name in verbs:
        try:
            taken = campaign.folder / f".taken-{name.replace(' ', '-')}"
            os.close(os.open(taken, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        result = campaign.run(name)
        all_equal = all_equal and not result.faults
        print(result.row(name), flush=True)
    return all_equal


def main() -> int:
    """Run all verbs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--folder", type=Path, required=True, help="new")
    parser.add_argument("--rounds", type=int, default=5, help="kills per verb and kind of victim")
    parser.add_argument("--verbs", nargs="+", choices=VERBS, default=list(VERBS))
    parser.add_argument("--seed", type=int, default=0, help="seed of the kill times")
    parser.add_argument("--lanes", type=int, default=2, help="number of concurrent verbs")
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
