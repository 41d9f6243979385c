"""Write the README's result table and results/CLAIMS.md from results/, check that they still say what the results give, or write a report.

python scripts/report.py                 rewrite CLAIMS.md and what stands between the README's result markers (not with RESULTS_DIR)
python scripts/report.py --check         exit with 1 and name every number that differs; write nothing
python scripts/report.py --html FILE     write the run, its charts and images as one HTML file; leave the README alone
"""

import argparse
import difflib
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pandas as pd

from core import results, summaries
from core.config import ENSEMBLE, ORACLE, ROOT, UserError, exit_on_user_error, label
from core.findings import (
    CONTRADICTED,
    HEADLINE,
    OPEN,
    SEPARATELY,
    SUPPORTED,
    UNTESTED,
    Finding,
    describe_scope,
    find_findings,
    percent,
    seed_accuracies,
    write_headline,
)
from core.results import Run

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
CONTROLS = {ENSEMBLE: "*control:* the baselines' ensemble", ORACLE: "*control:* either baseline correct"}
MISSING = "–"
CLAIMS = "results/CLAIMS.md"  # as the README links it
VERDICTS = (SUPPORTED, OPEN, CONTRADICTED, UNTESTED)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    task = parser.add_mutually_exclusive_group()
    task.add_argument("--check", action="store_true", help="compare the README and CLAIMS.md with the results instead of writing them")
    task.add_argument("--html", type=Path, metavar="FILE", help="write one self-contained HTML file instead")
    return parser.parse_args()


def open_default_run() -> tuple[Run, list[Run]]:
    """The run the dashboard opens first, and all runs. Raises UserError."""
    names = results.find_runs(results.RESULTS)
    if not names:
        raise UserError(f"{results.RESULTS} holds no run: make one with python scripts/train.py --help")
    runs = [results.load_run(results.RESULTS / name) for name in names]
    return runs[0], runs


def describe(run: Run) -> str:
    """One sentence on how the run was made."""
    recipe, record = run.recipe, run.record
    if run.imported:
        return f"Run `{run.name}`: trained elsewhere, at {recipe.size_in_words}. {record.get('note', '')}".rstrip()
    starts = "; ".join(f"{label(name)} from {start}" for name, start in run.starts.items())
    by = "recipe" if recipe.is_current else "an earlier version of recipe"
    rebuilt = any("rebuilt" in start for start in run.starts.values())
    weaker = " (from torchvision's own a baseline may be stronger, and fusion's lead over it smaller)" if rebuilt else ""
    return (
        f"Run `{run.name}`: {by} `{recipe.name}`, {recipe.size_in_words}, {recipe.frozen_epochs} + "
        f"{recipe.finetune_epochs} epochs (head alone + {recipe.tuned_in_words}), seed {record['seed']}, {starts}{weaker}; "
        f"trained in {run.precision} on {run.device}. {record.get('note', '')}".rstrip()
    )


def write_rows(head: Sequence[str], *rows: Sequence[str]) -> list[str]:
    """A table in Markdown."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def write_table(run: Run, seeds: list[Run]) -> list[str]:
    """The result table in Markdown, with a column over seeds where there are several."""
    summary = summaries.per_model(run, results.load_test_images(results.RESULTS).labels)
    whole = [one for one in seeds if one.whole]
    seeds = whole if len(whole) > 1 else seeds  # those that the claims compare; a seed that is being made may lack a model
    spread = seed_accuracies(seeds) if len(seeds) > 1 else None

    def show(value: float, text: str) -> str:
        return MISSING if pd.isna(value) else text.format(value)

    heads = [
        "model",
        f"test accuracy, seed {run.record['seed']} [95 %]",
        "macro F1",
        "worst class",
        "validation",
        "parameters",
        "MACs",
        "latency",
        "training",
    ]
    if spread is not None:
        heads.insert(2, f"mean ± std of {len(seeds)} seeds")
    lines = []
    for row in summary.itertuples():
        cells = [
            CONTROLS.get(row.model) or label(row.model),
            f"{percent(row.accuracy)} [{100 * row.low:.2f}, {100 * row.high:.2f}]",
            show(row.macro_f1, "{:.4f}"),
            MISSING if pd.isna(row.worst_recall) else f"{row.worst_class} {percent(row.worst_recall)}",
            MISSING if pd.isna(row.val_accuracy) else percent(row.val_accuracy),
            show(row.parameters / 1e6, "{:.2f} M"),
            show(row.macs / 1e6, "{:.0f} M"),
            show(row.latency_ms, "{:.1f} ms"),
            show(row.training_minutes, "{:.1f} min"),
        ]
        if spread is not None:
            known = row.model in spread and spread[row.model].notna().all()  # a seed may lack a model
            cells.insert(2, f"{percent(spread[row.model].mean())} ± {100 * spread[row.model].std():.2f}" if known else MISSING)
        lines.append(cells)
    return write_rows(heads, *lines)


def count_verdicts(findings: list[Finding]) -> str:
    """In words: "21 claims: 6 supported, 11 not distinguishable, …"."""
    counts = Counter(finding.verdict for finding in findings)
    return f"{len(findings)} claims: {', '.join(f'{counts[verdict]} {verdict}' for verdict in VERDICTS if counts[verdict])}"


def write_claims(run: Run, findings: list[Finding]) -> str:
    """CLAIMS.md: every claim with its verdict, what came out, and its test."""
    tests = {one.id: f" *({one.test}; n = {one.n:,})*" if one.test else "" for one in findings}
    told = {one.id: one.details if one.statement == one.claim else one.text for one in findings}  # supported, in the claim's own words
    lines = [f"- {one.claim}: **{one.verdict}**. {told[one.id]}{tests[one.id]}" for one in findings]
    head = write_headline(run, findings).sentence
    if findings:
        head = f"{count_verdicts(findings)}. {SEPARATELY} {describe_scope(run, findings)}"
    return "\n".join(
        [
            f"# What may be claimed of `{run.name}`",
            "",
            head,
            "",
            *lines,
            "",
            "Written by `python scripts/report.py` from the files beside this one.",
            "",
        ]
    )


def write_block(run: Run, runs: list[Run], findings: list[Finding]) -> str:
    """What belongs between the README's markers. Raises UserError."""
    headline = write_headline(run, findings)
    scope = [f"{count_verdicts(findings)}; each with its numbers and its test in [{CLAIMS}]({CLAIMS})."] if findings else []
    return "\n".join(
        [
            BEGIN,
            f"**{headline.sentence}**",
            "",
            *([*write_rows(*headline.table), "", headline.note, ""] if headline.table else []),
            *write_table(run, results.find_seeds(run, runs)),
            "",
            (
                f"{describe(run)} Accuracy on {results.split_size(run, 'test'):,} test images with its Wilson interval; MACs and "
                "latency of one image; the ensemble's are its baselines' sums."
            ),
            "",
            *scope,
            *write_others(run, runs),
            END,
        ]
    )


def write_others(run: Run, runs: list[Run]) -> list[str]:
    """What the other runs say to the question, a line each. Raises UserError."""
    whole = [one for one in runs if one.whole]
    told, lines = {one.name: run for one in results.find_seeds(run, whole)}, []
    for one in (one for one in runs if one.name != run.name):
        if first := told.get(one.name):
            text = f"as `{first.name}`, with seed {one.record['seed']}: one of its seeds."
        else:
            headline = write_headline(one, find_findings(one, runs, HEADLINE))
            text = f"{headline.sentence} {headline.numbers}".rstrip()
            told |= {seed.name: one for seed in results.find_seeds(one, whole)} if one.whole else {}
        lines.append(f"- `{one.name}`: {text} {one.record.get('note', '')}".rstrip())
    return ["", "The other runs in `results/`:", "", *lines] if lines else []


def write_html(path: Path) -> None:
    """The dashboard's report on the default run, as a file. Raises UserError."""
    from dashboard.report import build_report  # and with it plotly, which nothing else here needs

    run, runs = open_default_run()
    findings = find_findings(run, runs)
    page = build_report(run, results.load_test_images(results.RESULTS), write_headline(run, findings), findings)
    results.write_text(path, page)


def read(path: Path, remedy: str = "write it with python scripts/report.py") -> str:
    """The text of a file that this script writes. Raises UserError with the remedy."""
    try:
        return results.read_text(path)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({results.say_why(error)}): {remedy}") from None


def split_readme(path: Path) -> tuple[str, str]:
    """The README before and after its markers and what they enclose. Raises UserError."""
    text = read(path, f"it must hold the lines {BEGIN} and {END}")
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise UserError(f"{path} must hold the line {BEGIN} and, after it, the line {END}, once each")
    return text.partition(BEGIN)[0], text.partition(END)[2]


def find_differences(found: str, expected: str) -> list[str]:
    """Where two texts differ, word by word: "line 12: 94.93 should be 95.00"."""
    old, new = found.split(), expected.split()
    numbers = [number for number, line in enumerate(found.split("\n"), 1) for _ in line.split()] or [1]
    differences = []
    for kind, start, stop, new_start, new_stop in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind != "equal":
            was, should = " ".join(old[start:stop]) or "nothing", " ".join(new[new_start:new_stop]) or "not there"
            differences.append(f"line {numbers[min(start, len(numbers) - 1)]}: {was} should be {should}")
    return differences


def main() -> None:
    args = parse_arguments()
    if args.html:
        write_html(args.html)
        print(f"wrote {args.html}")
        return
    run, runs = open_default_run()
    findings = find_findings(run, runs)
    texts = {results.RESULTS / "CLAIMS.md": write_claims(run, findings)}
    if results.RESULTS.resolve() == (ROOT / "results").resolve():  # of another folder the README says nothing
        readme = ROOT / "README.md"
        before, after = split_readme(readme)
        texts[readme] = before + write_block(run, runs, findings) + after
    names = " and ".join(path.name for path in texts)
    if args.check:
        differences = [f"{path.name} {one}" for path, text in texts.items() for one in find_differences(read(path), text)]
        for difference in differences:
            print(difference, file=sys.stderr)
        if differences:
            raise SystemExit(1)
        print(f"{names} say{'s' if len(texts) == 1 else ''} what {results.RESULTS.name}/ gives")
    else:
        for path, text in texts.items():
            results.write_text(path, text)
        print(f"wrote {' and '.join(map(str, texts))}")


if __name__ == "__main__":
    with exit_on_user_error():
        main()
