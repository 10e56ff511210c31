"""What the GitHub workflows call besides the commands that a person calls: the home that a fork keeps from one run to the
next, an issue for each ticket, and the job summary. Only this folder speaks with GitHub, by the program `gh`.
"""
