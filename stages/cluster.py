"""Run the experiments that wait in DVC's queue on the workers of a Dask cluster, and bring the results home.

dvc exp run --queue -S 'train.epochs=3,6'
python -m stages.cluster --scheduler tcp://HOST:8786
"""

import argparse
from importlib.util import find_spec

from tunediff.core.errors import UserError
from tunediff.core.process import run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scheduler", required=True, metavar="ADDRESS", help="Dask's, such as tcp://HOST:8786")
    parser.add_argument("--git-remote", default="origin", help="which workers can reach (default: origin)")
    args = parser.parse_args()
    if find_spec("distributed") is None:
        raise UserError("a cluster needs Dask, which is not installed; run: pip install -r requirements-cluster.txt")
    from tunediff.experiments.cluster import queued, run_all

    experiments = queued()
    if failed := run_all(experiments, args.scheduler, args.git_remote):
        raise UserError(
            f"{len(failed)} of {len(experiments)} experiments failed and still wait in the queue: {', '.join(failed)}; "
            "run this again, or forget them with `dvc queue remove`"
        )


if __name__ == "__main__":
    run(main)
