"""What `test_data_parallel.py` has two ranks do: `torchrun ... job.py FOLDER`; each writes what it finds, RANK.pt."""

import sys
from pathlib import Path

import torch

from pplvm.distributed.ranks import join, rank
from tests.distributed.ranks import codebooks, gradients, pitfalls

CASES = (
    gradients.gradients,
    gradients.whole_batch_needed,
    gradients.gradients_of_pyros_own,
    gradients.plate_of_all_the_data,
    gradients.conditions,
    pitfalls.lazy_guide,
    pitfalls.the_trial_leaves_no_trace,
    pitfalls.subsampling_within,
    pitfalls.noise,
    pitfalls.unused_parameters,
    pitfalls.around_the_forward,
    pitfalls.batch_norm,
    pitfalls.frozen_part,
    pitfalls.start_from_the_first_batch,
    pitfalls.rows_without_duplicates,
    pitfalls.evaluation_of_shards,
    pitfalls.dependencies,
    pitfalls.small_things,
    pitfalls.nan_on_one_rank,
    pitfalls.a_second_fit,
    codebooks.codebooks,
)

if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    found = {}
    with join("cpu", timeout_seconds=30):
        for case in CASES:
            torch.manual_seed(0)
            print(f"rank {rank()}: {case.__name__}", flush=True)
            found[case.__name__] = case()
        torch.save(found, Path(sys.argv[1]) / f"{rank()}.pt")
