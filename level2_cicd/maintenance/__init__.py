"""What keeps a home well while it grows old: it is backed up, restored and pruned.

One format of archives, for a person's backups and for the home that a workflow keeps. Nothing here trains or routes.
"""
