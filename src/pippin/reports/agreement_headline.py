# SPDX-License-Identifier: Apache-2.0
"""The verdict of a study with declared agreements of rankings: the first section of its page."""

from collections.abc import Sequence

from pippin.reports.cautions import cautions
from pippin.reports.headline import Headline, Strip, Tone, claim_sentence, declared_values
from pippin.reports.report_source import Source
from pippin.reports.tables.agreement_table import correlation_text
from pippin.reports.tables.results_table import Line
from pippin.studies.agreement_verdict import AgreementResult
from pippin.studies.claims import Verdict

_TONES: dict[Verdict, Tone] = {
    "supported": "good",
    "not supported": "bad",
    "inconclusive": "undecided",
}


def agreement_headline(
    source: Source, lines: list[Line], results: Sequence[AgreementResult]
) -> Headline:
    """The claim of the primary agreement with its verdict, and the intervals of all."""
    (primary,) = (result for result in results if result.agreement.role == "primary")
    verdict = primary.verdict.capitalize()
    mark = "No verdict yet" if primary.rho is None else verdict
    return Headline(
        mark=mark,
        sentence=claim_sentence(mark, verdict, primary.agreement.claim),
        meaning="",
        tone=_TONES[primary.verdict],
        details=tuple(map(_detail, results)),
        strips=tuple(_strip(result) for result in results if result.rho),
        left="reversed order",
        right="equal order",
        companions=tuple(declared_values(source, lines)),
        cautions=tuple(cautions(source, [])),
    )


def _detail(result: AgreementResult) -> str:
    text = (
        f"{result.agreement.name}: Spearman {correlation_text(result.rho)}, Kendall "
        f"{correlation_text(result.tau)}, {result.verdict}."
    )
    return f"{text} {result.reason}".strip()


def _strip(result: AgreementResult) -> Strip:
    """Spearman's interval on an axis from -1 to 1."""
    rho = result.rho
    assert rho is not None

    def position(value: float) -> float:
        return round(50 + 46 * value, 2)

    remark = "" if result.agreement.role == "primary" else " (exploratory)"
    return Strip(
        label=result.agreement.name + remark,
        low=position(rho.mean if rho.low is None else rho.low),
        mean=position(rho.mean),
        high=position(rho.mean if rho.high is None else rho.high),
        zero=position(0.0),
        band=None,
    )
