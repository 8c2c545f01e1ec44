"""Field maps are found by what they say they are for; what is wrong with one is told, and stops a run only that asks for it."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from bids_tree import N_SLICES, TIMES, TR, add_scan, add_t1w, default_settings, start, write_nifti, write_sidecar

from restresponse.dataset import read_dataset
from restresponse.errors import InputError

SCAN = "sub-01_task-rest"
HERE = "bids::sub-01/func/sub-01_task-rest_bold.nii.gz"


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    root = start(
        tmp_path / "bids", "participant_id\nsub-01\n",
        RepetitionTime=TR, SliceTiming=TIMES, PhaseEncodingDirection="j-", TotalReadoutTime=0.03,
    )  # fmt: skip
    add_scan(root, SCAN)
    add_t1w(root, "sub-01")
    return root


def add_map(bids: Path, suffix: str, stem: str = "sub-01", **sidecar: object) -> Path:
    path = write_nifti(bids / "sub-01" / "fmap" / f"{stem}_{suffix}.nii.gz", (3, 3, N_SLICES))
    write_sidecar(path.with_name(path.name.replace(".nii.gz", ".json")), **sidecar)
    return path


def add_phase_difference(bids: Path, intended: object = HERE, **sidecar: object) -> None:
    times = {"EchoTime1": 0.00492, "EchoTime2": 0.00738} | sidecar
    add_map(
        bids, "phasediff", **{name: value for name, value in times.items() if value is not None}, IntendedFor=intended
    )
    add_map(bids, "magnitude1", IntendedFor=intended)


def row_of(bids: Path, unwarp: str = "auto") -> tuple[dict, list[str]]:
    dataset = read_dataset(bids, default_settings(), unwarp)
    return dataset.scans[0], dataset.notes


def told(bids: Path, words: str) -> None:
    """The trouble is a note that leaves the scan without a field map, and a problem where field maps are asked for."""
    row, notes = row_of(bids)
    assert row["fieldmap"] == "n/a"
    assert any(words in note for note in notes), notes
    with pytest.raises(InputError, match=SCAN) as raised:
        row_of(bids, "fieldmap")
    assert words in str(raised.value)
    assert row_of(bids, "none")[1] == [] and row_of(bids, "registration")[1] == []


@pytest.mark.parametrize(
    "intended",
    [
        HERE,
        [HERE],
        "func/sub-01_task-rest_bold.nii.gz",
        ["anat/sub-01_T1w.nii.gz", "func/sub-01_task-rest_bold.nii.gz"],
        "sub-01/func/sub-01_task-rest_bold.nii.gz",
    ],
)
def test_a_phase_difference_is_found_by_what_it_is_intended_for(bids, intended):
    add_phase_difference(bids, intended)
    row, notes = row_of(bids, "fieldmap")
    folder = bids / "sub-01" / "fmap"
    assert json.loads(row["fieldmap"]) == {
        "kind": "phasediff",
        "files": {name: str(folder / f"sub-01_{name}.nii.gz") for name in ("phasediff", "magnitude1")},
        "echo_times": [0.00492, 0.00738],
    }
    assert (row["total_readout_time"], row["phase_encoding_direction"], notes) == (0.03, "j-", [])


def test_a_phase_difference_with_both_magnitudes_is_found_with_both(bids):
    add_phase_difference(bids)
    add_map(bids, "magnitude2", IntendedFor=HERE)
    found = json.loads(row_of(bids, "fieldmap")[0]["fieldmap"])
    assert found["files"] == {
        name: str(bids / "sub-01" / "fmap" / f"sub-01_{name}.nii.gz")
        for name in ("phasediff", "magnitude1", "magnitude2")
    }


def test_a_field_map_is_found_by_its_identifier(bids):
    add_map(bids, "phase1", EchoTime=0.004, B0FieldIdentifier=["a", "map7"])
    add_map(bids, "phase2", EchoTime=0.006, B0FieldIdentifier="map7")
    add_map(bids, "magnitude2")
    assert row_of(bids)[0]["fieldmap"] == "n/a"
    write_sidecar(bids / "sub-01" / "func" / f"{SCAN}_bold.json", B0FieldSource="map7")
    found = json.loads(row_of(bids)[0]["fieldmap"])
    assert (found["kind"], found["echo_times"], sorted(found["files"])) == (
        "phases", [0.004, 0.006], ["magnitude2", "phase1", "phase2"],
    )  # fmt: skip


def test_epis_read_out_both_ways_or_one_against_the_scan(bids):
    add_map(bids, "epi", "sub-01_dir-PA", PhaseEncodingDirection="j", TotalReadoutTime=0.03, IntendedFor=HERE)
    found = json.loads(row_of(bids, "fieldmap")[0]["fieldmap"])
    assert (found["kind"], list(found["directions"].values())) == ("epi", ["j"])
    add_map(bids, "epi", "sub-01_dir-AP", PhaseEncodingDirection="j-", TotalReadoutTime=0.04, IntendedFor=HERE)
    found = json.loads(row_of(bids, "fieldmap")[0]["fieldmap"])
    assert sorted(zip(found["directions"].values(), found["readouts"].values(), strict=True)) == [
        ("j", 0.03),
        ("j-", 0.04),
    ]


def test_epis_stored_along_other_axes_than_the_scan(bids):
    """The scan is read out along j-; the first is stored flipped, so that its own j- runs the other way, the second turned."""
    path = add_map(bids, "epi", "sub-01_dir-PA", PhaseEncodingDirection="j-", TotalReadoutTime=0.03, IntendedFor=HERE)
    image = nib.load(path)
    flipped = image.affine @ np.diag([1, -1, 1, 1])
    nib.Nifti1Image(np.asarray(image.dataobj), flipped).to_filename(path)
    found = json.loads(row_of(bids, "fieldmap")[0]["fieldmap"])
    assert list(found["directions"].values()) == ["j-"]
    path = add_map(bids, "epi", "sub-01_dir-AP", PhaseEncodingDirection="i-", TotalReadoutTime=0.03, IntendedFor=HERE)
    nib.Nifti1Image(np.asarray(image.dataobj), image.affine[:, [1, 0, 2, 3]]).to_filename(path)
    found = json.loads(row_of(bids, "fieldmap")[0]["fieldmap"])
    assert sorted(found["directions"].values()) == ["i-", "j-"]
    nib.Nifti1Image(np.asarray(image.dataobj), image.affine).to_filename(path)
    row, (note,) = row_of(bids)
    assert list(json.loads(row["fieldmap"])["directions"].values()) == ["j-"]
    assert (
        "sub-01_dir-AP_epi.nii.gz: read out along i- of the scan's voxel axes, the scan along j-; expected the" in note
    )


def test_a_ready_made_field_comes_before_phases(bids):
    add_phase_difference(bids)
    add_map(bids, "fieldmap", "sub-01_run-2", Units="rad/s", IntendedFor=HERE)
    add_map(bids, "magnitude", "sub-01_run-2")
    found = json.loads(row_of(bids, "fieldmap")[0]["fieldmap"])
    assert (found["kind"], found["units"], sorted(found["files"])) == ("fieldmap", "rad/s", ["fieldmap", "magnitude"])


def test_another_sessions_or_scans_field_map_is_not_taken(bids):
    add_phase_difference(bids, "func/sub-01_task-rest_run-9_bold.nii.gz")
    told(bids, "IntendedFor names 'func/sub-01_task-rest_run-9_bold.nii.gz', which is not there")
    add_scan(bids, "sub-01_task-other", sidecar={"RepetitionTime": TR})
    add_phase_difference(bids, "func/sub-01_task-other_bold.nii.gz")
    assert row_of(bids) == (row_of(bids)[0] | {"fieldmap": "n/a"}, [])


@pytest.mark.parametrize("intended", [None, "anat/sub-01_T1w.nii.gz"])
def test_a_map_that_names_no_functional_scan_is_a_note(bids, intended):
    add_map(bids, "phasediff", EchoTime1=0.004, EchoTime2=0.006, **({"IntendedFor": intended} if intended else {}))
    add_map(bids, "magnitude1")
    row, (note,) = row_of(bids)
    assert row["fieldmap"] == "n/a"
    assert (
        "the images sub-01_* name no functional scan that they are for; expected IntendedFor or B0FieldIdentifier"
        in note
    )


def test_a_source_that_no_image_has_is_told(bids):
    add_map(bids, "phasediff", EchoTime1=0.004, EchoTime2=0.006, B0FieldIdentifier="map7")
    add_map(bids, "magnitude1", B0FieldIdentifier="map7")
    sidecar = bids / "sub-01" / "func" / f"{SCAN}_bold.json"
    for source in ("map8", ["map8"]):
        write_sidecar(sidecar, B0FieldSource=source, B0FieldIdentifier="map8")  # the scan's own counts not
        told(
            bids,
            "B0FieldSource of its sidecar names 'map8', the B0FieldIdentifier of no other image that is looked at; expected that of a field map in",
        )
    write_sidecar(sidecar, B0FieldSource=["map7", "map8"])
    row, (note,) = row_of(bids, "fieldmap")
    assert json.loads(row["fieldmap"])["kind"] == "phasediff"
    assert note.startswith(f"{SCAN}: B0FieldSource of its sidecar names 'map8', the B0FieldIdentifier of no other")


def add_beside(bids: Path, name: str, direction: str, *volumes: int) -> str:
    path = write_nifti(bids / "sub-01" / "func" / f"sub-01_task-{name}.nii.gz", (3, 3, N_SLICES, *volumes))
    sidecar = {"PhaseEncodingDirection": direction, "TotalReadoutTime": 0.03, "B0FieldIdentifier": "pair"}
    write_sidecar(path.with_name(path.name.replace(".nii.gz", ".json")), **sidecar, RepetitionTime=TR)
    return str(path)


def test_epis_beside_the_scan_are_a_map_where_it_names_them(bids):
    """Single volumes read out both ways; without a source they are none; `fmap/` comes first; phases are no EPI."""
    both = {way: add_beside(bids, f"rest_dir-{name}_sbref", way) for name, way in (("AP", "j-"), ("PA", "j"))}
    add_beside(bids, "rest_dir-LL_part-phase_sbref", "j")
    assert row_of(bids)[0]["fieldmap"] == "n/a"
    write_sidecar(bids / "sub-01" / "func" / f"{SCAN}_bold.json", B0FieldSource="pair", B0FieldIdentifier="pair")
    row, notes = row_of(bids, "fieldmap")
    found = json.loads(row["fieldmap"])
    assert (found["kind"], notes) == ("epi", [])
    assert {found["directions"][name]: path for name, path in found["files"].items()} == both
    own = add_map(bids, "epi", "sub-01_dir-PA", PhaseEncodingDirection="j", TotalReadoutTime=0.02, IntendedFor=HERE)
    found = json.loads(row_of(bids, "fieldmap")[0]["fieldmap"])
    assert sorted(found["files"].values()) == sorted([str(own), both["j-"]])


def test_a_series_beside_the_scan_is_a_map_where_it_is_read_out_against_it(bids):
    write_sidecar(bids / "sub-01" / "func" / f"{SCAN}_bold.json", B0FieldSource="pair", B0FieldIdentifier="pair")
    add_beside(bids, "other_bold", "j-", 5)
    told(bids, "sub-01_task-other_bold.nii.gz are for the scan and make no field map; expected a phase difference,")
    against = add_beside(bids, "turned_bold", "j", 5)
    found = json.loads(row_of(bids, "fieldmap")[0]["fieldmap"])
    assert (found["kind"], found["files"], found["directions"]) == ("epi", {"epi1": against}, {"epi1": "j"})


def test_a_map_without_its_partner(bids):
    add_map(bids, "phasediff", EchoTime1=0.004, EchoTime2=0.006, IntendedFor=HERE)
    told(bids, "sub-01_phasediff.nii.gz without its partner; expected sub-01_magnitude1.nii[.gz] beside it")
    (bids / "sub-01" / "fmap" / "sub-01_phasediff.nii.gz").unlink()
    add_map(bids, "phase1", EchoTime=0.004, IntendedFor=HERE)
    add_map(bids, "magnitude1")
    told(bids, "sub-01_phase1.nii.gz without its partner; expected sub-01_phase2.nii[.gz]")


def test_a_whole_map_is_taken_and_what_is_wrong_with_others_is_noted(bids):
    """EPIs along the other axis beside a pair that fits; then an incomplete phase difference beside a whole one, too."""
    for way, direction in (("AP", "j-"), ("PA", "j"), ("LR", "i"), ("RL", "i-")):
        sidecar = {"PhaseEncodingDirection": direction, "TotalReadoutTime": 0.03, "IntendedFor": HERE}
        add_map(bids, "epi", f"sub-01_dir-{way}", **sidecar)
    row, notes = row_of(bids, "fieldmap")
    assert sorted(json.loads(row["fieldmap"])["directions"].values()) == ["j", "j-"]
    assert len(notes) == 2 and all("of the scan's voxel axes, the scan along j-" in note for note in notes)
    assert (row, notes) == row_of(bids, "auto")
    add_phase_difference(bids)
    add_map(bids, "phasediff", "sub-01_acq-b", EchoTime1=0.004, EchoTime2=0.006, IntendedFor=HERE)
    row, notes = row_of(bids, "fieldmap")
    assert json.loads(row["fieldmap"])["files"]["phasediff"].endswith("sub-01_phasediff.nii.gz")
    assert f"{SCAN}: {bids}/sub-01/fmap: sub-01_acq-b_phasediff.nii.gz without its partner" in notes[0]
    (bids / "sub-01/fmap/sub-01_magnitude1.nii.gz").unlink()
    (bids / "sub-01/fmap/sub-01_dir-PA_epi.nii.gz").unlink()
    told(bids, "sub-01_acq-b_phasediff.nii.gz without its partner")


def test_an_epi_read_out_like_the_scan_alone_is_no_map(bids):
    add_map(bids, "epi", "sub-01_dir-AP", PhaseEncodingDirection="j-", TotalReadoutTime=0.03, IntendedFor=HERE)
    told(bids, "read out against the scan's j-")


@pytest.mark.parametrize(
    ("sidecar", "words"),
    [
        ({"EchoTime1": None}, "EchoTime1 is not there; expected the echo's time in s"),
        ({"EchoTime2": 7.38}, "EchoTime2 is 7.38; expected the echo's time in s"),
        ({"EchoTime2": 0.004}, "expected the second later"),
    ],
)
def test_echo_times_that_cannot_be(bids, sidecar, words):
    add_phase_difference(bids, **sidecar)
    told(bids, words)


@pytest.mark.parametrize(
    ("sidecar", "words"),
    [
        ({"TotalReadoutTime": 0.03}, "PhaseEncodingDirection is None; expected one of i, i-"),
        ({"PhaseEncodingDirection": "j"}, "no TotalReadoutTime; expected the read-out's time in s"),
        ({"PhaseEncodingDirection": "j", "TotalReadoutTime": 30}, "30 s (milliseconds?); expected a time in s"),
    ],
)
def test_epis_that_do_not_say_how_they_were_read_out(bids, sidecar, words):
    add_map(bids, "epi", "sub-01_dir-PA", IntendedFor=HERE, **sidecar)
    told(bids, words)


def test_a_damaged_map(bids):
    add_phase_difference(bids)
    (bids / "sub-01" / "fmap" / "sub-01_phasediff.nii.gz").write_bytes(b"not an image")
    told(bids, "not compressed as its name says")


def test_names_that_are_not_of_bids_are_passed_over_with_a_note(bids):
    write_nifti(bids / "sub-01" / "fmap" / "M1833784_gre_field_mapping_6_e2.nii.gz", (3, 3, 3))
    write_nifti(bids / "sub-01" / "fmap" / "sub-02_phasediff.nii.gz", (3, 3, 3))
    row, notes = row_of(bids)
    assert row["fieldmap"] == "n/a"
    assert len(notes) == 1 and "2 images with names that BIDS does not allow (e.g. M1833784_gre_" in notes[0]


def test_a_scan_whose_direction_is_not_known(bids):
    write_sidecar(bids / "task-rest_bold.json", RepetitionTime=TR, SliceTiming=TIMES)
    row, notes = row_of(bids)
    assert (row["phase_encoding_direction"], row["total_readout_time"]) == ("n/a", "n/a")
    assert any("no usable PhaseEncodingDirection in the sidecars of 1 of 1 scans" in note for note in notes)
    for unwarp in ("fieldmap", "registration"):
        with pytest.raises(InputError, match="no PhaseEncodingDirection in its sidecars; expected one of i, i-"):
            row_of(bids, unwarp)
    assert row_of(bids, "none")[1] == []


def test_a_scan_with_a_map_and_no_readout_time(bids):
    add_phase_difference(bids)
    content = {"RepetitionTime": TR, "SliceTiming": TIMES, "PhaseEncodingDirection": "j"}
    write_sidecar(bids / "task-rest_bold.json", **content)
    assert any("neither TotalReadoutTime nor EffectiveEchoSpacing" in note for note in row_of(bids)[1])
    write_sidecar(bids / "task-rest_bold.json", **content, EffectiveEchoSpacing=0.0005, ReconMatrixPE=61)
    assert row_of(bids)[0]["total_readout_time"] == 0.03
    write_sidecar(bids / "task-rest_bold.json", **content, EffectiveEchoSpacing=0.0005)
    assert row_of(bids)[0]["total_readout_time"] == 0.001  # three voxels along j
    write_sidecar(bids / "task-rest_bold.json", **content, TotalReadoutTime=30.0)
    assert any("30.0 s (milliseconds?)" in note for note in row_of(bids)[1])
