"""What was found, in a few sentences and figures: the first screen of a report. Every word is computed."""

import statistics as st
from collections.abc import Mapping
from typing import Any

from gpu_gs.bench.contestants import is_ours, label
from gpu_gs.bench.regret import KEYS, OPPONENTS
from gpu_gs.bench.report.figures import crossings, has_cuda
from gpu_gs.bench.report.merge import Book, Row
from gpu_gs.bench.report.words import case_words, times

LEVEL = 0.05
NO_CUDA = (
    "No GPU result is here; on a machine with a CUDA GPU, gpu-gs bench devices measures it and "
    "gpu-gs report DIR... puts both together."
)


def sentences(book: Book) -> list[str]:
    """Up to five sentences: speed, targets, quality, devices, failures."""
    found = [_speed(book), _targets(book), _quality(book), _devices(book), _failures(book)]
    return [words for words in found if words]


def cards(book: Book) -> list[tuple[str, str, str]]:
    """The figures of the sentences: name, value, what it is."""
    found = []
    for key in OPPONENTS:
        ratios = [row["against"][key]["median"] for row in _main_rows(book, key)]
        if ratios:
            note = f"median of {len(ratios)} cases" if len(ratios) > 1 else case_words(_main_rows(book, key)[0])
            found.append((f"Faster than {label(OPPONENTS[key])}", times(st.median(ratios)), note))
    tests = _pooled(book)
    if tests:
        name, key, test = tests[0]
        word = "not worse" if test["not_worse"] else "no claim" if test.get("no_claim") else "not shown"
        found.append(
            (f"Regret against {_opponent(key, test)}", word, f"{label(name)}, margin {test['margin']:g} decades")
        )
    failed = _count_failed(book)
    found.append(("Failed runs", str(failed), "listed below" if failed else "everything measured"))
    return found


def _ours(book: Book) -> list[Row]:
    results = [book.latency(machine) for machine in book.machines]
    return [row for result in results if result for row in result["rows"] if is_ours(row["contestant"])]


def _main_rows(book: Book, key: str) -> list[Row]:
    """Rows of the contestant of ours that was measured in most cases against this opponent."""
    by_name: dict[str, list[Row]] = {}
    for row in _ours(book):
        if key in row.get("against", {}):
            by_name.setdefault(row["contestant"], []).append(row)
    return max(by_name.values(), key=len) if by_name else []


def _speed(book: Book) -> str:
    parts = []
    for key in OPPONENTS:
        rows = _main_rows(book, key)
        if not rows:
            continue
        ratios = sorted((row["against"][key]["median"], case_words(row)) for row in rows)
        middle = st.median(ratio for ratio, _ in ratios)
        (low, worst), (high, best) = ratios[0], ratios[-1]
        words = f"{times(middle)} faster than one of {label(OPPONENTS[key])}"
        if len(ratios) > 1:
            words += f" in the median of {len(ratios)} cases, from {times(low)} ({worst}) to {times(high)} ({best})"
        else:
            words += f" on {best}"
        parts.append((label(rows[0]["contestant"]), words))
    if not parts:
        return ""
    if len({name for name, _ in parts}) == 1:
        return f"An ask of {parts[0][0]} is {', and '.join(words for _, words in parts)}."
    return " ".join(f"An ask of {name} is {words}." for name, words in parts)


def _targets(book: Book) -> str:
    known = [(row, target) for row in _ours(book) for target in row.get("targets", []) if target["met"] is not None]
    if not known:
        return ""
    missed = [row for row, target in known if not (target["met"] and target["mean_met"] is not False)]
    if not missed:
        return f"All {len(known)} targets for the time of an ask are met."
    where = "; ".join(dict.fromkeys(f"{label(row['contestant'])} on {case_words(row)}" for row in missed[:4]))
    more = f" and {len(missed) - 4} more" if len(missed) > 4 else ""
    return f"{len(known) - len(missed)} of {len(known)} targets for the time of an ask are met, not those of {where}{more}."


def _pooled(book: Book) -> list[tuple[str, str, Mapping[str, Any]]]:
    """(contestant, opponent, test) of the first of ours over all problems, in the newest run that has one."""
    for run in reversed(book.of("regret")):
        found = [
            (row["contestant"], key, row[f"against_{key}"])
            for row in run.result["pooled"]
            for key in KEYS
            if is_ours(row["contestant"]) and f"against_{key}" in row
        ]
        if found:
            return [test for test in found if test[0] == found[0][0]]
    return []


def _quality(book: Book) -> str:
    tests = _pooled(book)
    parts = []
    for name, key, test in tests:
        verdict = "is not worse than" if test["not_worse"] else "was not shown to be no worse than"
        if test.get("no_claim"):
            verdict = f"makes no claim ({test['no_claim']}) against"
        parts.append(
            f"the regret of {label(name)} {verdict} that of {_opponent(key, test)} (mean difference "
            f"{test['mean_difference']:+.2f} decades, upper bound {test['upper_bound']:+.2f}, margin {test['margin']:g}; "
            f"it ends lower in {100 * test['better_share']:.0f} % of the runs)"
        )
    if not parts:
        return ""
    _, _, test = tests[0]
    problems = _counted(len(test["problems"]), "problem")
    return f"Over {problems} with {test['pairs']} paired seeds {', and '.join(parts)}. {_singly(book, *tests[0][:2])}".strip()


def _opponent(key: str, test: Mapping[str, Any]) -> str:
    """Older results do not name the opponent."""
    return label(test.get("opponent") or OPPONENTS[key])


def _singly(book: Book, name: str, key: str) -> str:
    """On which problems a difference is significant by itself, where the p-values are corrected for their number."""
    run = next(
        run for run in reversed(book.of("regret")) if any(row["contestant"] == name for row in run.result["rows"])
    )
    rows = [row for row in run.result["rows"] if row["contestant"] == name and f"against_{key}" in row]
    tests = {row["problem"]: row[f"against_{key}"] for row in rows}
    if not tests or any("p_adjusted" not in test for test in tests.values()):
        return ""
    clear = {problem: test["median_difference"] for problem, test in tests.items() if test["p_adjusted"] < LEVEL}
    if not clear:
        return f"On no single problem do they differ significantly (signed ranks, Holm, {100 * LEVEL:.0f} %)."
    better = ", ".join(problem for problem, difference in clear.items() if difference < 0) or "none"
    worse = ", ".join(problem for problem, difference in clear.items() if difference > 0) or "none"
    return (
        f"Of single problems it is better than {_opponent(key, next(iter(tests.values())))} on {better} and worse on "
        f"{worse} (signed ranks, Holm, {100 * LEVEL:.0f} %)."
    )


def _devices(book: Book) -> str:
    if not book.of("latency"):
        return ""
    found = list(crossings(book))
    if not found:
        return "There are times on CUDA, but none of the same strategy on the CPU." if has_cuda(book) else NO_CUDA
    found = [each for each in found if is_ours(each.base)] or found
    shown = [book.titled(f"for {label(c.base)} on {c.words} {c.verdict}", c.machine) for c in found[:3]]
    more = f"; {_counted(len(found) - 3, 'case')} more below" if len(found) > 3 else ""
    return f"CPU against CUDA: {'; '.join(shown)}{more}."


def _count_failed(book: Book) -> int:
    return sum(int(row.get("failed") or 1) for _, row in book.failures())


def _failures(book: Book) -> str:
    failed = book.failures()
    if not failed:
        return "No run failed."
    count = _count_failed(book)
    names = ", ".join(dict.fromkeys(label(row["contestant"]) for _, row in failed))
    return f"{_counted(count, 'run')} failed ({names}), see below."


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
