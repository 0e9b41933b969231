"""What Prometheus asks for: numbers about logs, index and agents, counted in the background, and the server of `run`.

`numbers` counts, `keeper` keeps what was counted, `exposition` writes it as Prometheus reads it (extra `metrics`).
Counting is not here: `health.status`, `query` and `analyze` do it.
"""
