"""The metric module that `evaluate.load` reads: accuracy, and macro F1, precision and recall."""

import datasets
import evaluate
from sklearn.metrics import accuracy_score, precision_recall_fscore_support


class Classification(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="Accuracy; macro F1, precision and recall, which are 0 for a class that was never predicted.",
            citation="Pedregosa et al. 2011, scikit-learn: Machine Learning in Python",
            inputs_description="predictions and references: class numbers, one per text; labels: every class number",
            features=datasets.Features({"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}),
        )

    def _compute(self, predictions, references, labels):
        precision, recall, f1, _ = precision_recall_fscore_support(
            references, predictions, labels=labels, average="macro", zero_division=0
        )
        return {
            "accuracy": float(accuracy_score(references, predictions)),
            "f1": float(f1),
            "precision": float(precision),
            "recall": float(recall),
        }
