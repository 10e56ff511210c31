"""The revisions, oldest first. There is no way down: go back with a backup."""
