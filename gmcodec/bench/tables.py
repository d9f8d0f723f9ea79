# SPDX-License-Identifier: MIT
"""Figures as table cells and notes, which Markdown and the page share; and the Markdown."""

from __future__ import annotations

from gmcodec.bench.codecs import OURS
from gmcodec.bench.memory import BASELINE
from gmcodec.bench.run import Results, SetResult
from gmcodec.bench.summary import Figures, Spread, summarise

HEADINGS = (
    "codec", "bytes", "bpsp", "gmcodec against it", "encode Mpixel/s", "decode Mpixel/s", "peak memory MiB",
)  # fmt: skip
MAX_SHOWN_PROBLEMS = 5  # further problems of a codec are only counted
NO_VALUE = "-"


def cells(figures: Figures) -> list[str]:
    """One row of the table, in the order of HEADINGS."""
    name = figures.codec
    if figures.bytes is not None and figures.measured < figures.images:
        name += f" ({figures.measured} of {figures.images} images)"
    if figures.bytes is None or figures.bpsp is None:
        return [name, "failed" if figures.lossless else "not lossless here", *[NO_VALUE] * 5]
    against = NO_VALUE if figures.ours_against is None else f"{100 * figures.ours_against:+.2f} %"
    memory = NO_VALUE if figures.peak_memory is None else f"{figures.peak_memory / 2**20:.0f}"
    speeds = (_speed(figures.encode), _speed(figures.decode))
    return [name, f"{figures.bytes:,}", f"{figures.bpsp:.4f}", against, *speeds, memory]


def _speed(spread: Spread | None) -> str:
    if spread is None:
        return NO_VALUE
    return f"{_three_digits(spread.middle)} ({_three_digits(spread.low)} to {_three_digits(spread.high)})"


def _three_digits(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"  # never 1.2e+03


def title(result: SetResult) -> str:
    return f"{result.name}: {result.images:,} image{'' if result.images == 1 else 's'}"


def notes(result: SetResult, figures: list[Figures]) -> list[str]:
    """Notes on the table, in sentences."""
    found = []
    for f in figures:
        if f.codec.startswith(OURS) and f.bpsp is not None and f.estimated_bpsp is not None:
            over = 100 * (f.bpsp / f.estimated_bpsp - 1)
            methods = ", ".join(f"{method} {count}" for method, count in f.forms.items())
            found.append(f"{f.codec}: the model's own estimate {f.estimated_bpsp:.4f} bpsp, files {f.bpsp:.4f} "
                         f"({over:+.3f} %)" + (f"; images by method: {methods}." if methods else "."))  # fmt: skip
    for f in figures:
        if f.problems:
            more = f" and {len(f.problems) - MAX_SHOWN_PROBLEMS} more" if len(f.problems) > MAX_SHOWN_PROBLEMS else ""
            which = "; ".join(f"{image}: {error}" for image, error in f.problems[:MAX_SHOWN_PROBLEMS])
            found.append(f"{f.codec}, {len(f.problems)} of {f.images} images not coded: {which}{more}.")
    if result.skipped:
        found.append("Skipped: " + "; ".join(f"{name}: {reason}" for name, reason in result.skipped) + ".")
    if result.lossy_sources:
        found.append(f"{result.lossy_sources} of the files are JPEG: their pixels have the artefacts of a lossy codec.")
    if result.memory:
        shape = "x".join(map(str, result.largest))
        found.append(f"Peak memory: largest resident size of a fresh process that codes and decodes the largest image "
                     f"({shape}), everything included; without any codec it is "
                     f"{_mebibytes(result.memory.get(BASELINE))} MiB.")  # fmt: skip
    return found


def _mebibytes(size: int | None) -> str:
    return "?" if size is None else f"{size / 2**20:.0f}"


def about(results: Results) -> list[str]:
    """The conditions of the run, in sentences."""
    where, versions = results.conditions["machine"], results.conditions["versions"]
    commit, _, changed = results.conditions["commit"].partition(" ")
    made_at = f" at {commit[:10]} {changed}".rstrip() if commit else ""
    lines = [
        f"gmcodec {versions['gmcodec']}{made_at} on {where['processor']}, {where['usable_cores']} cores, "
        f"{results.conditions['threads']} threads for codecs that accept a number of threads; "
        f"timed {results.conditions['repeat']} time(s), codecs interleaved.",
        "All files were decoded and compared with the source. bpsp: bits per sample, "
        "8 x bytes / (height x width x channels). Speeds: median over the images (quartiles).",
    ]
    lines += [f"Missing here: {name} ({reason})." for name, reason in results.missing.items()]
    if results.not_chosen:
        lines.append(f"Known, not measured in this run: {', '.join(results.not_chosen)}.")
    return lines


def markdown(results: Results) -> str:
    """A table for each set, with its notes."""
    lines = []
    for result in results.sets:
        figures = summarise(result)
        lines += [f"## {title(result)}", "", "| " + " | ".join(HEADINGS) + " |", "|---" + "|---:" * 6 + "|"]
        for f in figures:
            row = cells(f)
            lines.append("| " + " | ".join(_bold(row) if f.codec == OURS else row) + " |")
        lines += ["", *(f"- {note}" for note in notes(result, figures)), ""]
    return "\n".join([*lines, *(line + "\n" for line in about(results))])


def _bold(row: list[str]) -> list[str]:
    return [f"**{cell}**" if number < 3 else cell for number, cell in enumerate(row)]
