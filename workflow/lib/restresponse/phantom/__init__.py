"""A synthetic cohort with known truth: a raw BIDS dataset of two outcome groups, for the demo and the tests.

`python -m restresponse.phantom OUT` writes the dataset to OUT and its truth to OUT_truth (or `--truth FOLDER`).

The truth's conventions. All coordinates are mm, RAS. Four spaces:

- *MNI*: the template's.
- *T1w world*: the scanner coordinates of the T1w image; the head lies as it did then.
- *BOLD world*: the scanner coordinates of the BOLD image, with the head where it was at the start of the first slice of the
  first volume. T1w world -> BOLD world is one rigid transform, `coregistration.txt` (4 x 4, world to world).
- *BOLD world at time t*: where the head then was. A point of the head at y in BOLD world is at
  y(t) = R(t) (y - c) + c + d(t), with d = trans_x, trans_y, trans_z in mm, R = Rz(rot_z) Ry(rot_y) Rx(rot_x) in rad,
  right-handed, about the axes through c, the centre of the BOLD matrix ("centre" in participant.json).
  The motion is the head's, not the correction's: realignment estimates its inverse or itself by its own convention.

The warp. A point p of T1w world shows the template at m = u + D(u) with u = A^-1 p, where A is `affine.txt` (4 x 4) and D
`displacement.npy` (X, Y, Z, 3), mm, on the grid that `displacement_affine.txt` gives, linear in between. Backwards, p = A (m + E(m)), E is
`displacement_inverse.npy` on the same grid (within 0.15 mm). `restresponse.phantom.truth.read_truth` does the sums.

Files, in OUT_truth/{participant}/ unless said otherwise:

- `motion.tsv`: a row a volume: the six parameters as means over the slices, each at its own time; `jerk`: a jerk lies inside.
- `motion_slices.npy` (volumes, slices, 6): the same at the time of each slice, columns as in motion.tsv.
- `networks.nii.gz` (X, Y, Z, 8): the participant's planted maps in MNI space, percent of the voxel's baseline per unit of time course.
- `time_courses_middle.tsv`, `time_courses_start.tsv`: the 8 time courses at (v + 1/2) TR and at v TR; zero mean and unit
  variance at (v + 1/2) TR. `time_courses_harmonics.npy`: their cosine and sine weights, for any other time.
- `distortion.nii.gz` (with --distortion): displacement in mm along the matrix's second voxel axis, towards higher indices, by which the
  BOLD images show a piece of the head away from its place in BOLD world, the head at rest; signal is piled up and spread out accordingly.
  The field goes with the head, the direction stays the matrix's. Off-resonance in Hz is minus that over (voxel size x TotalReadoutTime).
- `participant.json`: responder, amplitudes (percent), times of the jerks, centre, slice times. Written last of a participant.
- OUT_truth/`group_maps.nii.gz`: the 8 maps before any participant's own shape, peak 1; OUT_truth/`arguments.json`: what the
  cohort was asked to be; OUT_truth/`cohort.json`: the effect, its networks and signs, the participants and their group. Written last.

The grey, white and CSF shares of a point are the template's at its place in MNI space, CSF being what brain is neither.

The effect. `--effect e` sets the ratio 1 + e. On the amplitude: a network with sign +1 has its amplitude times sqrt(1 + e) in
responders and divided by it in non-responders, with sign -1 the other way round. On the map: the same factors on the weights of
the first half of the network's nodes alone (rounded up), the amplitude being left. 0 makes a null cohort.
The default, 0.5 on the amplitude, is +DefaultMode and -SensoriMotor; a participant's own amplitudes vary by 12 % (standard deviation).
"""
