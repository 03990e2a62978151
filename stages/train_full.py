"""Fine-tune every weight of the pretrained model.

dvc repro train_full
"""

from tunediff.core.process import run
from tunediff.training import methods, stage

if __name__ == "__main__":
    run(lambda: stage.main(__doc__, methods.full))
