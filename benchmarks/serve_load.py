"""Load on `stages.serve` from another process: errors, latency, memory, the gain of batching, the losses at a stop.

python -m benchmarks.serve_load --model models/lora-v2
python -m benchmarks.serve_load --model models/lora-v2 --model models/lora-v1 --seconds 5
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import httpx
import numpy as np
import pandas as pd

ROOT = Path(__file__).parents[1]
STOPPED = 200  # clients when the server is stopped: some have then sent what it has not read yet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", dest="models", type=Path, action="append", required=True, help="folder; the first is under load"
    )
    parser.add_argument("--file", type=Path, default=ROOT / "data/raw/headlines.csv", help="CSV with a column `text`")
    parser.add_argument("--clients", type=int, default=32, help="each sends a text, waits for its answer, and so on")
    parser.add_argument("--seconds", type=float, default=60, help="of each of the three measurements")
    args = parser.parse_args()
    texts = pd.read_csv(args.file).text.tolist()
    random.Random(17).shuffle(texts)
    with serving(args.models) as server, serving(args.models[:1], "--batch-size", "1") as unbatched:
        print(json.dumps({"started": started(server, unbatched, args.models)}), flush=True)
        print(json.dumps({"steady": steady(server, texts, args.clients, args.seconds)}), flush=True)
        print(json.dumps({"batching": batching(server, unbatched, texts, args.clients, args.seconds)}), flush=True)
        print(json.dumps({"stop": stop(server, texts, STOPPED)}), flush=True)


@dataclass
class Server:
    """A running process of `stages.serve`."""

    process: subprocess.Popen
    url: str

    def figure(self, name: str) -> float:
        """A figure that the server shows to Prometheus."""
        line = re.search(rf"^{name} (\S+)", httpx.get(f"{self.url}metrics").text, re.MULTILINE)
        return float(line[1])

    def memory(self) -> float:
        """Resident memory in MB."""
        return self.figure("process_resident_memory_bytes") / 2**20


@contextlib.contextmanager
def serving(models: list[Path], *options: str, **more: object) -> Iterator[Server]:
    """Start `stages.serve` on a free port, wait until it answers, and stop it at the end. `more` goes to Popen."""
    command = [sys.executable, "-m", "stages.serve", *(f"--model={model}" for model in models), "--port", "0", *options]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, **more) as process:
        try:
            url = process.stdout.readline().strip()
            assert url, "it did not start"
            yield Server(process, url)
        finally:
            process.terminate()


# --- load


@dataclass
class Load:
    """The requests that clients sent, and their outcomes."""

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    """Latency of each request that was answered."""
    rate: float = 0
    """Requests answered per second, until the last one is."""


async def drive(url: str, texts: list[str], clients: int, stop: asyncio.Event) -> Load:
    """Send requests of one text until `stop`.

    Half of the clients keep their connections, and half open one for each request.
    """
    load = Load()
    texts = itertools.cycle(texts)

    async def client(http: aiohttp.ClientSession) -> None:
        while not stop.is_set():
            started = time.perf_counter()
            try:
                async with http.post("predict", json={"texts": next(texts)}) as response:
                    await response.read()
            except aiohttp.ClientConnectorError:
                load.outcomes["refused"] += 1  # it was never accepted
                return
            except (aiohttp.ClientError, TimeoutError) as error:
                load.outcomes[f"lost: {type(error).__name__}"] += 1
                return
            load.outcomes[str(response.status)] += 1
            load.seconds.append(time.perf_counter() - started)

    # Not httpx: it spends more processor time on a request than the server does, and would be what is measured.
    keeping, closing = (
        aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0, force_close=force)) for force in (0, 1)
    )
    async with keeping, closing:
        await asyncio.gather(*(client(closing if number % 2 else keeping) for number in range(clients)))
    return load


async def drive_for(url: str, texts: list[str], clients: int, seconds: float) -> Load:
    stop = asyncio.Event()
    started = time.perf_counter()
    asyncio.get_running_loop().call_later(seconds, stop.set)
    load = await drive(url, texts, clients, stop)
    load.rate = len(load.seconds) / (time.perf_counter() - started)
    return load


# --- what is measured


def started(server: Server, alone: Server, models: list[Path]) -> dict:
    """Memory of a fresh process with all models, and of one with only the first."""
    figures = {"models": [model.name for model in models], "memory_mb": round(server.memory(), 1)}
    if len(models) == 1:
        return figures
    return {**figures, "first_alone_mb": round(alone.memory(), 1), "ratio": round(server.memory() / alone.memory(), 2)}


def steady(server: Server, texts: list[str], clients: int, seconds: float) -> dict:
    """Outcomes, rate, latency and memory under load. Memory is also measured after a tenth of the time."""
    asyncio.run(drive_for(server.url, texts, clients, seconds / 10))
    before = server.memory()
    load = asyncio.run(drive_for(server.url, texts, clients, seconds))
    return {
        "seconds": seconds,
        "clients": clients,
        "outcomes": load.outcomes,
        "requests_per_second": round(load.rate, 1),
        "p50_ms": round(1000 * np.quantile(load.seconds, 0.5), 1),
        "p99_ms": round(1000 * np.quantile(load.seconds, 0.99), 1),
        "memory_mb": [round(before, 1), round(server.memory(), 1)],
    }


def batching(server: Server, unbatched: Server, texts: list[str], clients: int, seconds: float) -> dict:
    """Requests per second with and without batching, and their ratio; processor time per request, and its ratio.

    The two take turns, so that other work on the machine slows both. Processor time stays comparable where other work
    takes processors away.
    """
    turns = 6
    both = {"batched": server, "unbatched": unbatched}
    rates = Counter()
    answered = Counter()
    spent = Counter()
    for _ in range(turns):
        for name, one in both.items():
            before = one.figure("process_cpu_seconds_total")
            load = asyncio.run(drive_for(one.url, texts, clients, seconds / turns / 2))
            assert set(load.outcomes) == {"200"}, load.outcomes
            rates[name] += load.rate / turns
            answered[name] += len(load.seconds)
            spent[name] += one.figure("process_cpu_seconds_total") - before
    cost = {name: 1000 * spent[name] / answered[name] for name in both}
    return {
        "requests_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "ratio": round(rates["batched"] / rates["unbatched"], 2),
        "processor_ms_per_request": {name: round(value, 2) for name, value in cost.items()},
        "processor_ratio": round(cost["unbatched"] / cost["batched"], 2),
    }


def stop(server: Server, texts: list[str], clients: int, after: float = 2) -> dict:
    """Terminate the server after `after` seconds of load. Refused requests were never accepted; lost ones were."""

    async def measure() -> Load:
        never = asyncio.Event()  # each client goes on until it is refused
        running = asyncio.create_task(drive(server.url, texts, clients, never))
        await asyncio.sleep(after)
        server.process.terminate()
        return await running

    load = asyncio.run(measure())
    return {"outcomes": load.outcomes, "exit_code": server.process.wait(timeout=60)}


if __name__ == "__main__":
    main()
