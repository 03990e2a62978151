"""The methods of `baseline`, once per fold, so that every row is a test row.

dvc exp run -S 'folds=[5]'
"""

from tunediff.baselines.of_task import answers_of
from tunediff.baselines.settings import WithoutFineTuning
from tunediff.core import arguments, devices
from tunediff.core.process import run
from tunediff.core.settings import read
from tunediff.evidence import folds
from tunediff.evidence.of_task import of_task as evidence_of
from tunediff.tasks import TASKS


def main() -> None:
    parser = folds.parser_of(__doc__)
    args = arguments.parse(parser, "method")
    settings = read(args.settings, WithoutFineTuning)
    devices.take()
    parts = folds.folds_of(args.splits, args.folds)
    task = TASKS[settings.task].of(parts["1"]["train"].features)

    answered: dict[str, dict[str, folds.Answered]] = {}
    for fold, splits in parts.items():
        print(f"fold {fold}", flush=True)
        known = task.targets(splits["validation"])
        for method, answers in answers_of(args.method, splits, task, settings).items():
            fitted = answers.fitted
            if answers.validation is not None:
                fitted = evidence_of(task).fit_baseline(task, answers.validation, known, splits["train"])
            one = folds.Answered(splits, {settings.seed: answers.test}, {settings.seed: fitted})
            answered.setdefault(method, {})[fold] = one
    for method, of_folds in answered.items():
        folds.write(method, task, of_folds, args)


if __name__ == "__main__":
    run(main)
