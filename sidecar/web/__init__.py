"""`sidecar serve`: pages in the browser, and the JSON behind them. Extra `web`: starlette and uvicorn.

Here: HTTP, what a page shows, and the pages themselves (`static/`, ES modules without a build). Every request is
answered from an `Index`, in a thread that has its own (`desks.py`). Not here: definitions, which are those of
`sidecar.analyze` and `sidecar.query`; and anything that writes.
"""
