"""What runs and what waits: experiments with epoch, loss and time left, and DVC's queue.

python -m stages.status
python -m stages.status --watch
"""

import argparse
import sys
import time

from rich.console import Console
from rich.live import Live

from tunediff.core.process import run
from tunediff.experiments.status import overview

AGAIN = 2.0  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--watch", action="store_true", help=f"show it again every {AGAIN:g} seconds, until Ctrl-C")
    args = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 200)  # into a file or a pipe, lines are not wrapped

    died = []
    if not args.watch:
        console.print(overview(died))
        return
    with Live(overview(died), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(AGAIN)
            live.update(overview(died), refresh=True)


if __name__ == "__main__":
    run(main)
