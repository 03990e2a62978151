"""Train one entry of `train_peft`: any method of PEFT, bottleneck adapters, or a rule that freezes all but a part.

dvc exp run -S 'train_peft.methods=[dora,ia3]'
"""

from tunediff.core.process import run
from tunediff.training import methods, stage

if __name__ == "__main__":
    run(lambda: stage.main(__doc__, methods.peft, "method"))
