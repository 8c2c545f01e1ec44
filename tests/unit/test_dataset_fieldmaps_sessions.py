"""Field maps of participants with several sessions: found in whichever folder they lie, the scan's own session first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bids_tree import N_SLICES, TIMES, TR, add_scan, add_t1w, default_settings, start, write_nifti, write_sidecar

from restresponse.dataset import read_dataset


@pytest.mark.parametrize(
    "intended",
    [
        "ses-{}/func/sub-01_ses-{}_task-rest_bold.nii.gz",
        "bids::sub-01/ses-{}/func/sub-01_ses-{}_task-rest_bold.nii.gz",
        "sub-01/ses-{}/func/sub-01_ses-{}_task-rest_bold.nii.gz",
    ],
)
def test_each_sessions_scan_gets_the_field_map_of_its_session(tmp_path, intended):
    """IntendedFor starts at the participant's folder, not at the session's, and the other session's map is not taken."""
    root = start(
        tmp_path / "bids", "participant_id\nsub-01\n",
        RepetitionTime=TR, SliceTiming=TIMES, PhaseEncodingDirection="j-", TotalReadoutTime=0.03,
    )  # fmt: skip

    def add_session(session: str, first: float | None) -> Path:
        stem = f"sub-01_ses-{session}"
        add_scan(root, f"{stem}_task-rest")
        add_t1w(root, stem)
        folder = root / "sub-01" / f"ses-{session}" / "fmap"
        named = {"IntendedFor": intended.replace("{}", session)}
        for suffix in ("phasediff", "magnitude1") if first else ():
            write_nifti(folder / f"{stem}_{suffix}.nii.gz", (3, 3, N_SLICES))
            times = {"EchoTime1": first, "EchoTime2": first + 0.00246} if suffix == "phasediff" else {}
            write_sidecar(folder / f"{stem}_{suffix}.json", **times, **named)
        return folder

    folders = {"pre": add_session("pre", 0.004), "post": add_session("post", 0.005)}
    add_session("later", None)
    found = {}
    for session in ("pre", "post", "later"):
        dataset = read_dataset(root, default_settings() | {"session": session}, "auto")
        [row] = dataset.scans
        assert dataset.notes == [], session
        found[session] = row["fieldmap"]
    assert found.pop("later") == "n/a"
    for session, first in (("pre", 0.004), ("post", 0.005)):
        assert json.loads(found[session]) == {
            "kind": "phasediff",
            "files": {
                suffix: str(folders[session] / f"sub-01_ses-{session}_{suffix}.nii.gz")
                for suffix in ("phasediff", "magnitude1")
            },
            "echo_times": [first, pytest.approx(first + 0.00246)],
        }


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    """A scan in each of two sessions, without field maps."""
    root = start(
        tmp_path / "bids", "participant_id\nsub-01\n",
        RepetitionTime=TR, SliceTiming=TIMES, PhaseEncodingDirection="j-", TotalReadoutTime=0.03,
    )  # fmt: skip
    for session in ("pre", "post"):
        add_scan(root, f"sub-01_ses-{session}_task-rest")
        add_t1w(root, f"sub-01_ses-{session}")
    return root


def add_phases_in(folder: Path, **named: object) -> Path:
    stem = "_".join(part for part in folder.parts if part.startswith(("sub-", "ses-")))
    for suffix in ("phasediff", "magnitude1"):
        write_nifti(folder / f"{stem}_{suffix}.nii.gz", (3, 3, N_SLICES))
        times = {"EchoTime1": 0.004, "EchoTime2": 0.006} if suffix == "phasediff" else {}
        write_sidecar(folder / f"{stem}_{suffix}.json", **times, **named)
    return folder


def folder_and_notes(root: Path, session: str) -> tuple[Path | None, list[str]]:
    """The folder of the phase difference that the session's scan gets."""
    dataset = read_dataset(root, default_settings() | {"session": session}, "auto")
    cell = dataset.scans[0]["fieldmap"]
    return None if cell == "n/a" else Path(json.loads(cell)["files"]["phasediff"]).parent, dataset.notes


POST = "ses-post/func/sub-01_ses-post_task-rest_bold.nii.gz"


@pytest.mark.parametrize("intended", [POST, [POST], f"bids::sub-01/{POST}", f"sub-01/{POST}"])
def test_a_map_in_another_sessions_folder_is_the_scans_that_it_names(sessions, intended):
    before = add_phases_in(sessions / "sub-01" / "ses-pre" / "fmap", IntendedFor=intended)
    folder, (note,) = folder_and_notes(sessions, "post")
    assert folder == before
    assert note.startswith(f"sub-01_ses-post_task-rest: its field map is another session's, in {before}")
    assert folder_and_notes(sessions, "pre") == (None, [])


def test_a_map_in_another_sessions_folder_is_found_by_its_identifier(sessions):
    before = add_phases_in(sessions / "sub-01" / "ses-pre" / "fmap", B0FieldIdentifier="map7")
    write_sidecar(sessions / "sub-01/ses-post/func/sub-01_ses-post_task-rest_bold.json", B0FieldSource="map7")
    assert folder_and_notes(sessions, "post")[0] == before
    assert folder_and_notes(sessions, "pre") == (None, [])


@pytest.mark.parametrize("intended", [POST, f"bids::sub-01/{POST}"])
def test_a_map_beside_the_folders_of_sessions_is_found(sessions, intended):
    above = add_phases_in(sessions / "sub-01" / "fmap", IntendedFor=intended)
    assert folder_and_notes(sessions, "post") == (above, [])
    assert folder_and_notes(sessions, "pre") == (None, [])


def test_the_scans_own_sessions_map_comes_first_and_of_two_the_participants(sessions):
    """The same map copied into each folder, then a ready-made field elsewhere, which would come first in one folder."""
    places = [sessions / "sub-01" / part / "fmap" for part in ("ses-post", ".", "ses-pre")]
    for place in places:
        add_phases_in(place, IntendedFor=POST)
    other = places[2]
    for suffix, named in (("fieldmap", {"Units": "Hz", "IntendedFor": POST}), ("magnitude", {})):
        write_nifti(other / f"sub-01_ses-pre_{suffix}.nii.gz", (3, 3, N_SLICES))
        write_sidecar(other / f"sub-01_ses-pre_{suffix}.json", **named)
    for place in places[:2]:
        assert folder_and_notes(sessions, "post") == (place, [])
        for path in place.iterdir():
            path.unlink()
    [row] = read_dataset(sessions, default_settings() | {"session": "post"}, "auto").scans
    assert json.loads(row["fieldmap"])["kind"] == "fieldmap"


def test_a_map_of_another_session_that_names_no_scan_is_not_taken(sessions):
    """In the scan's own session it is told of; what is wrong in the other's folder is no matter of this scan's."""
    before = add_phases_in(sessions / "sub-01" / "ses-pre" / "fmap")
    assert folder_and_notes(sessions, "post") == (None, [])
    folder, (note,) = folder_and_notes(sessions, "pre")
    assert folder is None and f"{before}: the images sub-01_ses-pre_* name no functional scan" in note
    add_phases_in(before, IntendedFor="ses-pre/func/sub-01_ses-pre_task-rest_run-9_bold.nii.gz")
    assert folder_and_notes(sessions, "post") == (None, [])
    assert "which is not there" in folder_and_notes(sessions, "pre")[1][0]
    add_phases_in(before, IntendedFor="ses-post/func/sub-01_ses-post_task-rest_run-9_bold.nii.gz")
    assert "which is not there" in folder_and_notes(sessions, "post")[1][0]
