"""Many processes act as one, or end: every pitfall of data parallelism that is known, each tried on two ranks."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from pplvm.distributed import collectives, data_parallel, ranks

SCRIPTS = Path(__file__).parent / "ranks"


def started(*arguments):
    """Two ranks of a script."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPTS.parent.parent.parent)}
    return subprocess.Popen(
        [str(a) for a in command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


@pytest.fixture(scope="module")
def of(tmp_path_factory):
    """What each of two ranks found in a case of `ranks/job.py`."""
    folder = tmp_path_factory.mktemp("ranks")
    job = started(SCRIPTS / "job.py", folder)
    told, _ = job.communicate(timeout=120)
    assert job.returncode == 0, told[-6000:]
    both = [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]
    return lambda case: tuple(found[case] for found in both)


pytestmark = pytest.mark.distributed


def test_two_ranks_on_half_batches_find_the_gradient_of_one_on_the_whole(of):
    """Every objective, noise and control variates as ever, over three steps, buffers too."""
    for case in of("gradients"):
        assert len(case["found"]) > 50
        assert not (apart := {name: far for name, far in case["found"].items() if not far < 1e-9}), apart


def test_an_objective_of_the_whole_batch_is_refused(of):
    for case in of("whole_batch_needed"):
        assert "each of several processes has a part of it: start one process" in case["told"]


def test_pyros_own_objectives_give_the_mean_of_their_gradients_on_the_halves(of):
    for case in of("gradients_of_pyros_own"):
        assert all(far < 1e-9 for far in case.values()) and len(case) == 2


def test_labels_and_masks_go_with_their_rows(of):
    for case in of("conditions"):
        assert case["shapes"] == [(7, 8), (7,), (7, 8)]
        for name in ("plain", "graph"):
            assert case[name] < 1e-12
            assert torch.allclose(case[f"{name}, trained"], case["trained alone"], atol=1e-12)


def test_7_batch_norm_that_is_frozen_keeps_its_statistics_on_both(of):
    for case in of("frozen_part"):
        assert case and all(name.startswith("program.decoder.") for name in case)


def test_1_a_guide_that_makes_its_parameters_on_first_use(of):
    first, second = of("lazy_guide")
    assert "uninitialized parameters" in first["refused"]  # by DDP as it is
    assert torch.equal(first["shift"], second["shift"])
    for case in (first, second):
        assert {"program.shift", "program.encoder.weight"} <= set(case["made"])
        assert case["same random state"]


def test_1_the_trial_counts_for_nothing(of):
    for case in of("the_trial_leaves_no_trace"):
        assert all(case.values()) and {"control.evaluations", "control.inner.total"} <= set(case)


def test_2_a_plate_of_all_the_data_needs_no_factor_for_the_ranks(of):
    for case in of("plate_of_all_the_data"):
        assert case["apart"] < 1e-9


def test_3_a_program_that_subsamples_draws_other_rows_on_each_rank(of):
    first, second = of("subsampling_within")
    assert first["one seed"] == second["one seed"]  # the trap
    assert first["own seeds"] != second["own seeds"]


def test_4_each_rank_has_noise_of_its_own(of):
    first, second = of("noise")
    assert torch.equal(first["one seed"], second["one seed"])  # the trap
    assert not torch.isclose(first["own seeds"], second["own seeds"]).any()
    assert len({*first["seeds"], *second["seeds"], 0, 1, 2}) == 9


def test_5_parameters_that_no_step_uses(of):
    for case in of("unused_parameters"):
        assert case["tried"] == "no complaint" and case["unused has no gradient"]
        assert "Expected to have finished reduction" in case["not looked for"]
        assert "Expected to have finished reduction" in case["sometimes"]
        assert case["sometimes, told"] == "no complaint"


def test_6_a_call_around_the_parallel_module_is_refused(of):
    for case in of("around_the_forward"):
        assert case["refused"].startswith("this loss is trained by 2 ranks")
        assert case["without gradient"] and case["evaluating"] == "no complaint"


def test_6_ranks_that_drifted_apart_are_told_so(of):
    for case in of("around_the_forward"):
        assert case["drifted"].startswith("at step 2, 'program.") and "differs between ranks" in case["drifted"]


def test_7_moving_averages_and_floors_are_those_of_the_whole_batch(of):
    """With statistics that stay on their rank, the trap, the gradient is another."""
    for case in of("gradients"):
        for name in ("moving average", "free bits"):
            assert case["found"][name] < 1e-9 and case["traps"][name] > 0.01


def test_7_batch_norm_keeps_the_mean_over_ranks_of_what_they_see(of):
    """The running mean is that of one process; the variance lacks that between the ranks' means."""
    for case in of("batch_norm"):
        assert torch.allclose(case["mean"], case["mean of one process"], atol=1e-12)
        assert not torch.allclose(case["mean of half"], case["mean of one process"])
        assert torch.allclose(case["variance"], case["mean of variances"], atol=1e-12)
        assert not torch.allclose(case["variance"], case["variance of one process"])
        assert case["batches"] == 3


def test_7_a_start_from_the_first_batch_is_that_of_the_whole_or_refused(of):
    for case in of("start_from_the_first_batch"):
        assert torch.allclose(case["shared"], case["mean"], atol=1e-12)
        assert case["own"].startswith("after the first forward pass, 'shift' differs between ranks")


def test_8_the_particles_of_a_datum_stay_together(of):
    """Data are shared out, never particles: the logarithm of a mean of weights is taken on one rank."""
    for case in of("gradients"):
        assert all(case["found"][name] < 1e-9 for name in ("pathwise iwae (VAE)", "VIMCO (belief net)"))


def test_9_rows_are_shared_out_once_each_and_come_back_in_order(of):
    both = of("rows_without_duplicates")
    for n in range(6):
        assert sorted(both[0][n][0] + both[1][n][0]) == list(range(n))
        assert both[0][n][1] == both[1][n][1] == list(range(n))
    for case in both:
        assert torch.equal(case["table"], torch.arange(10.0, dtype=torch.double).reshape(5, 2))
        assert case["flags"].tolist() == [False, False, True, True, True]
        assert "has 5 rows of 5" in case["refused"]


def test_9_shards_are_evaluated_as_the_whole_is(of):
    for case in of("evaluation_of_shards"):
        assert torch.equal(case["together"], case["alone"])


@pytest.mark.parametrize("how, within", [("killed", 20), pytest.param("hangs", 3 + 20, marks=pytest.mark.slow)])
def test_10_a_rank_that_fails_ends_the_job(how, within, tmp_path):
    """Without a timeout of minutes; a rank that hangs is given up after 3 seconds."""
    job = started(SCRIPTS / "failing.py", tmp_path / how, how)
    told, _ = job.communicate(timeout=120)
    seconds = time.time() - float((tmp_path / how).read_text())
    assert job.returncode != 0 and seconds < within, told[-3000:]
    assert ("Timed out waiting 3000ms" in told) == (how == "hangs")


@pytest.mark.slow
def test_10_a_command_says_in_a_sentence_that_a_rank_was_killed(tmp_path):
    job = started(SCRIPTS / "failing.py", tmp_path / "told", "fit")
    told, _ = job.communicate(timeout=120)
    assert job.returncode != 0 and (tmp_path / "told").exists()
    own = [line for line in told.splitlines() if line.startswith("pplvm fit: ")]
    assert own in (
        [],
        [
            "pplvm fit: another process has ended, so this one cannot go on: what that one says, or "
            "torchrun says of it, tells why"
        ],
    ), told  # none if torchrun ended it first
    assert "Connection closed" not in told


def test_11_only_the_first_writes_and_all_read(of):
    first, second = of("small_things")
    for case in (first, second):
        assert case["read"] == "written" and case["tensor"].tolist() == [0.0, 0.0]
        assert case["total"].tolist() == [2.0, 1.0] and case["mean"].tolist() == [1.0, 0.5]
        assert case["any"] == [True, False]
        assert "batch size 3 is not divisible by 2 ranks" in case["uneven"]
        assert torch.equal(case["shares"], torch.arange(8).reshape(4, 2))
        assert "the ranks have [2, 3] rows" in case["unequal"]
    assert [int(case["outside of a step"]) for case in (first, second)] == [0, 1]
    assert [case["share"].tolist() for case in (first, second)] == [[0, 1], [2, 3]]


def test_11_no_number_on_one_rank_stops_all(of):
    first, second = of("nan_on_one_rank")
    assert first["stopped"] == second["stopped"] == 2
    assert first["finite here"] and not second["finite here"]


def test_what_a_first_batch_tells_another_rank_is_not_believed(of):
    first, second = of("dependencies")
    assert first["by itself"] == first["parallel"] == ["x", "y"]
    assert second["by itself"] == second["parallel"] == ["y"]  # whose data let the model pass y by


def test_a_loss_is_made_parallel_again_for_a_second_fit(of):
    for case in of("a_second_fit"):
        assert case["complaints"] == ["no complaint"] * 2
        assert "eval mode" in case["in eval mode"]


def test_codebooks_of_two_ranks_are_those_of_one_process(of):
    """By gradient and as a moving average, with the usage of the epoch; the trial before leaves no trace."""
    first, second = of("codebooks")
    assert len(first) == 8
    for name, case in first.items():
        assert case["trial left no trace"] and torch.equal(case["usage"], second[name]["usage"])
        assert all(torch.equal(a, b) for a, b in zip(case["codes"], second[name]["codes"], strict=True))
        if name.endswith(" 0.0"):
            assert len(case["apart"]) >= 6 and max(case["apart"].values()) < 1e-9, case["apart"]


def test_ranks_restart_dead_codes_alike(of):
    """The restarts happen, and both ranks (which have compared all they hold after each step) agree on them."""
    for case in of("codebooks"):
        for tier in ("off", "graph"):
            for kind in ("Codebook", "MovingAverageCodebook"):
                with_restarts, without = (case[f"{kind}, {tier}, {below}"]["codes"][-1] for below in (0.5, 0.0))
                assert not torch.allclose(with_restarts, without)


@pytest.fixture
def torchrun(monkeypatch):
    """The variables of a job of one rank."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    variables = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0, "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))


def test_one_process_starts_nothing():
    with ranks.join("cpu") as device:
        assert device == torch.device("cpu") and not torch.distributed.is_initialized()
        everything_alone()


def test_one_rank_is_as_one_process(torchrun):
    with ranks.join("cpu", timeout_seconds=10) as device:
        assert device == torch.device("cpu") and torch.distributed.is_initialized()
        everything_alone()
        with ranks.join("cpu"):
            pass
        assert torch.distributed.is_initialized()  # the group is that of the outer
    assert not torch.distributed.is_initialized()


def everything_alone():
    x, loss = torch.arange(3.0), nn.Linear(1, 1)
    assert (ranks.rank(), ranks.size(), ranks.is_first()) == (0, 1, True)
    assert ranks.seed_of_rank(7) == 7
    for same in (
        collectives.all_reduce_sum,
        collectives.all_reduce_mean,
        collectives.all_gather_shares,
        collectives.shared_mean,
        ranks.my_share,
        collectives.broadcast_object,
    ):
        assert torch.equal(same(x), x)
    assert torch.equal(collectives.all_gather_rows(x[ranks.my_rows(3)], 3), x)
    assert collectives.any_rank(True) and not collectives.any_rank(False)
    assert data_parallel.parallel(loss, x) is loss
    data_parallel.require_equal(loss)
    collectives.barrier()


def test_an_error_leaves_no_group_behind(torchrun):
    with pytest.raises(KeyError, match="mine"), ranks.join("cpu", timeout_seconds=10):
        raise KeyError("mine")
    assert not torch.distributed.is_initialized()


def test_half_of_torchruns_variables_is_refused(torchrun, monkeypatch):
    monkeypatch.delenv("WORLD_SIZE")
    with pytest.raises(RuntimeError, match="WORLD_SIZE is not set"), ranks.join():
        pass


def test_a_rank_without_a_gpu_of_its_own_is_refused(torchrun, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("LOCAL_RANK", "1")
    for device in ("cuda", "cuda:0"):
        with pytest.raises(RuntimeError, match="cuda.* gives local rank 1 no GPU of its own: .* at most 1 ranks"):
            with ranks.join(device):
                pass
    assert not torch.distributed.is_initialized()
