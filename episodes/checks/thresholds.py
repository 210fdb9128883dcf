"""The bounds of all checks, in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Thresholds:
    """What counts as a warning and what as a failure. Shares are from 0 to 1."""

    clock_jump_s: float = 0.5
    """monotonic: stamps that go back by more are a clock that jumped (FAIL); by less, samples out of order
    (WARN)."""
    rate_share: float = 0.9
    """rate: least share of the contract's rate for the reference stream and the commands (WARN below)."""
    gap_fail: float = 5.0
    """gaps: a gap longer than the stream's max_age_ms warns, one of this many times max_age_ms fails."""
    command_gap_s: float = 1.0
    """gaps: longest silence of the commands (WARN above)."""
    missing_warn: float = 0.01
    """dropped: share of frames that are missing by their stamps. Every drop that the recorder counted
    warns."""
    missing_fail: float = 0.05
    """dropped: share of frames that were dropped or are missing."""
    duplicate_warn: float = 0.05
    """duplicates: share of pictures that repeat the one before although the joints moved."""
    duplicate_fail: float = 0.3
    """duplicates: the same; also the share of samples with the stamp of another one."""
    frozen_s: float = 0.5
    """frozen: longest time with identical pictures while the joints moved (FAIL above)."""
    frozen_motion: float = 0.05
    """frozen: how far a joint has to move meanwhile, as a share of its way in the episode."""
    still: float = 0.01
    """frozen, duplicates, idle: an entry that stays within this (rad, m) all the time stands still."""
    picture_samples: int = 50
    """exposure, finite: pictures of each stream to look into, evenly spaced. All are read and compared."""
    black_mean: float = 0.02
    """exposure: a picture with a mean brightness below this share of white is black."""
    saturated_share: float = 0.5
    """exposure: a picture with more white pixels than this is saturated."""
    exposure_fail: float = 0.2
    """exposure: share of black, saturated or empty pictures; a single one warns."""
    limit_tolerance: float = 1e-6
    """limits: how far commands may lie outside the contract's limits, as a share of the range (WARN)."""
    limit_fail: float = 0.05
    """limits: the same for FAIL, and where measured joints warn; they fail at twice this."""
    velocity_warn: float = 1.05
    """velocity: speed of the commands as a multiple of the contract's max_velocity."""
    velocity_fail: float = 2.0
    """velocity: the same for FAIL. Measured joints may go twice as fast."""
    spike: float = 10.0
    """velocity: without a limit, a sample that leaps out and back at this many times the 95th percentile of
    the stream's speeds is a spike (WARN)."""
    spike_step: float = 0.02
    """velocity: and leaps at least this far (rad, m)."""
    idle_s: float = 5.0
    """idle: longest stretch in which nothing moves (WARN above)."""
    idle_share: float = 0.5
    """idle: share of the episode in which nothing moves (WARN above)."""
    idle_fail: float = 0.98
    """idle: the same for FAIL."""
    idle_speed: float = 0.02
    """idle: an entry moves when it goes faster than this share of its way in the episode per second."""
    lag_warn_s: float = 0.3
    """lag: how long after a command the joints answer."""
    lag_fail_s: float = 0.8
    """lag: the same for FAIL."""
    lead_warn_s: float = 0.05
    """lag: joints that move this long before the command, one control period granted besides (WARN above)."""
    lead_fail_s: float = 0.2
    """lag: the same for FAIL."""
    lag_correlation: float = 0.5
    """lag: least correlation at which a lag is believed."""
    skipped_warn: float = 0.1
    """alignment: share of ticks that make no transition."""
    skipped_fail: float = 0.5
    """alignment: the same for FAIL."""
    ahead_s: float = 0.005
    """alignment: how far source stamps may lie after the receipt of their sample (WARN above)."""
    length_spread: float = 3.0
    """lengths: an episode farther outside the quartiles than this many times their distance is an outlier
    (WARN)."""
    length_share: float = 0.25
    """lengths: and differs from the median by more than this share of it."""
    length_episodes: int = 8
    """lengths: fewer episodes are not compared."""
