"""What a finished run took, stage by stage, from the files of Snakemake's `benchmark:`.

python benchmarks/stages.py [RESULTS]       prints a table in Markdown
"""

from __future__ import annotations

import csv
import re
import sys
from collections import defaultdict
from pathlib import Path

ORDER = "dataset anatomical functional quality folds group_ica dual_regression components classifier metrics report"


def stage_of(rule: str) -> str:
    """The stage that a rule's name begins with."""
    return next(stage for stage in ORDER.split() if re.match(rf"{stage}_", rule))


def read_rules(results: Path) -> dict[str, list[dict[str, float]]]:
    """Rows of every benchmark file by rule: wall and CPU seconds, peak memory in MB."""
    rules: dict[str, list[dict[str, float]]] = defaultdict(list)
    for path in sorted((results / "benchmarks").rglob("*.tsv")):
        with path.open(newline="") as stream:
            for row in csv.DictReader(stream, delimiter="\t"):
                number = {
                    key: float(row[key]) if row[key] not in {"-", "NA", ""} else 0.0 for key in row if key != "h:m:s"
                }
                rules[path.relative_to(results / "benchmarks").parts[0].removesuffix(".tsv")].append(number)
    return rules


def main(results: Path) -> None:
    """Print the table: a row a rule in the order of the stages, and the sums."""
    rules = read_rules(results)
    if not rules:
        sys.exit(f"{results}/benchmarks holds no benchmark file; run the workflow first (make demo)")
    print("| rule | jobs | wall s, sum | wall s, longest | CPU s, sum | peak MB |\n|---|---|---|---|---|---|")
    total = [0, 0.0, 0.0, 0.0]
    for rule in sorted(rules, key=lambda name: (ORDER.split().index(stage_of(name)), name)):
        rows = rules[rule]
        wall, cpu = sum(row["s"] for row in rows), sum(row["cpu_time"] for row in rows)
        peak = max(row["max_rss"] for row in rows)
        total = [total[0] + len(rows), total[1] + wall, total[2] + cpu, max(total[3], peak)]
        print(f"| {rule} | {len(rows)} | {wall:.0f} | {max(row['s'] for row in rows):.1f} | {cpu:.0f} | {peak:.0f} |")
    print(f"| all | {total[0]} | {total[1]:.0f} | | {total[2]:.0f} | {total[3]:.0f} |")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "results"))
