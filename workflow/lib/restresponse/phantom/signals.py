"""What changes in time: the networks' band-limited time courses, the head's motion, heart, breath and slow drifts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BAND = (0.01, 0.08)  # Hz
JERK_WIDTH = 0.3  # s, of the tanh a jerk rises with
JERK_REACH = 0.9  # s around a jerk that count as inside it


@dataclass(frozen=True)
class Harmonics:
    """Sums of sines at known frequencies, so that they are exact at any time.

    frequencies : (F,) in Hz; weights : (2 F, K), cosines then sines; offset : (K,)
    """

    frequencies: np.ndarray
    weights: np.ndarray
    offset: np.ndarray

    def __call__(self, times: np.ndarray) -> np.ndarray:
        """Values (..., K) at times (...) in s."""
        angles = 2 * np.pi * np.asarray(times, float)[..., None] * self.frequencies
        return np.concatenate([np.cos(angles), np.sin(angles)], axis=-1) @ self.weights - self.offset

    def scaled(self, times: np.ndarray) -> Harmonics:
        """The same with zero mean and unit standard deviation over `times`."""
        values = self(times)
        spread = values.std(0)
        return Harmonics(self.frequencies, self.weights / spread, (self.offset + values.mean(0)) / spread)


def draw_harmonics(
    generator: np.random.Generator, duration: float, band: tuple[float, float], n: int, exponent: float = 0.5
) -> Harmonics:
    """`n` independent random signals in `band` (Hz) of power falling as frequency to the minus `exponent`."""
    spacing = 1 / (2 * max(duration, 100.0))  # twice the scan: its end does not meet its start
    first, last = int(np.ceil(band[0] / spacing)), int(np.floor(band[1] / spacing))
    frequencies = spacing * np.arange(first, max(first, last) + 1)
    amplitude = np.tile(frequencies ** (-exponent / 2), 2)[:, None]
    return Harmonics(frequencies, amplitude * generator.standard_normal((2 * len(frequencies), n)), np.zeros(n))


@dataclass(frozen=True)
class Motion:
    """Rigid motion of a head: drift (6 signals: mm, then rad), and jerks at `jerk_times` (J,) s by `jerk_steps` (J, 6)."""

    drift: Harmonics
    slope: np.ndarray
    jerk_times: np.ndarray
    jerk_steps: np.ndarray
    factor: float

    def __call__(self, times: np.ndarray) -> np.ndarray:
        """Parameters (..., 6) at times (...) in s: trans_x, y, z in mm, rot_x, y, z in rad; zero at time 0."""
        return self.factor * (self._raw(times) - self._raw(np.zeros(())))

    def _raw(self, times: np.ndarray) -> np.ndarray:
        times = np.asarray(times, float)[..., None]
        steps = 0.5 * (1 + np.tanh((times - self.jerk_times) / JERK_WIDTH))
        return self.drift(times[..., 0]) + times * self.slope + steps @ self.jerk_steps

    def inside_jerk(self, starts: np.ndarray, duration: float) -> np.ndarray:
        """Which of the intervals from `starts` (V,) s for `duration` s hold a jerk: (V,) bool."""
        first = np.asarray(starts)[:, None] - JERK_REACH
        last = np.asarray(starts)[:, None] + duration + JERK_REACH
        return np.any((self.jerk_times > first) & (self.jerk_times < last), axis=1) & (self.factor > 0)


def draw_motion(generator: np.random.Generator, duration: float, factor: float) -> Motion:
    """Slow drift within some tenths of a mm and of a degree, and a few jerks, half of which go back after some seconds."""
    size = np.concatenate([[0.10, 0.12, 0.18], np.deg2rad([0.16, 0.08, 0.10])])
    drift = draw_harmonics(generator, duration, (0.001, 0.02), 6, exponent=2.0).scaled(np.linspace(0, duration, 200))
    drift = Harmonics(drift.frequencies, drift.weights * size, drift.offset * size)
    slope = generator.normal(0, 1, 6) * size / max(duration, 60.0)
    times, steps = [], []
    for _ in range(max(1, generator.poisson(duration / 140))):
        time, step = generator.uniform(0.08, 0.95) * duration, generator.normal(0, 1, 6) * 1.5 * size
        times.append(time)
        steps.append(step)
        if generator.random() < 0.5:
            times.append(time + generator.uniform(3, 12))
            steps.append(-generator.uniform(0.6, 1.0) * step)
    return Motion(drift, slope, np.array(times), np.array(steps), factor)


@dataclass(frozen=True)
class Physiology:
    """Heart and breath with wandering rates, and slow drifts of fluid, white matter and the scanner."""

    cardiac_rate: float
    respiratory_rate: float
    phases: Harmonics
    slow: Harmonics
    drift: np.ndarray
    duration: float

    def __call__(self, times: np.ndarray) -> np.ndarray:
        """Signals (..., 5) of about unit size: cardiac, respiratory, slow fluid, slow white matter, scanner drift."""
        times = np.asarray(times, float)
        wander, slow = self.phases(times), self.slow(times)
        heart = 2 * np.pi * self.cardiac_rate * times + 2.0 * wander[..., 0]
        breath = 2 * np.pi * self.respiratory_rate * times + 1.2 * wander[..., 1]
        relative = 2 * times / self.duration - 1
        return np.stack(
            [
                np.cos(heart) + 0.4 * np.cos(2 * heart + 0.7),
                np.cos(breath) + 0.3 * np.cos(2 * breath + 0.3),
                slow[..., 0],
                slow[..., 1],
                self.drift[0] * relative + self.drift[1] * relative**2,
            ],
            axis=-1,
        )


def draw_physiology(generator: np.random.Generator, duration: float) -> Physiology:
    """Rates of about 64 beats and 16 breaths a minute."""
    times = np.linspace(0, duration, 400)
    phases = draw_harmonics(generator, duration, (0.005, 0.04), 2).scaled(times)
    slow = draw_harmonics(generator, duration, (0.004, 0.10), 2, exponent=1.0).scaled(times)
    return Physiology(
        generator.uniform(0.95, 1.2), generator.uniform(0.23, 0.31), phases, slow, generator.normal(0, 0.6, 2), duration
    )
