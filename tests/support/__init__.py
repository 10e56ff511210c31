"""What tests of several folders need: where the repository is, and builders of homes, bundles, days and runs."""

from pathlib import Path

ROOT = Path(__file__).parents[2]  # of the repository
