"""Faults 10 to 15 and 25: programs whose halves do not match, and names that lead nowhere."""

import json
from pathlib import Path

import pytest

BROKEN = {
    "Lacks": ["the guide has no site 'z', a latent of the model: add it to the guide"],
    "Misnamed": ["the guide has no site 'z'", "did you mean 'zz'", "guide site 'zz' is no latent of the model"],
    "Wide": ["site 'z' has event shape (6,) in the guide and (3,) in the model: make them equal"],
    "Positive": ["site 'z' has support Real() in the guide and GreaterThan(lower_bound=0.0) in the model: draw it"],
    "Subsampled": [
        "site 'z' is in plates of size 12 at dim -1 in the guide and 12 of 50 at dim -1 in the model",
        "guide site 'z' is scaled by 1 and model site 'z' by 4.16667",
    ],
    "Forgetful": ["the model has no observed site: give the site that holds the data obs=x"],
    "Raw": [
        "the scale of guide site 'z' is -0.",
        " in row 0: make it positive, as softplus(h) + 1e-4 or h.clamp(-10, 10)",
    ],
}


def refused_by_all_commands(program, run, refused):
    """What `fit` says of a program; `check` and `compare` say the same."""
    told = refused(f"--program=mine:{program}")
    checked = run("check", f"mine:{program}", "--batch-size=12")
    compared = run("compare", f"--program=mine:{program}", "--batch-size=12", "--output=compared")
    assert checked[0] == 2 and compared[0] == 2 and len(compared[1]) == 1 and not Path("compared").exists()
    for words in BROKEN[program]:
        assert words in told and words in compared[1][0] and any(words in line for line in checked[1])
    return told


def test_10_a_guide_that_lacks_a_latent(run, refused):
    refused_by_all_commands("Lacks", run, refused)


def test_10_a_guide_that_misnames_a_latent(run, refused):
    refused_by_all_commands("Misnamed", run, refused)


def test_11_a_latent_of_another_shape_in_the_guide(run, refused):
    refused_by_all_commands("Wide", run, refused)


def test_12_a_latent_of_another_support_in_the_guide(run, refused):
    refused_by_all_commands("Positive", run, refused)


def test_13_a_plate_of_another_size_in_the_guide(run, refused):
    refused_by_all_commands("Subsampled", run, refused)


def test_14_a_model_that_forgets_the_data(run, refused):
    refused_by_all_commands("Forgetful", run, refused)


def test_15_a_scale_without_positivity(run, refused):
    told = refused_by_all_commands("Raw", run, refused)
    assert "tensor(" not in told and "Trace Shapes" not in told


def test_15_a_scale_that_falls_below_zero_in_training(fit, marked):
    code, lines = fit("--program=mine:Falls", f"--data={marked[0]}", "--steps=9", "--log-every=1")
    told = "the scale of guide site 'z' is -1 in row "
    cure = ": make it positive, as softplus(h) + 1e-4 or h.clamp(-10, 10).exp()"
    assert code == 3 and f"the loss is nan: {told}" in lines[-1] and cure in lines[-1], lines
    (reason,) = json.loads(Path("run/failure.json").read_text())["validated"]
    assert reason.startswith(told) and reason.endswith(cure)


@pytest.mark.parametrize(
    "words, told",
    [
        ("--program=veae", "unknown program 'veae', did you mean 'vae'?"),
        ("--program=mine:God", "mine has no 'God', did you mean 'Good'?"),
        ("--program=no.such:Story", "no module 'no.such' here ("),
        ("--program=mine:layer", "mine:layer is no program: it must be an nn.Module with methods model(x) and guide"),
        ("--program=mine:torch", "mine:torch is module, no program: name a class or an nn.Module"),
        ("--program=os:getcwd", "os:getcwd is no program"),
        ("--objective=rlo", "unknown objective 'rlo', did you mean 'rloo'?"),
        ("--objective=mine:Good", "mine:Good is no objective: it must give a pyro.infer.ELBO"),
        ("--objective=pathwise@num_particle=3", "takes no 'num_particle', did you mean 'num_particles'?"),
        ("--objective=pathwise@num_particles", "setting 'num_particles' must read name=value"),
        ("--data=digit", "unknown data set 'digit', did you mean 'digits'?"),
        ("--data=gone.npz", "there is no file gone.npz"),
        ("--data=mine:Good", "data set mine:Good cannot be made of mine:Good(), or read: Good.__init__() missing"),
        ("--data=mnist", "data set 'mnist' is read from files: say where with --data-root DIR"),
        ("--optimizer=adm", "unknown optimizer 'adm', did you mean 'adam'?"),
        ("--optimizer=adam@beta=3", "--optimizer adam@beta=3: Adam.__init__() got an unexpected keyword argument"),
        ("--optimizer=mine:Good", "--optimizer mine:Good"),
        ("--schedule=cosin", "unknown schedule 'cosin', did you mean 'cosine'?"),
        (
            "--schedule=multistep",
            "--schedule multistep: milestones must be steps, as in multistep@milestones=",
        ),
        ("--set=latnt_size=3", "program vae takes no 'latnt_size', did you mean 'latent_size'?"),
        ("--set=latent_size=x", "program vae: latent_size must be a number, got 'x'"),
        ("--set=latent_size", "setting 'latent_size' must read name=value"),
        ("--split=trian", "invalid choice: 'trian'"),
        ("--device=abacus", "--device abacus cannot be used"),
        ("--device=cuda:99", "--device cuda:99 cannot be used: torch finds"),
        ("--leaning-rate=3", "unrecognized arguments: --leaning-rate=3, did you mean --learning-rate?"),
        ("vae", "unrecognized arguments: vae"),
        ("--on-nan=maybe", "invalid choice: 'maybe'"),
    ],
)
def test_25_a_typo_is_told_with_what_was_meant(refused, words, told):
    assert told in refused(words)


@pytest.mark.parametrize(
    "words, told",
    [
        (["--learning-rate=-1"], "--learning-rate: must be above 0, got -1"),
        (["--learning-rate=0"], "--learning-rate: must be above 0, got 0"),
        (["--learning-rate=nan"], "--learning-rate: must be finite, got nan"),
        (["--guide-learning-rate=0"], "--guide-learning-rate: must be above 0, got 0"),
        (["--control-learning-rate=inf"], "--control-learning-rate: must be finite, got inf"),
        (["--clip=-1"], "--clip: must be above 0, got -1"),
        (["--average=2"], "--average: must lie between 0 and 1, as 0.999, got 2"),
        (["--beta=-1"], "--beta: must be at least 0, got -1"),
        (["--free-bits=-1"], "--free-bits: must be at least 0, got -1"),
        (["--beta=one"], "--beta: 'one' is no number"),
        (["--warmup=0"], "--warmup: must be at least 1, got 0"),
        (["--balance-kl"], "--balance-kl weighs KL terms while --warmup raises their weight: give --warmup STEPS too"),
        (["--balance-kl", "--warmup=9"], "the guide has only 'z': leave it out, or use a program with several groups"),
        (["--steps=0"], "--steps: must be at least 1, got 0"),
        (["--batch-size=0"], "--batch-size: must be at least 1, got 0"),
        (["--early-stop=3", "--split=test"], "--early-stop looks at validation data, of which there are none"),
        (["--aggressive", "--split=valid"], "--aggressive looks at validation data, of which there are none"),
        (["--seed=-1"], "--seed: must be at least 0, got -1"),
    ],
)
def test_25_a_value_out_of_range_is_refused_by_its_option(refused, words, told):
    assert told in refused(*words)


@pytest.mark.parametrize(
    "text, told",
    [
        ("stepz: 3", "c.yaml: there is no setting 'stepz', did you mean 'steps'?"),
        ("resume: run", "c.yaml: there is no setting 'resume'"),
        ("trust: [mine]", "c.yaml: there is no setting 'trust'"),
        ("steps: abc", "--steps: 'abc' is no whole number"),
        ("steps: true", "c.yaml: steps must not be true"),
        ("binarize: no", "c.yaml: binarize must not be false, as YAML reads no, off, yes and on: put it in quotes"),
        ("aggressive: 3", "c.yaml: aggressive must be true or false, got 3"),
        ("program: [vae, ppca]", "c.yaml: program takes one value, got 2"),
        ("set: {latent_size: 3}", "c.yaml: set must be a plain value or a list of such, as pplvm fit writes it"),
        ("- steps", "c.yaml must hold settings as name: value, one a line"),
        ("", "c.yaml must hold settings as name: value, one a line"),
        ("steps: [", "c.yaml cannot be read as YAML"),
        ("steps: !!python/object/apply:os.getcwd []", "c.yaml cannot be read as YAML"),
        (1000 * "[", "c.yaml cannot be read as YAML"),
        ("\udcff", "c.yaml cannot be read as YAML"),
    ],
)
def test_25_a_config_that_is_none(refused, text, told):
    Path("c.yaml").write_bytes(text.encode(errors="surrogateescape"))
    assert told in refused("--config=c.yaml")


def test_25_a_config_that_is_not_there(refused):
    assert "there is no file gone.yaml" in refused("--config=gone.yaml")
