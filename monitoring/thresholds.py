"""Every number that limits a detector, in one place: what it limits, in which unit, and how it was chosen.

They were set on the flights of 2013. A comment names the measurement; a value without one is judgement. What follows
from all of them over the whole year stands in docs/monitoring.md. For another problem: run `make bench-drift`, look at the false alarms first and
at the planted shifts second, and change the values of the group that is wrong. A false retraining is dear: against it,
raise LASTING_MIN_BIAS or LASTING_CONFIDENCE.
"""

from __future__ import annotations

# Windows.
WINDOW_DAYS = 7  # local days of the current window; persistence, tickets and the control loop count such windows
REFERENCE_DAYS = 28  # local days of the reference window, which ends where the current one begins
REFERENCE_MAX_DAYS_BACK = 4 * REFERENCE_DAYS  # how far back its days may lie, when days in quarantine are left out
REFERENCE_MIN_DAYS = 21  # in the whole year, 109 ordinary windows: with 14 days seven looked like faults, with 21 none
LAST_WINDOWS = 3  # windows that persistence looks back on, the current one included
PERSISTENT_WINDOWS = 2  # of LAST_WINDOWS, that must show the same before anybody acts

EMPTY_DAYS_MIN = (
    2  # days of a window without any request, and more than usual, from which traffic is said to have stopped
)

# Data faults, by day and slice. A fault is held against the worst reference day.
FAULT_MIN_DAYS = 2  # days on which the same is wrong: one stormy day stretches any single figure
FAULT_MIN_ROWS = 50  # rows of a slice on a day, below which it is not judged
MISSING_MAX_RISE = 0.5  # share of missing values above that of the worst reference day
EMPTY_WINDOW_MIN_DAYS = 5  # days without any value, in a row, for a column that has such days anyway
EMPTY_NEW_MIN_DAYS = 3  # the same for a column that never had such a day
SPREAD_MIN_RATIO = 0.1  # standard deviation of a day, against the smallest of a reference day
SLICE_ROWS_MIN_RATIO = 0.1  # share of the rows that a slice has, against its smallest on a reference day
LOST_MIN_EXPECTED = 20  # rows that such a slice should have on the day: with fewer it may have none by chance
LOST_OTHERS_MIN_RATIO = 0.3  # rows of all other slices against their fewest on a reference day; else traffic stopped
NEW_VALUES_MAX_SHARE = 0.2  # share of texts on a day that neither the reference nor the champion's training had
NEW_VALUES_MAX_DAYS = 2 * WINDOW_DAYS  # in which a person can look; then values that stay are what is usual
RELATION_FAULT_RATIO = (
    4.0  # distance from the relation among the inputs, against that of the worst reference day: fault
)
RELATION_STRANGE_RATIO = 2.5  # the same: strange, which is no fault and nothing to learn from
RELATION_SLICE_MIN_SHARE = (
    0.2  # share of the rows of a slice whose relations are judged: a small airline may change its timetable
)
BLAME_MIN_CHECKED_SHARE = (
    0.9  # of the rows beside a slice, which must have been checked before the slice alone is blamed
)
BROKEN_RULE_SIZE = 1000.0  # the size of a fault that breaks a rule of the Record: above that of any comparison

# Relations among the inputs.
RELATION_FIT_ROWS = 20_000  # of the reference, that the relations are fitted on
RELATION_CATEGORIES = 120  # values of a text input with a weight of their own
RELATION_RIDGE = 1.0  # penalty on standardised inputs
RELATION_MIN_EXPLAINED = 0.4  # share of variance; the rest, above all rain, has too heavy tails to say anything

# Label faults. The figures are those of the model of 1 April on the real year. Most limits are judgement; UNRELATED_…,
# MISSING_LABELS_ROOM and MISSING_LABELS_SLICE_ROOM were set with the whole year in view, so that it has no false alarm.
LABEL_MAX_SHARE = 0.01  # of labels that are wrong, missing or late beyond the usual, before all labels are at fault
LABEL_SLICE_MAX_SHARE = 0.1  # the same for one value of a slice, which may be small
LABEL_MIN_WRONG = 5  # labels, whatever the share: fewer are single corrections
LABEL_SOURCE_MIN_COVERAGE = 0.5  # share of a day's rows with a label in the training code, below which it is not asked
CONSTANT_MIN_EXPECTED = 20.0  # labels of the other class that the scores expect, and of which none came
CONSTANT_SLICE_MIN_EXPECTED = 40.0  # the same in a slice, where calm days are
UNRELATED_RATIO = 0.2  # of the usual order (2 AUC - 1): the worst of 268 real weeks, one of September, has 0.22
UNRELATED_MAX_RATIO = 0.5  # the same of the upper bound over days, which few rows a day keep high
RATE_MIN_WEEKS = 4  # with enough labels, before a rate can be outside of what they have shown
RATE_ROOM = 1.5  # log odds beyond the weeks before (regression: standard deviations of the label, as 1)
# Labels missing on the calmest day, in units of the expected rate, beyond what was usual: April to June have up to 0.03
# (the year 0.10), and 30 % of the late ones missing give 0.16 (median).
MISSING_LABELS_ROOM = 0.1
MISSING_LABELS_SLICE_ROOM = 0.3  # the same in one slice: the year has up to 0.27
# The same on FAULT_MIN_DAYS days, beyond the worst day before: April to June have up to 0.35 (a carrier), the year 0.38.
MISSING_LABELS_DAY_ROOM = 1.0
SCORE_BANDS = 5  # groups of rows by their score, whose labels may be missing; the year has up to 0.15 beyond the usual
MISSING_MIN_EXPECTED = 0.05  # expected rate from which missing labels are counted in its units
BLAMED_SLICES_MAX_SHARE = 0.5  # of the rows, which bad slices may have together before all rows are at fault
BLAMED_SLICES_MIN_WRONG = 0.8  # of all wrong labels, that they must hold
USUAL_DELAY = 0.99  # of the labels of a day, that came in the hours which are usual there
# Of the labels of a day, that came later than usual on the worst day before: April to June have up to 0.021, the year
# 0.027 (hours of 8.4 to 12.6).
LATE_MAX_SHARE = 0.05
LATE_SLICE_MAX_SHARE = 0.2  # the same in one slice: the year has up to 0.11
CORRECTED_MAX_SHARE = 0.05  # of labels that were reported with two values

# Training-serving skew.
REPLAYED_ROWS = 5000  # logged requests that are made again by the training code
SKEW_MAX_SHARE = 0.01  # of these, that may differ before it is a data fault

# Concept drift: tests over days that hang together (evaluation/day_mean.py). The false alarms are those of the runs of
# consecutive days of `make bench-drift`, whose scores are calibrated in their quarter.
DRIFT_MIN_MATURED_DAYS = 4  # days with enough matured rows; with fewer there is nothing to test
DRIFT_MIN_MATURED_ROWS = 200  # in the window
DAY_MIN_ROWS = 20  # matured rows of a day that counts
WINDOW_CONFIDENCE = 0.975  # one-sided, of each test of a window: 7 % of the weeks are called off, which trains nothing
WINDOW_MIN_BIAS = 0.05  # observed - expected outcome, in standard deviations of the outcome
MIN_EXCESS_LOSS = (
    0.01  # observed - expected loss: in units of the log loss, or as a share of a regression's squared error
)
LASTING_CONFIDENCE = 0.984  # of the last windows together, which leads to a training: none false from April to June
LASTING_MIN_BIAS = 0.15  # the same unit as WINDOW_MIN_BIAS
SAME_DIRECTION_MIN_T = 0.5  # |t| from which a single window counts as off in one direction
WITHOUT_SLICE_CONFIDENCE = 0.95  # of the signal that must remain when one slice value is left out
LEFT_OUT_MIN_SHARE = 0.1  # share of the rows from which a slice value is left out for a trial
LEFT_OUT_MAX_SHARE = 0.6  # the same; without most of the rows nothing is left to explain
OUTLIER_SLICE_CONFIDENCE = 0.975  # one-sided, that a slice left the others on the same days
OUTLIER_SLICES_MAX = 5  # slice values that are blamed for their outcomes: where more are off, it is no slice's fault
# Standard deviations of the outcome, between a slice and all others on the same days: exceeded in 1 of the 269 weeks.
OUTLIER_SLICE_MIN_GAP = 0.4
OUTLIER_SLICE_MAX_SHARE = 0.6  # share of the rows; a larger slice has too few others to be compared with

# Releases and past champions.
NEW_RELEASE_WINDOWS = 2  # windows for which a release counts as new
RELEASE_MAX_ERROR_SHARE = 0.01  # share of answers without a score
PAST_CHAMPIONS_TRIED = 4  # the newest ones
COMPARISON_MIN_DAYS = 3  # days on which the champion is compared with another version
SWITCH_CONFIDENCE = 0.975  # one-sided: the other version is clearly better; a switch also needs a lasting concept drift
# One-sided: beyond doubt, which alone undoes a release. Two good models: 2 of 1,694 windows of 3 to 6 days are false.
UNDO_CONFIDENCE = 0.985
FITS_BETTER_MAX_RATIO = 0.5  # distance of a past champion's training days to the window, against the champion's
PROFILE_MAX_GAP = 10.0  # standard deviations of one column, that count in such a distance at most

# Performance.
METRIC_MIN_ROWS = 50  # matured rows of a slice or a day that gets metrics
CALIBRATION_BINS = 10  # groups of rows with similar scores
ESTIMATE_MIN_DAYS = 5  # matured reference days that correct and bound an estimate
