"""Search hyperparameters: Optuna proposes, each trial is a DVC experiment, each method has the same budget.

python -m stages.sweep                    # conf/sweep.yaml says what; run again after an interruption, it goes on
python -m stages.sweep --write            # and put the best values into params.yaml and conf/
python -m stages.sweep --test             # and evaluate the best of each method on test, once
"""

import argparse
import signal

from tunediff.core.errors import UserError
from tunediff.core.process import run
from tunediff.core.settings import read
from tunediff.experiments import sweep_results
from tunediff.experiments.sweep_settings import CONF, Sweep
from tunediff.experiments.sweep_studies import database_errors, open_studies
from tunediff.experiments.sweep_trials import search
from tunediff.experiments.sweep_values import write_values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--write", nargs="*", metavar="METHOD", help="put the best values of these methods, or of all, where -S would"
    )
    parser.add_argument("--test", action="store_true", help="evaluate the best trial of each method on test")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)

    conf = read(CONF, Sweep)
    if unknown := [method for method in args.write or () if method not in conf.methods]:
        raise UserError(f"--write: {CONF} has no method {unknown[0]}; there are: {', '.join(conf.methods)}")

    with database_errors():
        studies = open_studies(conf)
        search(conf, studies)

        trials = sweep_results.table(conf, studies)
        sweep_results.write(conf, trials, sweep_results.importances(conf, studies))
        print(sweep_results.summary(conf, trials).to_string(index=False))
        if args.write is not None:
            write_values(trials, args.write or list(conf.methods))
        if args.test:
            print("\non test", sweep_results.on_test(conf, studies, trials).to_string(index=False), sep="\n")


if __name__ == "__main__":
    run(main)
