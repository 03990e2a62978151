"""The metric module that `evaluate.load` reads for classification: accuracy; macro F1, precision and recall."""

import datasets
import evaluate
import numpy as np

from tunediff.tasks.classification import Classification


class Metric(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="Accuracy; macro F1, precision and recall over all labels: 0 for one never predicted.",
            citation="Pedregosa et al. 2011, scikit-learn: Machine Learning in Python",
            inputs_description="predictions and references: class numbers, one per text; labels: all labels' names",
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
        )

    def _compute(self, predictions, references, labels):
        task = Classification(labels)
        counts = task.counts(np.asarray(references), np.asarray(predictions))
        return {name: float(value) for name, value in task.figures_of(counts.sum(0, dtype=int)).items()}
