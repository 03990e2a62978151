"""Compare the results of all commits and experiments: methods x data sets x models x seeds.

python -m stages.leaderboard
python -m stages.leaderboard --out plots/leaderboard
"""

import argparse
import sys

from tunediff.core.files import output
from tunediff.core.process import run
from tunediff.experiments import leaderboard_page
from tunediff.experiments.leaderboard_history import all_results
from tunediff.experiments.leaderboard_table import compared, distinct, ranked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--out", type=output, default="plots/leaderboard", help="folder for leaderboard.csv, .md, .html and .png"
    )
    args = parser.parse_args()

    table = ranked(distinct(all_results()))

    leaderboard_page.write(table, args.out)
    for _, rows in table.groupby("task"):
        print(leaderboard_page.percent(compared(rows)).to_string())
    print(f"{args.out}: {len(table)} results", file=sys.stderr)


if __name__ == "__main__":
    run(main)
