"""Several files in one command: each is worked on in turn, and one that cannot be read does not stop the others."""

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from renoise.cli import console
from renoise.cli.console import Report
from renoise.cli.errors import escaped, explain
from renoise.cli.outputs import Job


def each(report: Report, jobs: Sequence[Job], many: bool, overwrite: bool, work: Callable[[Job, Report], None]) -> None:
    """Work on each source.

    A single one reports as the command itself. Of several, each has its entry in the list `results` of the report; those
    whose outputs all exist are skipped, and those that fail are reported.

    The report ends the command with SomeFailed if some failed.
    """
    if not many:
        work(jobs[0], report)
        return
    report.data = {"results": []}
    warned = dict[str, list[str]]()
    done = skipped = failed = 0
    for number, job in enumerate(jobs, 1):
        name = str(job.source)
        item = Report(report.options, position=f"{number}/{len(jobs)} {name}", parent=report)
        result: dict[str, Any] = {"input": name}
        report.data["results"].append(result)
        if job.paths and not overwrite and not job.missing:
            result |= {"outputs": [str(path) for path in job.paths], "skipped": True}
            skipped += 1
            continue
        began = time.perf_counter()
        try:
            with console.collecting(item):
                work(job, item)
            done += 1
            if _shows(report):
                print(_summary(name, item), file=sys.stderr, flush=True)
        except (ValueError, OSError) as error:  # of this file; Stop and all others end the command
            if isinstance(error, BrokenPipeError):
                raise
            failed += 1
            text = explain(error)[1]
            result["error"] = text if name in text else f"{name}: {text}"
            print(f"renoise: {escaped(result['error'])}", file=sys.stderr, flush=True)
        result |= {**item.data, "seconds": round(time.perf_counter() - began, 3), "warnings": item.warnings}
        for text in item.warnings:
            warned.setdefault(text, []).append(name)
    for text, names in warned.items():
        report.warn(f"{names[0]}: {text}" if len(names) == 1 else f"{len(names)} files: {text}")
    counts = [f"{done} done"]
    counts += [f"{skipped} skipped, whose outputs exist (--overwrite makes them again)"] if skipped else []
    counts += [f"{failed} failed"] if failed else []
    report.say("files", ", ".join(counts))
    report.failed = failed


def _shows(report: Report) -> bool:
    return report.human and not report.options.quiet


def _summary(name: str, item: Report) -> str:
    lines = [line for line in item.lines if item.options.verbose or not line.startswith("prompt")]
    return "\n".join([escaped(name), *(f"  {line}" for line in lines)])
