"""SPM itself with a field map: what was planted is found, and Realign & Unwarp takes it out. Not run, and said so, where SPM's command is not named."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from distorted_phantom import PHASE, Scan
from engine_watch import voxels_in_interfaces_alone
from real_spm import COMMAND, REAL

from restresponse.engines import masks, shifts, warps
from restresponse.engines.spm import Spm
from restresponse.functional.fieldmaps import prepare_field

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not COMMAND, reason="SPM itself was not run on field maps: RESTRESPONSE_SPM_COMMAND does not name its command"
    ),
]


def test_spm_itself_takes_out_what_a_phase_difference_shows(tmp_path):
    scan = Scan(tmp_path, 4.0, "phasediff", "spm", REAL)
    with voxels_in_interfaces_alone(Spm) as seen:
        realignment = scan.works.realign(scan.bold)
        hertz = prepare_field(scan.works, realignment.reference, PHASE, scan.phase_difference())
        found = scan.works.unwarp_by_field(scan.bold, realignment, hertz, PHASE)
    assert {"realign", "functional_mask", "align", "unwarp_by_field"} <= seen
    planted, error = scan.field_error(found.shift)

    distorted = np.asarray(nib.load(realignment.reference).dataobj, np.float32)
    places = warps.world_of(np.argwhere(np.ones(distorted.shape, bool)).astype(float), scan.affine)
    true = np.moveaxis((scan.truth.displacement(places.T) / 3).reshape(distorted.shape), PHASE.axis, -1)
    still = shifts.undistorted(np.moveaxis(distorted, PHASE.axis, -1).copy(), true.astype(np.float32))
    still = np.moveaxis(still, -1, PHASE.axis)
    moved = np.moveaxis(np.abs(true) > 0.5, -1, PHASE.axis) & (still > 0.3 * np.percentile(still, 98))
    unwarped = np.asarray(nib.load(found.reference).dataobj)
    before, after = (masks.correlation(image, still, moved) for image in (distorted, unwarped))
    print(
        f"spm: {planted:.2f} mm of distortion, known but for {error:.2f} mm; likeness {before:.2f} before, {after:.2f} after"
    )
    assert planted > 0.9
    assert error < 0.15
    assert before < 0.9
    assert after > 0.95
