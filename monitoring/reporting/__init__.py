"""A finished run for people and other tools: the HTML report, plots, text, figures for Prometheus, Evidently's pages.

Nothing is decided here. Alerting and the commands import it.
"""
