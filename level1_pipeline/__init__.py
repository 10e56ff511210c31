"""The training pipeline of Level 1, and the home of what all later levels share.

What a problem is, how its rows are kept, checked, trained on, judged and registered belongs here. What serves,
watches or acts on a model by itself does not. Every package but level0_notebooks may import it; it imports none.
"""
