"""Train one LoRA variant: low-rank updates of chosen layers, and the new head.

dvc repro train_lora@v1
"""

from tunediff.core.process import run
from tunediff.training import methods, stage

if __name__ == "__main__":
    run(lambda: stage.main(__doc__, methods.lora, "variant"))
