"""Rigid head motion as matrices and as the six parameters of a confounds table.

A matrix (4, 4) takes the position in mm of a piece of the head in the reference to its position in one volume, in RAS
world coordinates. The six parameters are fMRIPrep's columns: trans_x, trans_y, trans_z (mm), where the centre of the
volume's grid moves; rot_x, rot_y, rot_z (rad), with R = R_z R_y R_x about that centre, each right-handed about its axis.
"""

from __future__ import annotations

import numpy as np


def from_niimath(rows: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Matrices of the rows of `niimath -moco -estimate`, for a series on a grid parallel to the axes.

    The columns are roll, pitch, yaw (degrees about I-S, R-L, A-P) and dS, dL, dP (mm); they are the correction, not the
    motion, and turn about the grid's centre. Held against `niimath -resample -hmc` in the tests.

    Parameters
    ----------
    rows : (n_scans, 6) array
    centre : (3,) array, mm

    Returns
    -------
    (n_scans, 4, 4) array
    """
    rows = np.atleast_2d(np.asarray(rows, np.float64))
    angles = np.deg2rad(rows[:, :3])
    rotations = turn(2, -angles[:, 0]) @ turn(0, angles[:, 1]) @ turn(1, angles[:, 2])
    shifts = np.column_stack([rows[:, 4], rows[:, 5], -rows[:, 3]])
    matrices = np.tile(np.eye(4), (len(rows), 1, 1))
    matrices[:, :3, :3] = rotations
    matrices[:, :3, 3] = centre + np.einsum("nij,nj->ni", rotations, shifts - centre)
    return matrices


def from_spm(rows: np.ndarray) -> np.ndarray:
    """Matrices of the rows of SPM's rp_*.txt: x, y, z in mm, then pitch, roll and yaw in rad (spm_matrix).

    SPM's rows take a volume's position back to the first volume's, turning about the origin of the world, left-handedly about x and z;
    these matrices are their inverses.

    Parameters
    ----------
    rows : (n_scans, 6) array

    Returns
    -------
    (n_scans, 4, 4) array
    """
    rows = np.atleast_2d(np.asarray(rows, np.float64))
    matrices = np.tile(np.eye(4), (len(rows), 1, 1))
    matrices[:, :3, :3] = turn(0, -rows[:, 3]) @ turn(1, rows[:, 4]) @ turn(2, -rows[:, 5])
    matrices[:, :3, 3] = rows[:, :3]
    return np.linalg.inv(matrices)


def parameters_of(matrices: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The six parameters (n_scans, 6) in mm and rad of rigid matrices (n_scans, 4, 4), see the module."""
    rotations = matrices[:, :3, :3]
    translations = np.einsum("nij,j->ni", rotations, centre) + matrices[:, :3, 3] - centre
    about_y = np.arcsin(np.clip(-rotations[:, 2, 0], -1, 1))
    about_x = np.arctan2(rotations[:, 2, 1], rotations[:, 2, 2])
    about_z = np.arctan2(rotations[:, 1, 0], rotations[:, 0, 0])
    return np.column_stack([translations, about_x, about_y, about_z])


def matrices_of(parameters: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """The inverse of `parameters_of`."""
    parameters = np.atleast_2d(np.asarray(parameters, np.float64))
    rotations = turn(2, parameters[:, 5]) @ turn(1, parameters[:, 4]) @ turn(0, parameters[:, 3])
    matrices = np.tile(np.eye(4), (len(parameters), 1, 1))
    matrices[:, :3, :3] = rotations
    matrices[:, :3, 3] = centre + parameters[:, :3] - np.einsum("nij,j->ni", rotations, centre)
    return matrices


def turn(axis: int, angles: np.ndarray) -> np.ndarray:
    """Right-handed rotations (n, 3, 3) about a coordinate axis by `angles` (n,) in rad."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrices = np.tile(np.eye(3), (len(angles), 1, 1))
    matrices[:, first, first] = matrices[:, second, second] = np.cos(angles)
    matrices[:, second, first] = np.sin(angles)
    matrices[:, first, second] = -np.sin(angles)
    return matrices
