"""The methods text: sentences from the run's own records, so that nothing is claimed that did not run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from restresponse.classifier.search import can_be_made_again
from restresponse.files import read_json

_NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?![\w])")

_SCALED = {
    "unit_norm": "and scaled to unit norm",
    "residual": "and scaled by the norm of what is left without its strong components",
    "none": "and not scaled",
}


def merge_sentences(records: Sequence[Sequence[str]], noun: str) -> list[str]:
    """Sentences of several records as one text.

    Sentences that differ in numbers alone become one, with the range of each number; a sentence that not every record
    has says in how many it is.

    Parameters
    ----------
    records : the sentences of each record, in order
    noun : what a record is of (`scan`, `T1w image`)
    """
    groups: dict[str, list[str]] = {}
    for sentences in records:
        for sentence in dict.fromkeys(sentences):
            groups.setdefault(_NUMBER.sub("#", sentence), []).append(sentence)
    merged = []
    for sentences in groups.values():
        numbers = [_NUMBER.findall(sentence) for sentence in sentences]
        ranges = iter([_range(column) for column in zip(*numbers, strict=True)])
        text = _NUMBER.sub(lambda _: next(ranges), sentences[0])  # noqa: B023 used before the next turn
        count = len(sentences)
        merged.append(text if count == len(records) else f"{text.rstrip('.')} (in {count} of {len(records)} {noun}s).")
    return merged


def preprocessing_methods(
    anatomical: Sequence[str | Path], functional: Sequence[str | Path], denoised: Sequence[str | Path]
) -> list[str]:
    """What the records of the T1w images, of preprocessing and of denoising say was done; failed ones say nothing."""
    text = []
    for paths, noun in ((anatomical, "T1w image"), (functional, "scan"), (denoised, "scan")):
        records = [read_json(path) for path in paths]
        done = [record.get("methods") or [] for record in records if record.get("status") == "done"]
        text += merge_sentences(done, noun)
    return text


def analysis_methods(
    group_ica: Mapping[str, Any],
    reductions: Sequence[Mapping[str, Any]],
    selection: Mapping[str, Any],
    models: Mapping[tuple[str, str, str, str], Mapping[str, Any]],
    config: Mapping[str, Any],
    n_changes: int = 0,
) -> list[str]:
    """Sentences for group ICA to metrics, from the sidecars and the settings that the jobs were given.

    Parameters
    ----------
    group_ica : sidecar of cohort `all`
    reductions : sidecars of the participants' reductions
    selection : sidecar of the group test of cohort `all`
    models : sidecar of each (protocol, arm, model, fold)
    config : the config of the run
    n_changes : participants whose percent fall of pain was predicted
    """
    parameters = group_ica["parameters"]
    scaled = _SCALED[reductions[0]["parameters"].get("normalisation", "unit_norm")]
    kept = sorted({record["n_dimensions"] for record in reductions if record.get("n_dimensions")})
    text = [
        f"Group ICA: each participant's denoised series was demeaned {scaled} in every voxel and reduced to "
        f"{_span(kept)} dimensions by its leading temporal eigenvectors (up to {reductions[0]['parameters']['reduction']} asked for). "
        f"The stacked reductions were brought to {parameters['n_components']} dimensions by {_group_pca(group_ica)} and decomposed "
        f"by {_fastica(group_ica)} "
        f"(least stability {min(group_ica['stability']):.2f} with everyone). It was fitted on everyone and, separately, on "
        "the training participants of each fold.",
        _subject_maps(config["dual_regression"]),
        f"Components: a participant's amplitude is the mean of its map where the group map is beyond |z| = "
        f"{config['components']['threshold']:g}; amplitudes of responders and non-responders were compared by Welch's t "
        f"({_thresholds(selection)}) with false discovery rates and permutation p values of the largest |t|.",
    ]
    if config["metrics"]["voxel_permutations"]:
        text.append(
            "For the report alone, maps of responders and non-responders were compared voxel by voxel by a two-sample t, p by "
            f"{config['metrics']['voxel_permutations']:,} permutations of the labels against the largest |t| over voxels."
        )
    text += _model_sentences(models, config)
    repeats, folds = config["folds"]["repeats"], config["folds"]["n_folds"]
    interval = (
        "of the mean of fold AUCs by Nadeau and Bengio's corrected variance, of the others by" if repeats > 1 else "by"
    )
    text.append(
        f"Metrics: {folds}-fold cross-validation by participant, stratified by response"
        + (f", repeated {repeats} times" if repeats > 1 else "")
        + f". The headline AUC is the mean of the fold AUCs; thresholded metrics (score of 0.5) are pooled over folds. "
        f"Intervals ({config['metrics']['confidence']:.0%}) {interval} {config['metrics']['resamples']:,} resamples of participants "
        "within each response group"
        + (", that of the mean of fold AUCs no narrower than Newcombe's score interval" if repeats == 1 else "")
        + "; differences of protocols resample the same participants in both."
    )
    return text + trust_methods(models, config, n_changes)


def trust_methods(
    models: Mapping[tuple[str, str, str, str], Mapping[str, Any]], config: Mapping[str, Any], n_changes: int
) -> list[str]:
    """Sentences for the baselines, the null and the percent fall of pain; `n_changes`: of so many it was predicted."""
    settings = config["metrics"]
    columns = f"the columns {', '.join(settings['baselines'])}" if settings["baselines"] else "no clinical column"
    text = [
        f"Baselines, on the same folds, each fitted on a fold's training participants with a fixed penalty: mean framewise displacement, the global signal, "
        f"pain before treatment, {columns} where they are known (missing values imputed on training participants), the amplitude of each named network alone "
        "(logistic ridge regression), and connectivity between 32 nodes (linear support vector machine)."
    ]
    permuted = {
        key[:3]
        for key in models
        if config["classifier"]["models"][key[2]]["kind"] == "linear"
        and can_be_made_again(config["classifier"]["models"][key[2]])
    }
    if settings["permutations"] and permuted:
        text.append(
            f"Null: for each of {len(permuted)} combinations of protocol, arm and linear model, selection, choice of the penalty and fit were repeated on {settings['permutations']:,} "
            "permutations of the labels within outer folds, split and group ICA kept; p = (1 + b) / (1 + n) for b of n permutations at least as high, "
            "and over arms and models of a protocol by the largest standardised value (max-T)."
        )
    if n_changes:
        thresholds = ", ".join(f"{value:g}" for value in settings["thresholds"])
        text.append(
            f"The percent fall of pain of {n_changes} participants was predicted from the same maps by ridge regression in the clean protocol, its penalty chosen on inner folds by squared error"
            + (f"; responders at {thresholds} % were classified by models of their own" if thresholds else "")
            + ". Intervals resample participants; p is from permutations of the change within outer folds."
        )
    return text


def _fastica(group_ica: Mapping[str, Any]) -> str:
    """How the sources were found, from the sidecar."""
    starts = f"{group_ica['n_restarts']} seeded starts clustered as in ICASSO"
    if group_ica["parameters"].get("algorithm") == "deflation":
        return f"FastICA (tanh), one component after another from one start as in CONN, with {starts} to tell its stability"
    return f"symmetric FastICA (tanh), {starts}, the centrotypes polished on all voxels"


def _subject_maps(settings: Mapping[str, Any]) -> str:
    """How a participant's maps were made."""
    if settings["method"] == "gica3":
        return (
            "Participants' maps: the part of each group map that comes from the participant, by back-projection (GICA3, as in "
            "CONN): their mean over the cohort is the group map."
        )
    scaled = "scaled to unit variance" if settings["normalise_time_courses"] else "demeaned alone"
    if settings["method"] == "gica1":
        return (
            "Participants' maps: the group maps were projected onto each participant's reduced series (GICA1, as in CONN), and the "
            f"reduced series regressed on the resulting time courses, {scaled}."
        )
    return (
        f"Dual regression: the group maps were regressed on each scan (spatial), and the resulting time courses, {scaled}, "
        "on its voxels (temporal), which gave one map a component and participant."
    )


def _model_sentences(
    models: Mapping[tuple[str, str, str, str], Mapping[str, Any]], config: Mapping[str, Any]
) -> list[str]:
    text = []
    for name, settings in config["classifier"]["models"].items():
        used = {key: facts for key, facts in models.items() if key[2] == name}
        if not used:
            continue
        arms = ", ".join(dict.fromkeys(key[1] for key in used))
        how = sorted({str(facts["hyperparameters"]) for facts in used.values() if facts.get("hyperparameters")})
        chosen = f" Hyper-parameters: {'; '.join(how)}." if how else ""
        if settings["kind"] == "network":
            counts = sorted({facts["n_parameters"] for facts in used.values()})
            text.append(
                f"Classifier {name} (arms {arms}): a 3D convolutional network, preset {settings['preset']} with "
                f"{_span(counts)} trainable parameters, trained by Adam {_training_words(settings)}, batches of "
                f"{settings['batch_size']}, binary cross-entropy{_option_words(settings)}." + chosen
            )
        else:
            text.append(
                f"Classifier {name} (arms {arms}): logistic ridge regression on the participants' kernel, inverse penalty "
                f"chosen from {', '.join(f'{value:g}' for value in settings['penalties'])}." + chosen
            )
    return text


def _option_words(settings: Mapping[str, Any]) -> str:
    """What a network's model asks for beyond the paper."""
    change = settings.get("augmentation") or {}
    words = ["the grid cut to the brain's box"] if settings.get("crop") == "brain" else []
    words += ["16-bit numbers where they suffice"] if settings.get("precision") == "mixed" else []
    extra = ["half of the loss for each class"] if settings.get("class_weights") else []
    extra += [f"the mean log-odds of {settings['members']} networks"] if settings.get("members", 1) > 1 else []
    extra += [f"shifts of up to {change['shift']} voxels"] if change.get("shift") else []
    extra += ["left and right exchanged in half of the samples"] if change.get("flip") else []
    extra += [f"noise of {change['noise']:g} standard deviations"] if change.get("noise") else []
    words += [f"{', '.join(extra)} (not in the protocols of the published study)"] if extra else []
    return f", {', '.join(words)}" if words else ""


def _group_pca(facts: Mapping[str, Any]) -> str:
    """How the group PCA was made, from the sidecar of the components."""
    if facts.get("group_pca", "exact") == "exact":
        return "an exact group PCA"
    return (
        f"a group PCA of merges and {facts['passes']} block Krylov passes (1 - cos of the largest angle to the exact "
        f"subspace at most {facts['certificate']['subspace']:.0e})"
    )


def _training_words(settings: Mapping[str, Any]) -> str:
    if settings.get("search"):
        return "with learning rate, epsilon, dropout and most epochs searched in each fold"
    return (
        f"(learning rate {settings['learning_rate']:g}, epsilon {settings['epsilon']:g}), dropout "
        f"{settings['dropout']:g}, at most {settings['epochs']} epochs"
    )


def _thresholds(selection: Mapping[str, Any]) -> str:
    chance = selection.get("expected_by_chance") or {}
    return (
        "; ".join(f"p < {p} passes {count:.1f} components by chance" for p, count in chance.items()) or "no selection"
    )


def _range(column: Sequence[str]) -> str:
    values = sorted(set(column), key=float)
    return values[0] if len(values) == 1 else f"{values[0]}–{values[-1]}"


def _span(values: Sequence[int]) -> str:
    if not values:
        return "no"
    return f"{values[0]:,}" if values[0] == values[-1] else f"{values[0]:,} to {values[-1]:,}"
