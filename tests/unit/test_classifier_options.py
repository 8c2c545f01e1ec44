"""What a network's model may ask for beyond the paper, on arrays; and steps that hold a few channels at a time."""

from types import SimpleNamespace

import numpy as np
import pytest
from classifier_cohort import VOXNET, Cohort, config, job_of

from restresponse.classifier import streaming
from restresponse.classifier.architectures import check_grid, n_parameters
from restresponse.classifier.inputs import Samples
from restresponse.classifier.network import compiled, ensemble, prepare, read_network, told_of_memory
from restresponse.classifier.network_fold import train_fold
from restresponse.classifier.options import OFF, Augmentation, class_weights, cropped, network_shape
from restresponse.classifier.protocols import config_row, network_memory
from restresponse.classifier.training import predict, train
from restresponse.errors import InputError
from restresponse.files import read_json, read_table
from restresponse.grid import brain_mask
from restresponse.plan import Plan

AUGMENTATION = {"shift": 2, "flip": True, "noise": 0.1}


@pytest.fixture(scope="module", autouse=True)
def prepared():
    prepare(0)


def test_crop_keeps_every_voxel_in_its_order_and_saves_two_fifths_of_the_grid():
    mask = brain_mask(4)
    box = cropped(mask, "brain")
    values = np.random.default_rng(0).standard_normal(mask.shape)
    kept = np.zeros(box.shape)
    kept[box] = values[mask]
    where = np.argwhere(mask).min(axis=0)
    window = tuple(slice(start, start + length) for start, length in zip(where, box.shape, strict=True))
    np.testing.assert_array_equal(kept, np.where(mask, values, 0)[window])
    assert cropped(mask, "none") is mask
    assert network_shape(2, "brain") == (73, 90, 78) and network_shape(2, "none") == (91, 109, 91)
    assert 0.56 < 73 * 90 * 78 / (91 * 109 * 91) < 0.57


def test_crop_too_small_for_a_preset_is_refused():
    check_grid("voxnet", 6)
    with pytest.raises(InputError, match=r"25 x 30 x 25 voxels of 6 mm is too small .* cut to the brain, is 5\.4 mm"):
        check_grid("voxnet", 6, "brain")


def test_augmented_samples_are_the_same_shapes_elsewhere():
    mask = np.zeros((9, 9, 9), bool)
    mask[2:7, 2:7, 2:7] = True
    batch = np.zeros((40, 9, 9, 9, 2), np.float32)
    batch[:, 3, 4, 5] = [1, 2]
    moved = Augmentation.drawn({"shift": 2, "flip": True, "noise": 0}, mask, 40, np.random.default_rng(1)).of(
        batch.copy()
    )
    assert np.array_equal(moved.sum(axis=(1, 2, 3)), batch.sum(axis=(1, 2, 3)))  # nothing is lost
    places = {tuple(np.argwhere(sample[..., 0])[0]) for sample in moved}
    assert {place[0] for place in places} > {1, 2, 3, 4, 5}  # 3 and, mirrored, 5, by up to 2
    assert {place[1] for place in places} == {2, 3, 4, 5, 6}
    assert all(np.argwhere(sample[..., 0])[0].tolist() == np.argwhere(sample[..., 1])[0].tolist() for sample in moved)
    noise = Augmentation.drawn({"shift": 0, "flip": False, "noise": 0.5}, mask, 40, np.random.default_rng(1))
    noisy = noise.of(np.zeros_like(batch))
    assert not noisy[:, ~mask].any() and noisy[:, mask].std() == pytest.approx(0.5, rel=0.05)
    assert not np.array_equal(noisy[0], noisy[1]) and not np.array_equal(noisy[..., 0], noisy[..., 1])
    generator = np.random.default_rng(1)
    assert Augmentation.drawn(None, mask, 40, generator).of(batch) is batch
    assert (
        generator.random() == np.random.default_rng(1).random()
    )  # off: the random numbers of the training are as they were


def test_class_weights_give_each_class_half_of_the_loss():
    weights = class_weights(np.array([1, 1, 1, 0]), True)
    np.testing.assert_allclose(weights, [2 / 3, 2 / 3, 2 / 3, 2])
    assert class_weights(np.array([1, 1, 1, 0]), False).tolist() == [1, 1, 1, 1]


def test_published_protocols_train_without_these_options():
    changed = VOXNET | {"class_weights": True, "members": 3, "augmentation": AUGMENTATION, "crop": "brain"}
    settings = config(models={"voxnet": changed, "linear": config()["classifier"]["models"]["linear"]})
    plan = Plan.of(settings)
    rows = {
        protocol: config_row(plan, SimpleNamespace(protocol=protocol, arm="asc", model="voxnet"))["model"]
        for protocol in ("clean", "paper")
    }
    assert rows["clean"] == changed
    assert rows["paper"] == changed | OFF


def test_members_are_averaged_in_their_log_odds_and_read_back_as_one_network(tmp_path):
    members = [compiled(VOXNET, (27, 27, 27, 2), seed) for seed in (1, 2, 3)]
    given = np.random.default_rng(0).standard_normal((4, 27, 27, 27, 2)).astype(np.float32)
    scores = [np.asarray(member.predict_on_batch(given), float) for member in members]
    odds = np.mean([np.log(score / (1 - score)) for score in scores], axis=0)
    together = ensemble(members)
    np.testing.assert_allclose(together.predict_on_batch(given), 1 / (1 + np.exp(-odds)), rtol=1e-4)
    together.save(tmp_path / "model.keras")
    again = read_network(tmp_path / "model.keras")
    np.testing.assert_array_equal(again.predict_on_batch(given), together.predict_on_batch(given))
    assert again.layers[-1].units == 1
    assert ensemble(members[:1]) is members[0]


def test_fold_with_every_option_trains_on_the_cut_grid_and_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = Cohort.of(effect=0.5)
    made.mask = np.zeros((31, 31, 31), bool)
    made.mask[2:29, 2:29, 2:29] = np.arange(27**3).reshape((27,) * 3) % 9 == 0
    made.mask[2, 2, 2] = made.mask[28, 28, 28] = True
    rng = np.random.default_rng(3)
    made.components = rng.standard_normal((4, int(made.mask.sum())))
    made.maps = rng.standard_normal((12, *made.components.shape)).astype(np.float32) + made.components.astype(
        np.float32
    )
    made.write()
    model = VOXNET | {"class_weights": True, "members": 2, "augmentation": AUGMENTATION, "crop": "brain", "epochs": 1}
    arguments, folder = job_of(
        made, "network", "clean", "asc", models=config()["classifier"]["models"] | {"voxnet": model}
    )
    train_fold(**arguments)
    facts = read_json(folder / "model.json")
    assert facts["n_parameters"] == 2 * n_parameters("voxnet", (27, 27, 27), 4) - 1  # one last layer, one bias
    assert facts["parameters"]["model"]["members"] == 2
    assert set(read_table(folder / "history.tsv")["stage"]) == {"inner-1", "inner-2", "final", "final-2"}
    assert read_table(folder / "predictions.tsv")["y_score"].between(0, 1).all()
    assert read_network(folder / "model.keras").input_shape == (None, 27, 27, 27, 4)


def test_mixed_precision_computes_in_16_bits_and_keeps_weights_and_scores_in_32(tmp_path):
    import keras

    mixed = compiled(VOXNET | {"precision": "mixed"}, (27, 27, 27, 2), 1)
    assert mixed.layers[1].compute_dtype == "float16" and mixed.layers[-1].compute_dtype == "float32"
    assert {variable.dtype for variable in mixed.trainable_variables} == {"float32"}
    assert isinstance(mixed.optimizer, keras.optimizers.LossScaleOptimizer)
    assert compiled(VOXNET, (27, 27, 27, 2), 1).layers[1].compute_dtype == "float32"  # of that one model alone
    mixed.save(tmp_path / "model.keras")
    assert read_network(tmp_path / "model.keras").layers[1].compute_dtype == "float16"


@pytest.fixture
def many_channels():
    """Samples of 70 channels, which are streamed, and everyone's response."""
    cohort = Cohort.of()
    rng = np.random.default_rng(2)
    channels = {name: rng.standard_normal((70, int(cohort.mask.sum()))).astype(np.float32) for name in cohort.names}
    response = dict(zip(cohort.names, map(int, cohort.response), strict=True))
    return Samples(channels, cohort.mask, cohort.names), cohort.names, response


def test_streamed_training_gives_the_network_of_ordinary_steps(many_channels, monkeypatch):
    samples, names, response = many_channels
    # One step, and an epsilon far above the gradients: the weights change in proportion to them.
    settings = VOXNET | {"dropout": 0.0, "epsilon": 1.0, "learning_rate": 1.0, "batch_size": 8}

    def trained():
        done = train(samples, names[:8], response, settings, epochs=1, seed=4)
        return done.model.get_weights(), done.losses, predict(done.model, samples, names, 5)

    streamed, losses, scores = trained()
    monkeypatch.setattr(streaming, "CHANNELS", 1000)
    whole, whole_losses, whole_scores = trained()
    np.testing.assert_allclose(losses, whole_losses, rtol=1e-4)
    np.testing.assert_allclose(scores, whole_scores, rtol=0.01)
    for one, other, before in zip(streamed, whole, compiled(settings, samples.shape, 4).get_weights(), strict=True):
        # Where rounding makes another voxel the greatest of a pool, single weights differ by a little more.
        assert np.linalg.norm(one - other) <= 0.01 * np.linalg.norm(other - before) + 1e-6
    assert not np.array_equal(streamed[0], whole[0])  # two ways there


def test_memory_of_many_volumes_does_not_grow_with_participants_and_is_below_8_gb():
    settings = config()
    settings["functional"]["voxel_size"] = 2
    settings["classifier"]["arms"]["rsp"]["volumes"] = 343
    wildcards = SimpleNamespace(arm="rsp", model="voxnet")
    asked = network_memory(settings, 43, wildcards)
    assert asked == network_memory(settings, 400, wildcards) < 8000
    settings["classifier"]["models"]["voxnet"] = VOXNET | {"crop": "brain"}
    assert network_memory(settings, 43, wildcards) < asked


def test_missing_memory_names_the_settings_that_lower_it():
    import tensorflow as tf

    cohort = Cohort.of()
    samples = Samples(dict(zip(cohort.names, cohort.maps, strict=True)), cohort.mask, cohort.names)
    samples.mask = np.broadcast_to(np.True_, (40000, 40000, 40000))  # more than addresses, of which none is taken
    model = compiled(VOXNET, (27, 27, 27, 4), 1)
    response = dict(zip(cohort.names, map(int, cohort.response), strict=True))
    with pytest.raises(
        InputError, match=r"lower the model's batch_size, set its crop to brain, raise classifier\.voxel_size"
    ):
        predict(model, samples, cohort.names, 4)
    with pytest.raises(InputError, match="does not fit into the memory"), told_of_memory():
        tf.zeros((40000, 40000, 40000))
    with pytest.raises(ValueError, match="another"), told_of_memory():
        raise ValueError("another")
    assert response
