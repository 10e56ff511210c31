"""What the repository claims about itself, and the tests that show it: the scorecard, the failure map and the levels.

Each claim is a row of a table in docs/; a test names the rows that it shows with `@pytest.mark.evidence("Infra 7")`.
About the project, not about a model: nothing of this is shipped.
"""
