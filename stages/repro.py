"""Run stages that do not depend on each other at once; what they write is what `dvc repro` writes.

python -m stages.repro                    # as many at once as there are GPUs, or two
python -m stages.repro --jobs 4 report    # and only what `dvc repro report` would run
"""

import argparse
import signal

from tunediff.core.process import run
from tunediff.experiments import repro_plan, repro_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="as for `dvc repro` (default: all stages)")
    parser.add_argument("--jobs", type=int, help="stages at once (default: one for each GPU, or 2 without a GPU)")
    parser.add_argument("--stop", action="store_true", help="when a stage fails, end the others that run")
    args = parser.parse_args()
    if args.jobs is not None and args.jobs < 1:
        parser.error(f"--jobs {args.jobs}: expected a whole number from 1 on")
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    plan = repro_plan.make(args.targets)
    if not plan.changed:
        print("Data and pipelines are up to date.")
        return
    repro_run.run(plan, *repro_run.places(args.jobs), args.stop)


if __name__ == "__main__":
    run(main)
