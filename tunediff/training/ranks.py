"""One training in several processes, as torchrun or `accelerate launch` starts them: PyTorch's DDP or FSDP.

Each process runs the stage on its share of every step's texts; the first one alone writes.
"""

import os
import sys
from collections.abc import Iterator
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, broadcast_object_list
from transformers.trainer_pt_utils import BatchRebalanceSampler, get_length_grouped_indices

from tunediff.core.errors import UserError
from tunediff.models.inference import device


def ranks() -> PartialState:
    """Which of how many processes this is; begins the process group at the first call.

    Raises UserError if the launcher asks for what the stages do not do.
    """
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        raise UserError("params.yaml: launcher: the stages do not do DeepSpeed; use accelerate launch --use_fsdp")
    if sharded() and os.environ.get("FSDP_VERSION") != "2":
        raise UserError("params.yaml: launcher: the stages do FSDP's second version alone; add --fsdp_version 2")
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"  # each process makes the model: adapters are new in each
    state = PartialState(cpu=device().type == "cpu")
    if sharded() and state.distributed_type == DistributedType.MULTI_CPU:
        state.distributed_type = DistributedType.MULTI_GPU  # accelerate shards nothing on CPUs, where PyTorch can
    return state


def sharded() -> bool:
    """Whether each process holds a part of each weight alone, as `accelerate launch --use_fsdp` asks for."""
    return os.environ.get("ACCELERATE_USE_FSDP") == "true"


def of_the_first(value: Any) -> Any:
    """`value` as the first process has it, in all."""
    return broadcast_object_list([value])[0]


def leave() -> None:
    """End this process, if it is one of several, once all have done their part; does not return then.

    Not by returning to Python: threads of the process group can abort an interpreter that is taken down.
    """
    if ranks().num_processes > 1:
        torch.distributed.barrier()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


class GlobalBatches(BatchRebalanceSampler):
    """Batches of texts of like length: each step's texts are the same, however many processes and parts share them.

    Each process takes texts of about the same cost. Should the last step have fewer texts than there are processes and
    parts, some of it are taken twice.
    """

    def __init__(self, lengths: list[int], batch_size: int, seed: int, parts: int):
        """`lengths` in tokens; `batch_size` texts a step, over all processes, each of which computes `parts`."""
        state = ranks()
        super().__init__(
            lengths, batch_size, state.num_processes, parts, seed=seed, rank=state.process_index, drop_last=False
        )

    def __iter__(self) -> Iterator[list[int]]:
        order = torch.Generator().manual_seed(self.seed + self.epoch)
        indices = get_length_grouped_indices(self.lengths, self.effective_batch_size, generator=order)
        for start in range(0, len(indices), self.effective_batch_size):
            batch = indices[start : start + self.effective_batch_size]
            short = self.dp_size * self.grad_accum - len(batch)
            yield from self._yield_global_batch(batch + indices[: max(0, short)])
