"""Fine-tune every weight of the pretrained model.

dvc repro train_full
"""

from stages.common import training
from stages.common.data import label_names, load_split
from stages.common.errors import run
from stages.common.models import load_classifier, load_tokenizer
from stages.common.params import load

METHOD = "full"


def main() -> None:
    args = training.arguments(__doc__)
    settings = load()
    learning_rate = settings.model.learning_rate_of(METHOD, settings.model_path)

    train, validation = (load_split(args.splits, name) for name in ("train", "validation"))

    tokenizer = load_tokenizer(settings.model, settings.model_path)
    model = load_classifier(settings.model, settings.model_path, tokenizer, label_names(train), settings.params.seed)

    fitted = training.fit(model, tokenizer, train, validation, settings.params, learning_rate, args.curves)
    training.save(fitted, tokenizer, args)


if __name__ == "__main__":
    run(main)
