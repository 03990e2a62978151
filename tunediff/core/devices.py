"""Several processes on one machine: each takes a device that is free, or its part of the processor's threads."""

import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from socket import gethostname

import platformdirs
import torch
from filelock import FileLock, Timeout
from threadpoolctl import threadpool_limits

from tunediff.core.errors import UserError

PER_DEVICE = "TUNEDIFF_PER_DEVICE"  # how many processes share a device
AGAIN = 1.0  # seconds from one look for a free device to the next

_held: list[FileLock] = []  # until the process ends, however it does


def take() -> None:
    """Give this process a device for itself, before CUDA is initialised; wait while there is none.

    As many processes share a device as TUNEDIFF_PER_DEVICE says, 1 by default. Where the processor is the device, each
    gets that part of the threads: by what is told, not by how many run, since the last bits of a result depend on it.
    Raises UserError if what is told is no such number.
    """
    sharing = per_device(os.environ)
    count = torch.cuda.device_count()
    if devices := choices(os.environ, count):
        root = platformdirs.user_cache_path("tunediff") / "devices"
        os.environ["CUDA_VISIBLE_DEVICES"] = wait_for(devices, sharing, root)
    elif sharing > 1 and count == 0 and "OMP_NUM_THREADS" not in os.environ:
        threads = max(1, torch.get_num_threads() // sharing)
        torch.set_num_threads(threads)
        threadpool_limits(threads)  # of NumPy's and scikit-learn's libraries


def per_device(environment: Mapping[str, str]) -> int:
    told = environment.get(PER_DEVICE, "1")
    if not told.isdecimal() or int(told) == 0:
        raise UserError(f"{PER_DEVICE}={told}: expected how many processes share a device, a whole number from 1 on")
    return int(told)


def choices(environment: Mapping[str, str], count: int) -> list[str]:
    """The devices to choose from, of `count` that CUDA sees, as CUDA_VISIBLE_DEVICES names them.

    No device if it is settled already: by torchrun or accelerate, or by a CUDA_VISIBLE_DEVICES of one.
    """
    if "LOCAL_RANK" in environment:
        return []
    told = environment.get("CUDA_VISIBLE_DEVICES")
    if told is None:
        return [str(index) for index in range(count)]
    return told.split(",")[:count] if count > 1 else []


def wait_for(devices: list[str], sharing: int, root: Path) -> str:
    """The device that was taken: one that nobody has, or else one that fewer than `sharing` processes have.

    A lock file in `root` stands for each place on a device of this machine, since machines may share the cache. Where
    none can be written, it is the first device, and that is said.
    """
    places = [(device, f"{gethostname()}-{device}-{place}.lock") for place in range(sharing) for device in devices]
    told = False
    while True:
        for device, name in places:
            lock = FileLock(root / name, blocking=False)
            try:
                root.mkdir(parents=True, exist_ok=True)
                lock.acquire()
            except Timeout:
                continue
            except OSError as error:
                print(f"{root}: {error.strerror}: takes device {devices[0]}, whoever has it", file=sys.stderr)
                return devices[0]
            _held.append(lock)
            return device
        if not told:
            print(
                f"waits for a device: other processes have {', '.join(devices)}; {PER_DEVICE}={sharing + 1} would let "
                f"{sharing + 1} share each",
                file=sys.stderr,
            )
            told = True
        time.sleep(AGAIN)
