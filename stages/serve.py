"""Serve trained models over HTTP, with a page to try them.

python -m stages.serve --model models/lora-v2
python -m stages.serve --model models/full --model models/lora-v1 --model models/lora-v2 --port 8080
python -m stages.serve --model models/lora-v2-exported
"""

import argparse
import signal
import sys
from pathlib import Path

from tunediff.core.process import run
from tunediff.use import service_models, service_server
from tunediff.use.service_hosts import Hosts

HOST = "another name of this machine that requests may ask for; may be given several times"
MODEL = "folder of a trained or exported model; of several, a request names one by its folder's name"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--model", dest="models", type=Path, action="append", required=True, help=MODEL)
    add("--host", default="127.0.0.1", help="address to listen at (default: this machine alone)")
    add("--port", type=int, default=8000, help="0: any that is free (default: 8000)")
    add("--allowed-host", dest="allowed_hosts", action="append", default=[], metavar="NAME", help=HOST)
    add("--batch-size", type=int, default=32, help="texts computed together at most (default: 32)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # uvicorn puts it back when it is done, and raises the signal

    listener = service_server.bind(args.host, args.port)
    hosts = Hosts(args.host, args.allowed_hosts)
    # Here, so that --help and a mistake in the arguments answer at once.
    from tunediff.use.service_app import make_app

    service_server.serve(make_app(service_models.load(args.models), args.batch_size, hosts), listener)


if __name__ == "__main__":
    run(main)
