"""HTTP: the gateway answers webhooks and health checks itself and hands everything else to the API, which is only then imported."""
