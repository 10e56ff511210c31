"""Level 2: acts on what the monitoring finds, safely."""
