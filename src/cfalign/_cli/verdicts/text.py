"""The verdict of a check as lines for a person."""

from __future__ import annotations

from cfalign._cli.verdicts.told import Told, feature_name, feature_numbers, numbers, printable, relation, unlike

SHOWN = 5
"""Relations without a number that are named."""


def text(told: Told) -> str:
    """One line per number beyond its limit; the sentence that counts them comes near the end."""
    verdict = told.verdict
    lines = [f"unexpected: {relation(one)}  {numbers(one)}" for one in verdict.unexpected]
    lines += [f"known: {relation(one)}  {numbers(one)}" for one in verdict.known]
    lines += unmeasured(told)
    lines += [unlike(one) for one in verdict.mismatches]
    lines += [told.against] if told.against else []
    lines.append(told.summary)
    lines += [f"unnamed feature: {feature_name(one)}  {feature_numbers(one)}" for one in told.unnamed]
    return "\n".join(lines)


def unmeasured(told: Told) -> list[str]:
    """One line on the relations without a number; none where there are none."""
    names = [printable(name) for name in told.verdict.unmeasured]
    if not names:
        return []
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return [f"not measured: {len(names)} relations: {', '.join(names[:SHOWN])}{more}"]
