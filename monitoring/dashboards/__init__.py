"""Six Grafana dashboards, written in Python and committed as JSON.

`python -m monitoring.dashboards.build` writes the JSON anew; tests compare, lint and run it.
"""
