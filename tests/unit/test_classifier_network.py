"""Training of networks: the same twice, epochs chosen as the protocol says, nothing read that may not be."""

import contextlib

import numpy as np
import pytest
from classifier_cohort import CLEAN, FOLDS, PAPER, VOXNET, Cohort, config, job_of

from restresponse.classifier.architectures import n_parameters
from restresponse.classifier.inputs import ClassifierGrid, Samples, read_channels
from restresponse.classifier.network import prepare, read_network
from restresponse.classifier.network_fold import train_fold
from restresponse.classifier.training import predict, train
from restresponse.components.selection import group_test, select
from restresponse.errors import InputError
from restresponse.files import read_json, read_table, write_array
from restresponse.grid import brain_mask, grid, resample


@pytest.fixture(scope="module", autouse=True)
def prepared():
    """One thread and deterministic kernels, as in a job: must come before the library's first use."""
    prepare(0)


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = Cohort.of(effect=0.5)
    made.write()
    return made


def run(cohort, protocol, arm, **changed):
    arguments, folder = job_of(cohort, "network", protocol, arm, **changed)
    train_fold(**arguments)
    history, predictions = read_table(folder / "history.tsv"), read_table(folder / "predictions.tsv")
    return history, predictions, read_json(folder / "model.json"), folder


def weights_of(folder):
    return read_network(folder / "model.keras").get_weights()


def test_a_network_file_that_holds_code_or_is_cut_short_is_refused(tmp_path):
    import keras

    marker = tmp_path / "pwned"
    path = str(marker)
    hostile = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: (open(path, "w"), x)[1])])  # noqa: SIM115
    marker.unlink(missing_ok=True)  # building it ran it
    hostile.save(tmp_path / "model.keras")
    with pytest.raises(InputError, match="cannot be loaded as a network without running code"):
        read_network(tmp_path / "model.keras")
    assert not marker.exists()
    whole = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    whole.save(tmp_path / "whole.keras")
    again = read_network(tmp_path / "whole.keras")
    assert all(np.array_equal(one, other) for one, other in zip(again.get_weights(), whole.get_weights(), strict=True))
    content = (tmp_path / "whole.keras").read_bytes()
    (tmp_path / "whole.keras").write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match="remove it and run again"):
        read_network(tmp_path / "whole.keras")


def test_samples_are_scaled_by_training_participants_and_zero_outside_the_brain():
    cohort = Cohort.of()
    channels = dict(zip(cohort.names, cohort.maps, strict=True))
    training = cohort.names[:8]
    samples = Samples(channels, cohort.mask, training)
    batch = samples.batch(training)
    inside = batch[:, cohort.mask]
    np.testing.assert_allclose(inside.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(inside.std(axis=(0, 1)), 1, atol=1e-5)
    assert not batch[:, ~cohort.mask].any()
    channels[cohort.names[-1]] = channels[cohort.names[-1]] * 100  # not a training participant
    assert np.array_equal(Samples(channels, cohort.mask, training).batch(training), batch)


def test_coarser_grid_takes_maps_one_by_one_and_keeps_their_sums(tmp_path):
    import nibabel as nib

    mask = brain_mask(8)
    nib.save(nib.Nifti1Image(mask.astype(np.uint8), grid(8)[1]), tmp_path / "mask.nii.gz")
    target = ClassifierGrid.of(tmp_path / "mask.nii.gz", 12)
    maps = np.random.default_rng(0).standard_normal((2, mask.sum())).astype(np.float32)
    write_array(tmp_path / "maps.npy", maps)
    found = read_channels(tmp_path / "maps.npy", "sub-01", target)
    volume = np.zeros(mask.shape, np.float32)
    volume[mask] = maps[1]
    shape, affine = grid(12)
    np.testing.assert_allclose(found[1], resample(volume, grid(8)[1], shape, affine)[brain_mask(12)])
    np.testing.assert_allclose(target.from_masked(maps[:1] + maps[1:])[0], found[0] + found[1], atol=1e-5)
    assert ClassifierGrid.of(tmp_path / "mask.nii.gz", 8).is_source
    with pytest.raises(InputError, match=r"maps have 5 voxels and the group mask \d+"):
        target.from_masked(np.zeros((1, 5)))


def test_the_same_seed_gives_the_same_network_and_another_does_not():
    cohort = Cohort.of()
    samples = Samples(dict(zip(cohort.names, cohort.maps, strict=True)), cohort.mask, cohort.names)
    response = dict(zip(cohort.names, cohort.response, strict=True))

    def scores(seed):
        done = train(samples, cohort.names[:8], response, VOXNET, epochs=2, seed=seed)
        return predict(done.model, samples, cohort.names, 4), done.losses

    first, losses = scores(1)
    again, again_losses = scores(1)
    np.testing.assert_array_equal(first, again)
    assert losses == again_losses
    assert not np.array_equal(first, scores(2)[0])


def test_watching_keeps_the_best_epochs_weights_and_stops_when_patience_ends():
    cohort = Cohort.of(effect=1.0)
    samples = Samples(dict(zip(cohort.names, cohort.maps, strict=True)), cohort.mask, cohort.names[:8])
    response = dict(zip(cohort.names, cohort.response, strict=True))
    # Labels of the watched reversed: learning raises their loss, so that an early epoch is the best.
    response |= {name: 1 - response[name] for name in cohort.names[8:]}
    settings = VOXNET | {"patience": 2, "learning_rate": 0.05}
    done = train(samples, cohort.names[:8], response, settings, epochs=12, seed=3, watched=cohort.names[8:])
    assert done.epoch == int(np.argmin(done.watched_losses)) + 1
    assert len(done.losses) == done.epoch + 2 < 12
    kept = predict(done.model, samples, cohort.names[8:], 4)
    alone = train(samples, cohort.names[:8], response, settings, epochs=done.epoch, seed=3)
    np.testing.assert_array_equal(kept, predict(alone.model, samples, cohort.names[8:], 4))


def test_recorded_loss_is_the_mean_over_all_participants_of_the_epoch():
    from restresponse.classifier.network import compiled
    from restresponse.classifier.scores import log_loss

    cohort = Cohort.of(6, 5)
    samples = Samples(dict(zip(cohort.names, cohort.maps, strict=True)), cohort.mask, cohort.names)
    response = dict(zip(cohort.names, cohort.response, strict=True))
    settings = VOXNET | {"learning_rate": 1e-12, "dropout": 0.0}  # weights that stay as they were drawn
    found = train(samples, cohort.names, response, settings, epochs=1, seed=7).losses[0]
    model, order = compiled(settings, samples.shape, 7), np.random.default_rng(7).permutation(11)
    expected = 0.0
    for positions in (order[:4], order[4:8], order[8:]):
        batch = samples.batch([cohort.names[i] for i in positions])
        scores = np.asarray(model(batch, training=True))[:, 0]
        expected += log_loss(cohort.response[positions], scores) * len(positions) / 11
    assert found == pytest.approx(expected, rel=1e-4)


def test_training_loss_falls():
    cohort = Cohort.of(effect=1.0)
    samples = Samples(dict(zip(cohort.names, cohort.maps, strict=True)), cohort.mask, cohort.names)
    response = dict(zip(cohort.names, cohort.response, strict=True))
    done = train(samples, cohort.names, response, VOXNET, epochs=8, seed=1)
    assert done.losses[-1] < done.losses[0]


@pytest.fixture(scope="module")
def clean_run(tmp_path_factory):
    """One fold of `ssc` under `clean`: the cohort, history, predictions, sidecar and weights."""
    folder, made = tmp_path_factory.mktemp("clean"), Cohort.of(effect=0.5)
    with contextlib.chdir(folder):
        made.write()
        history, predictions, facts, place = run(made, "clean", "ssc")
        return made, history, predictions, facts, weights_of(place)


def test_clean_epoch_is_the_median_of_inner_folds_of_training_participants(clean_run):
    made, history, _, facts, _ = clean_run
    training = sorted(name for i, name in enumerate(made.names) if i not in made.tests[FOLDS[0]])
    assert facts["fitted_on"] == facts["labels_of"] == training
    assert facts["applied_to"] == sorted(made.names[i] for i in made.tests[FOLDS[0]])
    assert set(history["stage"]) == {"inner-1", "inner-2", "final"}
    final = history[history["stage"] == "final"]
    epochs = sorted(row["epoch"] for row in facts["inner_folds"])
    assert len(final) == facts["chosen"]["epoch"] == epochs[0]  # the lower median of two
    assert final["watched_loss"].isna().all() and history[history["stage"] != "final"]["watched_loss"].notna().all()
    for row in facts["inner_folds"]:
        assert sorted(row["fitted_on"] + row["watched"]) == training


def test_inner_selection_follows_inner_training_labels_alone(clean_run):
    made, _, _, facts, _ = clean_run
    for row in facts["inner_folds"]:
        inside = np.array([made.names.index(name) for name in row["fitted_on"]])
        expected, _ = select(group_test(made.amplitudes[inside], made.response[inside])["p"], 0.1)
        np.testing.assert_array_equal(np.array(row["selected"]) - 1, expected)


def test_sidecar_counts_parameters_and_says_what_was_not_chosen(clean_run):
    _, _, predictions, facts, weights = clean_run
    assert facts["n_channels"] == len(facts["chosen"]["selected"])
    assert facts["n_parameters"] == n_parameters("voxnet", (27, 27, 27), facts["n_channels"])
    assert f"results/dual_regression/{FOLDS[0]}/order-4/asc/batch-01/sub-03_timecourses.tsv" in facts["sources"]
    assert not [source for source in facts["sources"] if "/all" in source or "labels-all" in source]
    assert facts["hyperparameters"] == "not exercised; values taken from the config"
    assert predictions["y_score"].between(0, 1).all()
    assert facts["seconds"] > 0 and facts["peak_memory_mb"] > 100
    assert len(weights) == 16


def test_clean_network_knows_nothing_of_its_test_participants(clean_run, cohort):
    _, _, before, facts, weights = clean_run
    rng = np.random.default_rng(9)
    shape = (len(facts["chosen"]["selected"]), cohort.maps.shape[2])
    folder = f"results/dual_regression/{FOLDS[0]}/order-4/ssc_labels-{FOLDS[0]}_p-0.1"
    for index in cohort.tests[FOLDS[0]]:
        write_array(
            f"{folder}/{cohort.batch_of(cohort.names[index])}/{cohort.names[index]}_maps.npy",
            rng.standard_normal(shape).astype(np.float32),
        )
    _, after, _, place = run(cohort, "clean", "ssc")
    for old, new in zip(weights, weights_of(place), strict=True):
        np.testing.assert_array_equal(old, new)
    assert not np.array_equal(before["y_score"], after["y_score"])


def test_rungs_start_from_the_same_weights_and_see_the_same_batches(clean_run, cohort):
    """The rung that differs in the epoch alone has the same final training, until it stops."""
    protocols = {"clean": CLEAN, "paper": PAPER, "epoch_alone": CLEAN | {"epoch": "reported_folds"}}
    _, clean, _, _, _ = clean_run
    leaky, _, facts, _ = run(cohort, "epoch_alone", "ssc", protocols=protocols)
    losses = clean[clean["stage"] == "final"]["loss"].to_numpy()
    np.testing.assert_array_equal(leaky["loss"].to_numpy()[: len(losses)], losses)
    assert set(facts["labels_of"]) == set(cohort.names)


def test_clean_job_is_given_no_wider_label_table():
    for arm in ("asc", "ssc", "rsp"):
        arguments, _ = job_of(Cohort.of(), "network", "clean", arm)
        assert not [word for word in str(arguments).split("'") if "/all" in word or "labels-all" in word]


def test_paper_chooses_its_epoch_by_the_reported_labels(cohort):
    settings = VOXNET | {"epochs": 8, "patience": 8, "learning_rate": 0.05}
    models = config()["classifier"]["models"] | {"voxnet": settings}
    history, _, facts, _ = run(cohort, "paper", "asc", models=models)
    assert set(history["stage"]) == {"final"} and history["watched_loss"].notna().all()
    assert set(facts["applied_to"]) < set(facts["labels_of"])
    assert facts["chosen"]["epoch"] == int(history["watched_loss"].argmin()) + 1
    # The same job with the test labels reversed stops elsewhere: what it watches is what it reports.
    path = "results/folds/labels/all.tsv"
    table = read_table(path)
    reported = table["participant_id"].isin(facts["applied_to"])
    table.loc[reported, "response"] = 1 - table.loc[reported, "response"]
    table.to_csv(path, sep="\t", index=False)
    _, _, changed, _ = run(cohort, "paper", "asc", models=models)
    assert changed["chosen"]["epoch"] != facts["chosen"]["epoch"]


def test_participants_with_too_few_volumes_are_left_out_with_the_reason(cohort):
    counts = [5] * 12
    held_out = cohort.tests[FOLDS[0]]
    other = next(i for i in range(12) if i not in held_out)
    counts[held_out[0]], counts[other] = 2, 1
    cohort.write_volumes(counts)
    _, predictions, facts, _ = run(cohort, "clean", "rsp")
    assert facts["n_channels"] == 3
    assert {row["participant_id"]: row["reason"] for row in facts["left_out"]} == {
        cohort.names[held_out[0]]: "2 volumes; the arm takes 3",
        cohort.names[other]: "1 volumes; the arm takes 3",
    }
    assert cohort.names[held_out[0]] not in set(predictions["participant_id"])
    assert cohort.names[other] not in facts["fitted_on"] and len(facts["fitted_on"]) == 7


@pytest.mark.parametrize(("value", "words"), [(np.inf, "not finite"), (0.0, "is constant")])
def test_bad_maps_name_participant_and_component(value, words, cohort):
    cohort.maps[6, 3] = value
    write_array(f"results/dual_regression/{FOLDS[0]}/order-4/asc/batch-02/sub-07_maps.npy", cohort.maps[6])
    with pytest.raises(InputError, match=rf"component 4 of sub-07 .*{words}"):
        run(cohort, "clean", "asc")


def test_participant_of_the_fold_without_maps_is_an_error(cohort):
    path = f"results/dual_regression/{FOLDS[0]}/order-4/asc/batch-02/sub-07_maps.npy"
    write_array(path, np.zeros((0, cohort.maps.shape[2]), np.float32))
    with pytest.raises(InputError, match="sub-07 is in the fold and has no maps"):
        run(cohort, "clean", "asc")


def test_one_class_in_training_is_an_error(cohort):
    path = f"results/folds/labels/{FOLDS[0]}.tsv"
    table = read_table(path)
    table["response"] = 0
    table.to_csv(path, sep="\t", index=False)
    with pytest.raises(InputError, match="0 responders, 8 non-responders"):
        run(cohort, "clean", "asc")


def test_labels_that_are_not_binary_are_an_error(cohort):
    path = f"results/folds/labels/{FOLDS[0]}.tsv"
    table = read_table(path)
    table.loc[0, "response"] = 2
    table.to_csv(path, sep="\t", index=False)
    with pytest.raises(
        InputError, match=rf"has responses other than 1 and 0 for {table['participant_id'][0]}; remove it"
    ):
        run(cohort, "clean", "asc")


def test_a_gpu_that_is_not_there_is_an_error():
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("a GPU is there")
    with pytest.raises(InputError, match=r"classifier\.gpu is 1 and TensorFlow sees no GPU"):
        prepare(1)
