"""All tables in turn, each in a process of its own.

    python -m benchmarks.peers [--rounds N] [--threads 2] [--device cpu|cuda] [--json DIRECTORY]

A library that is not installed is left out: pip install "pplvm[peers]". On a GPU, `--device cuda --json
benchmarks/results` is the whole measurement; the tables that measure the processor alone are left out.
"""

import argparse
import subprocess
import sys
from pathlib import Path

TABLES = (
    "vae_step",
    "iwae_step",
    "belief_net_step",
    "replicates",
    "likelihood",
    "sampling",
    "quantization",
    "stage_two",
)
ON_CPU = ("startup", "estimators")


def main() -> int:
    """Exit code 1 if a table could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers")
    parser.add_argument("--rounds", help="of each table, instead of its own number")
    parser.add_argument("--threads", help="of each table, instead of its own number")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--json", type=Path, help="a directory, for one file a table")
    chosen = parser.parse_args()
    given = {"--rounds": chosen.rounds, "--threads": chosen.threads, "--device": chosen.device}
    options = [word for name, value in given.items() if value is not None for word in (name, value)]
    failed = []
    for table in TABLES if chosen.device == "cuda" else TABLES + ON_CPU:
        file = [] if chosen.json is None else ["--json", str(chosen.json / f"{table}-{chosen.device}.json")]
        print(f"\n## {table}\n", flush=True)
        code = subprocess.call([sys.executable, "-m", f"benchmarks.peers.{table}", *options, *file])
        failed += [table] if code else []
    if failed:
        print(f"not measured: {', '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
