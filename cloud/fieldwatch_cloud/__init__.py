"""The cloud: ingest, store, alerts, dashboard and API, in one process by default."""
